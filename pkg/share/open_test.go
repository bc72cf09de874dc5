// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// emptyShare returns a share without .mooring.
func emptyShare(t *testing.T) *testShare {
	t.Helper()
	return &testShare{files: files{T: t, view: localView(scratchDir(t))}}
}

func TestOpenRefuses(t *testing.T) {
	newer := `{"version": 2, "requires": ["teleport"]}`
	for what, c := range map[string]struct {
		prepare func(g *testShare)
		kind    error
		say     string
	}{
		"a file in our place":          {func(g *testShare) { g.put(".mooring", "") }, volume.ErrPrecondition, ""},
		"a link in our place":          {func(g *testShare) { g.must(os.Symlink("/tmp", g.at(".mooring"))) }, volume.ErrPrecondition, ""},
		"a link in the entries' place": {func(g *testShare) { g.put(".mooring/x", ""); g.must(os.Symlink("x", g.at(".mooring/volumes"))) }, volume.ErrPrecondition, ""},
		"a file in the trash's place":  {func(g *testShare) { g.put(".mooring/trash", "") }, volume.ErrPrecondition, ""},
		"a newer format":               {func(g *testShare) { g.put(".mooring/format.json", newer) }, volume.ErrPrecondition, "teleport"},
		"a damaged format":             {func(g *testShare) { g.put(".mooring/format.json", "{") }, volume.ErrDamaged, "format.json"},
		"volumes without a format":     {func(g *testShare) { g.put(".mooring/volumes/v1.json", "{}") }, volume.ErrPrecondition, "before the first release"},
	} {
		g := emptyShare(t)
		c.prepare(g)
		before := g.listing()
		_, err := Open(g.dir, nas1, Options{Maker: maker, Initialize: true})
		g.wantError(what, err, c.kind, c.say)
		if left := diffLines(g.listing(), before); strings.Contains(what, "format") && strings.Contains(left, "claims") {
			t.Errorf("%s: there is\n%s", what, left)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), nas1, Options{}); err == nil {
		t.Error("a share that does not exist was opened")
	}
}

// TestFormat checks how a format is written and read.
func TestFormat(t *testing.T) {
	g := newTestShare(t)
	text := g.text(".mooring/" + formatFile)
	if f, err := volume.DecodeFormat([]byte(text)); err != nil || f.Version != volume.RecordVersion || f.ID == "" || f.ID != g.Identity.ID() {
		t.Errorf("it is %q, %v", text, err)
	}
	// A crash has left it empty; there is a temporary file of another crash.
	g.put(".mooring/"+formatFile, "")
	next := g.nextRun()
	got, err := volume.DecodeFormat([]byte(g.text(".mooring/" + formatFile)))
	if err != nil || got.ID == "" || got.ID != next.Identity.ID() || got.ID == g.Identity.ID() {
		t.Errorf("it is %+v, %v, and was %q", got, err, text)
	}
	// It can be opened for reading, whatever the format says.
	g.put(".mooring/"+formatFile, `{"version": 2, "requires": ["teleport"]}`)
	s, err := Open(g.dir, nas1, Options{ReadOnly: true})
	g.must(err)
	s.Close()
}

// TestOpenKeepsOut initializes a share for root alone, even if another user has made .mooring
// before, for everybody.
func TestOpenKeepsOut(t *testing.T) {
	g := emptyShare(t)
	g.must(os.Mkdir(g.at(".mooring"), 0o700))
	g.must(os.Chmod(g.at(".mooring"), 0o777))
	s, err := Open(g.dir, nas1, Options{ReadOnly: true})
	g.must(err)
	s.Close()
	if info, err := os.Stat(g.at(".mooring")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("opening it for reading has made it %v, %v", info.Mode(), err)
	}
	for range 2 {
		openTestShare(t, g.dir, Options{Maker: maker})
		for _, dir := range append(g.names(".mooring"), ".") {
			if info, err := os.Stat(g.at(".mooring/" + dir)); err != nil || info.IsDir() && info.Mode().Perm() != 0o700 || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is %v, %v", dir, info.Mode(), err)
			}
		}
	}
}

// TestSweepStaging lets a new process remove what is abandoned: too old, by the server's clock, or
// of an earlier run of the same instance.
func TestSweepStaging(t *testing.T) {
	g := newTestShare(t)
	put := func(maker, run string, dir bool, age time.Duration) string {
		name := maker + "." + run + "." + volume.NewNonce()
		at := ".mooring/staging/" + name
		if dir {
			g.put(at+"/"+makingFile, "")
		} else {
			g.put(at, "")
		}
		g.age(at, age)
		return name
	}
	var kept []string
	for _, dir := range []bool{false, true} {
		kept = append(kept, put(otherMaker, "run1", dir, 0), put(otherMaker, "run1", dir, staleTempAge-time.Minute))
		put(otherMaker, "run1", dir, staleTempAge+time.Minute)
		put("", "", dir, staleTempAge+time.Minute)
	}
	slices.Sort(kept)
	writing := "format." + otherMaker + ".run1." + volume.NewNonce()
	g.put(".mooring/"+writing, "")
	for _, maker := range []string{otherMaker, "00000000"} {
		left := "format." + maker + ".run0." + volume.NewNonce()
		g.put(".mooring/"+left, "")
		if maker == otherMaker {
			g.age(".mooring/"+left, staleTempAge+time.Minute)
		}
	}
	for range 2 {
		openTestShare(t, g.dir, Options{Maker: "00000000"})
		formats := slices.DeleteFunc(g.names(".mooring"), func(name string) bool { return !strings.HasPrefix(name, "format.") })
		if want := []string{writing, "format.json"}; !slices.Equal(formats, want) {
			t.Errorf("after a start there are the formats %q, want %q", formats, want)
		}
		if got := g.names(".mooring/staging"); !slices.Equal(got, kept) {
			t.Errorf("after a start there are the temporary names %q, want %q", got, kept)
		}
	}
}

// TestErrors checks the kind and the remedy of each error of a system call. The share is named
// once.
func TestErrors(t *testing.T) {
	g := newTestShare(t)
	for errno, c := range map[unix.Errno]struct {
		kind   error
		advice string
	}{
		unix.EACCES: {volume.ErrRefused, "no_root_squash"}, unix.EPERM: {volume.ErrRefused, "no_root_squash"},
		unix.EROFS: {volume.ErrRefused, "after a disk error"}, unix.ENOSPC: {volume.ErrFull, "empty the trash"},
		unix.EDQUOT: {volume.ErrFull, "quota"}, unix.ETIMEDOUT: {volume.ErrUnavailable, "2049"},
		unix.EREMOTEIO: {volume.ErrUnavailable, "nfsvers=4.0"},
		unix.EIO:       {volume.ErrUnavailable, "its disk or file system has failed"}, unix.EHOSTDOWN: {volume.ErrUnavailable, "2049"},
		unix.ELOOP: {volume.ErrPrecondition, "symbolic link"}, unix.ENOTDIR: {volume.ErrPrecondition, "remove it"},
		unix.EXDEV: {volume.ErrPrecondition, "of its own"}, unix.ENAMETOOLONG: {volume.ErrInvalid, "name"},
		unix.ENOENT: {volume.ErrBusy, "try again"}, unix.ESTALE: {volume.ErrBusy, "try again"}, // of one file, not of the share
		unix.EMFILE: {nil, ""},
	} {
		err := g.WrapError("do a thing", &os.PathError{Op: "open", Path: "x", Err: errno})
		if volume.Kind(err) != c.kind || !errors.Is(err, errno) {
			t.Errorf("%v becomes %v, of kind %v", errno, err, volume.Kind(err))
		}
		for _, part := range []string{"share nas1 (10.0.0.1:/export): do a thing: ", c.advice} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in %v", part, err)
			}
		}
		if again := g.WrapError("do more", fmt.Errorf("outside: %w", err)); strings.Count(again.Error(), "share nas1") != 1 {
			t.Errorf("the share is named twice: %v", again)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	g.wantError("a deadline", g.WrapError("do it", fmt.Errorf("x: %w", ctx.Err())), volume.ErrTimeout)
	g.wantError("one that has a kind", g.WrapError("do it", volume.Errorf(volume.ErrDamaged, "as it is")), volume.ErrDamaged, "): as it is")
	if g.WrapError("do it", nil) != nil || g.Lost() {
		t.Error("nothing is an error, or the share is lost")
	}
	g.Interrupted.Store(true)
	err := g.WrapError("do it", &os.PathError{Op: "mkdir", Path: "x", Err: unix.EIO})
	g.wantError("an EIO that the driver has made", err, volume.ErrUnavailable, "do it: connection timed out: the server does not answer")
	if reason := FaultReason(err); reason != "" {
		t.Errorf("an EIO that the driver has made is told as %s", reason)
	}
}

// TestLost removes a share while it is open.
func TestLost(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "v1")
	g.must(os.RemoveAll(g.at(".mooring")))
	_, err := g.Volumes.Lookup(t.Context(), "v1")
	g.wantError("a record on a share that is gone", err, volume.ErrUnavailable, "mounts the share again")
	if !g.Lost() {
		t.Error("the share is not lost")
	}
	other := newTestShare(t)
	if other.Lost() {
		t.Error("a share is lost from the start")
	}
	if other.MarkLost(); !other.Lost() {
		t.Error("it is not lost")
	}
}

func TestSpaceAndCancelled(t *testing.T) {
	g := newTestShare(t)
	if space, err := g.Space(t.Context()); err != nil || space.Total <= 0 || space.Free > space.Total {
		t.Errorf("the space is %+v, %v", space, err)
	}
	if g.Definition().Name != nas1.Name || !g.Initialized() {
		t.Errorf("it is %v, %v", g.Definition(), g.Initialized())
	}
	p := g.begin(record("v1", "v1"))
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	found := &StoredRecord{Record: p.Record()}
	before := g.listing()
	for what, call := range map[string]func() error{
		"Space":            func() error { _, err := g.Space(ctx); return err },
		"Beat":             func() error { return g.Heartbeat(ctx) },
		"Keys":             func() error { _, err := g.Volumes.Keys(ctx); return err },
		"Lookup":           func() error { _, err := g.Volumes.Lookup(ctx, "v1"); return err },
		"Begin":            func() error { _, _, err := g.Volumes.Begin(ctx, record("v2", "v2")); return err },
		"AbortAbandoned":   func() error { return g.Volumes.AbortAbandoned(ctx, found) },
		"MakeDirectory":    func() error { return p.MakeDirectory(ctx) },
		"Commit":           func() error { _, err := p.Commit(ctx); return err },
		"Update":           func() error { _, err := g.Volumes.Update(ctx, "v1", nil); return err },
		"Delete":           func() error { _, err := g.Volumes.Delete(ctx, "v1"); return err },
		"Restore":          func() error { _, err := g.Volumes.Restore(ctx, TrashEntry{}, ""); return err },
		"Restored":         func() error { _, err := g.Volumes.LookupRestored(ctx, "v1"); return err },
		"Exists":           func() error { _, err := g.Directories.Exists(ctx, "v1"); return err },
		"Owner":            func() error { _, err := g.Directories.Owner(ctx, "v1"); return err },
		"List":             func() error { _, err := g.Trash.List(ctx); return err },
		"Jobs":             func() error { _, err := g.Jobs.List(ctx); return err },
		"Snapshots.Keys":   func() error { _, err := g.Snapshots.Keys(ctx); return err },
		"Snapshots.Lookup": func() error { _, err := g.Snapshots.Lookup(ctx, "s1"); return err },
		"Snapshots.Delete": func() error { _, err := g.Snapshots.Delete(ctx, "s1", nil); return err },
		"Snapshots.Unused": func() error { return g.Snapshots.CheckUnused(ctx, "s1") },
		"Groups.Keys":      func() error { _, err := g.Groups.Keys(ctx); return err },
		"Groups.Begin":     func() error { _, err := g.Groups.Begin(ctx, groupRecord("g1")); return err },
		"Groups.Delete":    func() error { _, err := g.Groups.Delete(ctx, "g1", nil); return err },
		"Groups.Abandoned": func() error { _, err := g.Groups.Abandoned(ctx); return err },
		"Directories.Open": func() error { _, err := g.Directories.Open(ctx, "v1"); return err },
		"Snapshots.Begin":  func() error { _, _, err := g.Snapshots.Begin(ctx, volume.SnapshotRecord{Key: "s1"}); return err },
		"Groups.Lookup":    func() error { _, err := g.Groups.Lookup(ctx, "g1"); return err },
		"Volumes.BeginCopy": func() error {
			p.rec.Source = sourceOf(volumeObject("v1"))
			_, err := p.BeginCopy(ctx, g.Share)
			return err
		},
	} {
		g.wantError(what, call(), volume.ErrTimeout)
	}
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("they have changed\n%s", d)
	}
}

// TestLook opens shares for reading, with and without .mooring or with parts of it, and checks that
// nothing changes.
func TestLook(t *testing.T) {
	ctx := t.Context()
	look := func(g *testShare, volumes, trashed int) {
		t.Helper()
		before := g.listing()
		s, err := Open(g.dir, nas1, Options{Maker: maker, ReadOnly: true, Step: func(what string) { t.Errorf("it does: %s", what) }})
		g.must(err)
		defer s.Close()
		keys, err := s.Volumes.Keys(ctx)
		g.must(err)
		entries, err := s.Trash.List(ctx)
		g.must(err)
		snapshots, err := s.Snapshots.Keys(ctx)
		g.must(err)
		groups, err := s.Groups.Keys(ctx)
		g.must(err)
		jobs, err := s.Jobs.List(ctx)
		g.must(err)
		places := 0
		g.must(s.Directories.Walk(ctx, func(PathState) error { places++; return nil }))
		if len(keys) != volumes || len(entries) != trashed || len(snapshots)+len(groups)+len(jobs) > 0 || places != volumes || s.Initialized() != (volumes > 0) {
			t.Errorf("it finds %q, %v, %q, %v and %d paths", keys, entries, snapshots, jobs, places)
		}
		_, err = s.Volumes.Lookup(ctx, "none")
		g.wantError("no volume", err, volume.ErrNotFound, "there is no volume none")
		_, err = s.Snapshots.Lookup(ctx, "none")
		g.wantError("no snapshot", err, volume.ErrNotFound, "there is no snapshot none")
		if d := diffLines(g.listing(), before); d != "" {
			t.Errorf("it has changed\n%s", d)
		}
	}
	look(emptyShare(t), 0, 0)
	g := newTestShare(t)
	g.create("v1", "a/b")
	g.createDeleted("v2", "c")
	g.put(".mooring/staging/"+maker+".run1.0123456789abcdef", "an earlier run's")
	look(g, 1, 1)
	for _, d := range []string{"groups", "jobs", "snapshots"} {
		g.must(os.Remove(g.at(".mooring/" + d)))
	}
	look(g, 1, 1)
}

// TestPlaces checks that Walk finds volumes and unclaimed directories, but no parents.
func TestPlaces(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	for key, directory := range map[string]string{"v1": "teams/a/one", "v2": "two", "v3": "three", "v4": "gone/four"} {
		g.create(key, directory)
	}
	g.must(os.RemoveAll(g.at("three")))
	g.must(os.RemoveAll(g.at("gone")))
	for _, p := range []string{"stray/x", "teams/stray/x", "two/inner/x", "file"} {
		g.put(p, "x")
	}
	g.must(os.Symlink("/etc", g.at("link")))
	var got []string
	g.must(g.Directories.Walk(ctx, func(p PathState) error {
		text := p.Directory
		if p.Exists {
			text += " there"
		}
		if p.Claimed {
			text += " claimed"
		}
		got = append(got, text)
		return nil
	}))
	slices.Sort(got)
	want := []string{"gone/four claimed", "stray there", "teams/a/one there claimed", "teams/stray there", "three claimed", "two there claimed"}
	if !slices.Equal(got, want) {
		t.Errorf("the paths are %q, not %q", got, want)
	}
	for directory, want := range map[string]bool{"two": true, "teams/a": true, "three": false, "gone/four": false, "link": false, "file": false} {
		if there, err := g.Directories.Exists(ctx, directory); there != want || err != nil && want {
			t.Errorf("%s exists: %v, %v", directory, there, err)
		}
	}
	f, err := g.Directories.Open(ctx, "two")
	g.must(err)
	defer f.Close()
	if names, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil || len(names) != 1 {
		t.Errorf("in it is %v, %v", names, err)
	}
	stop := errors.New("stop")
	if err := g.Directories.Walk(ctx, func(PathState) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("it goes on: %v", err)
	}
}
