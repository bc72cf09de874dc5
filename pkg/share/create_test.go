// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestBeginOnce begins a second volume of a name: it finds the first, and changes nothing.
func TestBeginOnce(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	first := g.begin(record("v1", "a"))
	other := openTestShare(t, g.dir, Options{Maker: otherMaker})
	before := g.listing()
	p, found, err := other.Volumes.Begin(ctx, record("v1", "b"))
	if err != nil || p != nil || found.Directory != "a" || found.Maker != maker || found.State != Making || found.Age() > time.Minute {
		t.Fatalf("the second Begin returns %v, %+v, %v", p, found, err)
	}
	if d := diffLines(other.listing(), before); d != "" {
		t.Errorf("the second Begin has changed\n%s", d)
	}
	g.wantError("its undo by another", other.Volumes.AbortAbandoned(ctx, found), volume.ErrBusy, "v1", "still being created")
	_, err = other.Volumes.Delete(ctx, "v1")
	g.wantError("its deletion", err, volume.ErrBusy, "still being created")
	g.must(first.MakeDirectory(ctx))
	r, err := first.Commit(ctx)
	g.must(err)
	if _, found, err = other.Volumes.Begin(ctx, record("v1", "b")); err != nil || found.State != Ready || found.Nonce != r.Nonce {
		t.Errorf("an existing volume is found as %+v, %v", found, err)
	}
	g.must(other.Volumes.AbortAbandoned(ctx, found)) // it is too late to undo it
	if g.state("v1") != Ready || !g.has("a") {
		t.Error("an existing volume was undone")
	}
	if keys, err := g.Volumes.Keys(ctx); err != nil || !slices.Equal(keys, []string{"v1"}) {
		t.Errorf("the volumes are %q, %v", keys, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 0 {
		t.Errorf("left in staging: %q", left)
	}
}

// TestNextRun undoes at once what an earlier run of the instance has begun, and continues what the same run
// has abandoned. For another instance it waits for the lease.
func TestNextRun(t *testing.T) {
	for who, c := range map[string]struct {
		opt  Options
		kind error
	}{
		"the same run":        {Options{Maker: maker, Run: "run1"}, nil},
		"the next run":        {Options{Maker: maker, Run: "run2"}, nil},
		"another instance":    {Options{Maker: otherMaker, Run: "run1"}, volume.ErrBusy},
		"another, much later": {Options{Maker: otherMaker, Lease: expiredLease}, nil},
	} {
		g := openTestShare(t, scratchDir(t), Options{Maker: maker, Run: "run1"})
		if g.Lease() != DefaultLease {
			t.Errorf("the lease is %v", g.Lease())
		}
		p := g.begin(record("v1", "a/b"))
		g.must(p.MakeDirectory(t.Context()))
		p.Close()
		next := openTestShare(t, g.dir, c.opt)
		r, err := next.make(record("v1", "a/b"))
		if c.kind != nil {
			g.wantError(who, err, c.kind)
			continue
		}
		if err != nil || r.Nonce == p.Record().Nonce || r.Maker != c.opt.Maker || !g.has("a/b") {
			t.Errorf("%s: %+v, %v", who, r, err)
		}
	}
}

// TestUndone lets each step of a creation fail after another process has undone it.
func TestUndone(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	other := g.withExpiredLease()
	early := g.begin(record("v1", "a"))
	other.delete("v1")
	g.wantError("to claim", early.MakeDirectory(ctx), volume.ErrBusy, "undone")
	early.Close()

	late := g.begin(record("v1", "a"))
	g.must(late.MakeDirectory(ctx))
	other.delete("v1")
	if g.has("a") {
		t.Error("the directory of what was undone stays")
	}
	_, err := late.Commit(ctx)
	g.wantError("to commit", err, volume.ErrBusy, "v1", "undone")
	g.must(late.Abort()) // it has no owner any more
	if g.state("v1") >= Making || g.has("a") {
		t.Error("something of it is left")
	}
}

// TestUndo removes what was made, and nothing else.
func TestUndo(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	p := g.begin(record("v1", "a/b"))
	g.must(p.MakeDirectory(ctx))
	g.must(p.Abort())
	if g.has("a/b") || g.state("v1") >= Making {
		t.Error("something is left")
	}
	p = g.begin(record("v1", "a/b"))
	g.must(p.MakeDirectory(ctx))
	g.put("a/b/file", "of somebody")
	g.must(p.Abort())
	if g.text("a/b/file") == "" || g.state("v1") >= Making {
		t.Error("somebody's file is gone, or the volume is not")
	}

	for name, prepare := range map[string]func(){
		"there": func() { g.put("there/file", "") },
		"empty": func() { g.must(os.Mkdir(g.at("empty"), 0o755)); g.age("empty", time.Hour) },
		"file":  func() { g.put("file", "") },
	} {
		prepare()
		p = g.begin(record("v2", name))
		err := p.MakeDirectory(ctx)
		g.wantError(name, err, volume.ErrPrecondition, name)
		if name != "file" {
			g.wantError(name, err, volume.ErrPrecondition, "existingDirectory: adopt")
		}
		g.must(p.Abort())
		if owner, err := g.Directories.Owner(ctx, name); !g.has(name) || owner != "" || err != nil || g.state("v2") >= Making {
			t.Errorf("%s: too much or too little was undone (%q, %v)", name, owner, err)
		}
	}
	if !g.has("there/file") {
		t.Error("a file is gone")
	}
}

// TestFail leaves what failed temporarily to a retry, and undoes the rest.
func TestFail(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	for _, kind := range append(volume.Kinds(), errors.New("of no kind")) {
		p := g.begin(record("v1", "a"))
		g.must(p.MakeDirectory(ctx))
		if err := p.Fail(ctx, kind); !errors.Is(err, kind) {
			t.Errorf("%v became %v", kind, err)
		}
		if stays := g.state("v1") == Making && g.has("a"); stays != IsTransient(kind) {
			t.Errorf("after %v it stays: %v", kind, stays)
		}
		g.nextRun().delete("v1")
	}
	for err, want := range map[error]bool{volume.ErrBusy: true, volume.ErrTimeout: true, volume.ErrUnavailable: true, volume.ErrFull: false, volume.ErrPrecondition: false} {
		if IsTransient(err) != want {
			t.Errorf("%v is transient: %v", err, !want)
		}
	}
}

// TestAdopt leaves an existing directory exactly as it is.
func TestAdopt(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	g.put("old/file", "")
	g.must(os.Chmod(g.at("old"), 0o751))
	r := record("v1", "old")
	mode := uint32(0o777)
	r.Adopt, r.Adopted, r.Mode = true, true, &mode
	before := g.image("old")
	p := g.begin(r)
	g.must(p.MakeDirectory(ctx))
	g.must(p.Abort())
	if !slices.Equal(before, g.image("old")) {
		t.Error("the adopted directory has changed")
	}
	p = g.begin(r)
	g.must(os.RemoveAll(g.at("old")))
	g.wantError("it went", p.MakeDirectory(ctx), volume.ErrPrecondition, "does not exist any more")
	g.must(os.Symlink("/tmp", g.at("old")))
	g.wantError("a link", p.MakeDirectory(ctx), volume.ErrPrecondition)
	g.must(p.Abort())
}

// TestMode gives a directory the mode and owner of the record, whatever the umask is.
func TestMode(t *testing.T) {
	g := newTestShare(t)
	withData(g)
	for name, want := range map[string]os.FileMode{"a": 0o777, "b": 0o700, "c": 0o770 | os.ModeSticky, "d": 0o2 | os.ModeSetgid} {
		for _, clone := range []bool{false, true} {
			r := record("v-"+name, name)
			mode := uint32(want.Perm())
			if want&os.ModeSticky != 0 {
				mode |= 0o1000
			}
			if want&os.ModeSetgid != 0 {
				mode |= 0o2000
			}
			r.Mode = &mode
			if clone {
				r.Source = sourceOf(volumeObject("v1"))
			}
			_, err := g.make(r)
			g.must(err)
			if info, err := os.Stat(g.at(name)); err != nil || info.Mode() != want|os.ModeDir {
				t.Errorf("%s has the mode %v, want %v (%v)", name, info.Mode(), want, err)
			}
			g.delete(r.Key)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("only root gives directories away")
	}
	r := record("v2", "owned")
	uid, gid := uint32(1234), uint32(5678)
	r.UID, r.GID = &uid, &gid
	_, err := g.make(r)
	g.must(err)
	if st := g.image("owned")[0]; !strings.Contains(st, " 1234:5678 ") {
		t.Errorf("the directory is %q", st)
	}
}

// TestUpdate changes a record, under a lock.
func TestUpdate(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	was := g.create("v1", "a")
	r, err := g.Volumes.Update(ctx, "v1", func(r *volume.Record) error {
		r.Capacity, r.OnDelete = 5<<30, volume.Retain
		return nil
	})
	if err != nil || r.Capacity != 5<<30 {
		t.Errorf("it becomes %+v, %v", r, err)
	}
	if got, err := g.Volumes.Lookup(ctx, "v1"); err != nil || got.State != Ready || got.Capacity != 5<<30 || got.OnDelete != volume.Retain || got.Nonce != was.Nonce {
		t.Errorf("the changed record is %+v, %v", got, err)
	}
	// The claim, a link to the old record, still names the volume.
	p := g.begin(record("v2", "a"))
	g.wantError("another in its place", p.MakeDirectory(ctx), volume.ErrPrecondition, "v1")
	g.must(p.Abort())

	other := openTestShare(t, g.dir, Options{Maker: otherMaker})
	_, err = g.Volumes.Update(ctx, "v1", func(*volume.Record) error {
		_, err := other.setCapacity("v1", 1)
		g.wantError("a change meanwhile", err, volume.ErrBusy, "is being changed")
		_, err = other.Volumes.Delete(ctx, "v1")
		g.wantError("a deletion meanwhile", err, volume.ErrBusy)
		return volume.ErrOutOfRange
	})
	g.wantError("what its caller refuses", err, volume.ErrOutOfRange)
	_, err = g.setCapacity("none", 1)
	g.wantError("a volume that is not there", err, volume.ErrNotFound, "none")
	g.begin(record("v3", "c")).Close()
	_, err = g.setCapacity("v3", 1)
	g.wantError("a volume that is being made", err, volume.ErrNotFound, "v3")
	if g.delete("v1") != nil || !g.has("a") { // retain
		t.Error("the directory has not stayed")
	}
}
