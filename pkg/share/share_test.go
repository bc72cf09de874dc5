// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const maker = "0a1b2c3d"

// ground is a share on a temporary directory.
type ground struct {
	*testing.T
	*Share
	dir string
}

var nas1 = volume.Share{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/export"}

// openAt opens the share at dir as that instance of the driver.
func openAt(t *testing.T, dir, maker string) *ground {
	t.Helper()
	s, err := Open(dir, nas1, Options{Maker: maker})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &ground{t, s, dir}
}

func newGround(t *testing.T) *ground {
	t.Helper()
	return openAt(t, t.TempDir(), maker)
}

// record asks for a volume.
func record(key, directory string) volume.Record {
	return volume.Record{Key: key, Name: key, Directory: directory, OnDelete: volume.Delete, Created: time.Unix(1, 0).UTC()}
}

// begin publishes the record of a volume.
func (g *ground) begin(key, directory string) *Making {
	g.Helper()
	m, found, err := g.Begin(context.Background(), record(key, directory))
	if err != nil || found != nil {
		g.Fatalf("begin %s: %v, %v", key, found, err)
	}
	return m
}

// create makes a volume.
func (g *ground) create(key, directory string) {
	g.Helper()
	m, ctx := g.begin(key, directory), context.Background()
	g.must(m.Claim(ctx))
	g.must(m.MakeDirectory(ctx))
	_, err := m.Commit(ctx)
	g.must(err)
}

// delete moves a volume into the trash.
func (g *ground) delete(key string) {
	g.Helper()
	r, err := g.Lookup(context.Background(), key)
	g.must(err)
	_, _, err = g.Trash(context.Background(), r, time.Now())
	g.must(err)
}

func (g *ground) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// refused fails the test unless err is of that kind and its text has all parts.
func (g *ground) refused(what string, err, kind error, parts ...string) {
	g.Helper()
	if err == nil || volume.Kind(err) != kind {
		g.Errorf("%s: the error is %v (of kind %v), want kind %v", what, err, volume.Kind(err), kind)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			g.Errorf("%s: %q is not in %v", what, part, err)
		}
	}
}

func (g *ground) at(path string) string { return filepath.Join(g.dir, path) }

// put makes a file, and the directories above it.
func (g *ground) put(path, text string) {
	g.Helper()
	g.must(os.MkdirAll(filepath.Dir(g.at(path)), 0o755))
	g.must(os.WriteFile(g.at(path), []byte(text), 0o644))
}

// has reports whether there is anything at path.
func (g *ground) has(path string) bool {
	_, err := os.Lstat(g.at(path))
	return !errors.Is(err, fs.ErrNotExist)
}

// names returns what is in a directory.
func (g *ground) names(path string) []string {
	g.Helper()
	entries, err := os.ReadDir(g.at(path))
	g.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// age makes a file or directory that much older.
func (g *ground) age(path string, by time.Duration) {
	g.Helper()
	then := time.Now().Add(-by)
	g.must(os.Chtimes(g.at(path), then, then))
}

// TestSweepStaging proves which asides a new process takes for nobody's.
func TestSweepStaging(t *testing.T) {
	g := newGround(t)
	const other = "ffffffff"
	kept := []string{"a." + other + "-11112222-1.json", "b." + other + "-11112222-2.json", "c.json"}
	// Another's of a volume whose name looks like an aside of ours.
	kept = append(kept, "pvc."+maker+"-x."+other+"-11112222-3.json")
	for _, name := range kept {
		g.put(".mooring/staging/"+name, "")
	}
	for _, name := range []string{"a." + maker + "-11112222-1.json", "e." + maker + "-33334444-zz.json"} {
		g.put(".mooring/staging/"+name, "")
	}
	for _, name := range []string{"old." + other + "-11112222-9.json", "older.json"} {
		g.put(".mooring/staging/"+name, "")
		g.age(".mooring/staging/"+name, staleAside+time.Minute)
	}
	g.age(".mooring/staging/"+kept[1], staleAside-time.Minute)
	openAt(t, g.dir, maker)
	slices.Sort(kept)
	if got := g.names(".mooring/staging"); !slices.Equal(got, kept) {
		t.Errorf("after a start there are the asides %q, want %q", got, kept)
	}
}

func TestOpenRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		prepare func(g *ground)
		kind    error
	}{
		"a file in our place":          {func(g *ground) { g.put(".mooring", "") }, volume.ErrConflict},
		"a link in our place":          {func(g *ground) { g.must(os.Symlink("/tmp", g.at(".mooring"))) }, volume.ErrConflict},
		"a link in the records' place": {func(g *ground) { g.put(".mooring/x", ""); g.must(os.Symlink("x", g.at(".mooring/volumes"))) }, volume.ErrConflict},
		"a file in the trash's place":  {func(g *ground) { g.put(".mooring/trash", "") }, volume.ErrConflict},
	} {
		g := &ground{T: t, dir: t.TempDir()}
		c.prepare(g)
		_, err := Open(g.dir, nas1, Options{Maker: maker})
		g.refused(what, err, c.kind, "nas1 (10.0.0.1:/export)")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), nas1, Options{}); err == nil {
		t.Error("a share that is not there was opened")
	}
}

func TestOpenKeepsOut(t *testing.T) {
	g := newGround(t)
	for _, dir := range []string{".mooring", ".mooring/volumes", ".mooring/claims", ".mooring/trash"} {
		if info, err := os.Stat(g.at(dir)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s is %v, %v", dir, info.Mode(), err)
		}
	}
}

// TestClassify has what the system says of a share, with the kind and the remedy of each.
func TestClassify(t *testing.T) {
	g := newGround(t)
	for errno, c := range map[unix.Errno]struct {
		kind   error
		advice string
	}{
		unix.EACCES: {volume.ErrRefused, "no_root_squash"}, unix.EPERM: {volume.ErrRefused, "no_root_squash"},
		unix.EROFS: {volume.ErrRefused, "export it rw"}, unix.ENOSPC: {volume.ErrFull, "empty the trash"},
		unix.EDQUOT: {volume.ErrFull, "quota"}, unix.ETIMEDOUT: {volume.ErrUnavailable, "2049"},
		unix.EIO: {volume.ErrUnavailable, "2049"}, unix.EHOSTDOWN: {volume.ErrUnavailable, "2049"},
		unix.ELOOP: {volume.ErrConflict, "symbolic link"}, unix.ENOTDIR: {volume.ErrConflict, "remove it"},
		unix.EXDEV: {volume.ErrConflict, "of its own"}, unix.ENAMETOOLONG: {volume.ErrInvalid, "name"},
		unix.ENOENT: {volume.ErrBusy, "try again"}, unix.ESTALE: {volume.ErrBusy, "try again"}, // of one file, not of the share
		unix.EMFILE: {nil, ""},
	} {
		err := g.fail("do a thing", &os.PathError{Op: "open", Path: "x", Err: errno})
		if volume.Kind(err) != c.kind || !errors.Is(err, errno) {
			t.Errorf("%v is told as %v, of kind %v", errno, err, volume.Kind(err))
		}
		for _, part := range []string{"share nas1 (10.0.0.1:/export): do a thing: ", c.advice} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in %v", part, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), -time.Second)
	defer cancel()
	g.refused("a deadline", g.fail("do it", fmt.Errorf("x: %w", ctx.Err())), volume.ErrTimeout)
	known := volume.Errorf(volume.ErrDamaged, "as it is")
	if got := g.fail("do it", known); got != known {
		t.Errorf("an error that has a kind became %v", got)
	}
	if g.fail("do it", nil) != nil || g.Lost() {
		t.Error("nothing is an error, or the share is lost")
	}
}

// TestLost has the share go away under an open one.
func TestLost(t *testing.T) {
	g := newGround(t)
	g.create("v1", "v1")
	g.must(os.RemoveAll(g.at(".mooring")))
	_, err := g.Lookup(context.Background(), "v1")
	g.refused("a record on a share that is gone", err, volume.ErrUnavailable, "mounted again")
	if !g.Lost() {
		t.Error("the share is not lost")
	}
}

func TestSpaceAndCancelled(t *testing.T) {
	g := newGround(t)
	if space, err := g.Space(context.Background()); err != nil || space.Total <= 0 || space.Free > space.Total {
		t.Errorf("the space is %+v, %v", space, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := &Stored{Record: record("v1", "v1")}
	for what, call := range map[string]func() error{
		"Space":   func() error { _, err := g.Space(ctx); return err },
		"Keys":    func() error { _, err := g.Keys(ctx); return err },
		"Lookup":  func() error { _, err := g.Lookup(ctx, "v1"); return err },
		"Begin":   func() error { _, _, err := g.Begin(ctx, r.Record); return err },
		"Resume":  func() error { _, err := g.Resume(ctx, r.Record); return err },
		"Update":  func() error { return g.Update(ctx, r.Record) },
		"Exists":  func() error { _, err := g.Exists(ctx, "v1"); return err },
		"Trash":   func() error { _, _, err := g.Share.Trash(ctx, r, time.Now()); return err },
		"Release": func() error { return g.Release(ctx, r) },
		"Archive": func() error { return g.Archive(ctx, r) },
		"Trashed": func() error { _, err := g.Trashed(ctx); return err },
	} {
		g.refused(what, call(), volume.ErrTimeout)
	}
}
