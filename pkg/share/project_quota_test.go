// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestKeptInPlace deletes a volume whose directory has a project of its own. The caller sees a
// deleted volume; the directory stays in its place until it is due.
func TestKeptInPlace(t *testing.T) {
	ctx := t.Context()
	g := newProjects(t, quotaOfShare)
	before := time.Now()
	kept := makeKept(g, "v1", "a")
	if kept == nil || !g.has("a/data") || g.state("v1") != Deleting {
		t.Fatalf("it is in the trash as %+v", kept)
	}
	if left := kept.Due.Sub(before); left < time.Hour || left > time.Hour+2*time.Second {
		t.Errorf("it is due in %v", left)
	}
	// A retry, and another retention, do not change when it is due.
	g.def.TrashRetention = 2 * time.Hour
	if again := g.delete("v1"); again == nil || *again != *kept {
		t.Errorf("once more it is in the trash as %+v, not %+v", again, kept)
	}
	all, err := g.Trash.List(ctx)
	g.must(err)
	if len(all) != 1 || all[0] != *kept {
		t.Errorf("the trash has %+v, not %+v", all, kept)
	}
	if in, err := g.Trash.IsInPlace(ctx, *kept); err != nil || !in {
		t.Errorf("in its place: %v, %v", in, err)
	}
	if found := checkNow(g); found != nil {
		t.Errorf("check finds %q", found)
	}
	_, err = g.make(record("v9", "a"))
	g.wantError("another of its directory", err, volume.ErrBusy, "mooringctl trash list")
	_, err = g.Volumes.Restore(ctx, *kept, "")
	g.wantError("to bring it back", err, volume.ErrPrecondition, "copy from there")
	g.must(g.Trash.Purge(*kept, g.remove))
	if left := clearShare(g); left != nil || g.has("a") {
		t.Errorf("left are %q", left)
	}
}

// checkNow returns the problems that Check finds.
func checkNow(g *testShare) (found []string) {
	g.Helper()
	c := newCheck(g.Share)
	c.wait = func(context.Context) error { return nil }
	all, err := c.run(g.Context())
	g.must(err)
	for _, p := range all {
		found = append(found, p.Severity+" "+p.Path+": "+p.Message)
	}
	return found
}

// TestKeptBroughtBack removes the project while the volume waits in its place: then it can be
// restored, if no purge has begun.
func TestKeptBroughtBack(t *testing.T) {
	for _, purging := range []bool{false, true} {
		g := newProjects(t, quotaOfShare)
		kept := makeKept(g, "v1", "a")
		if purging {
			g.beforeStep("purge in place", func() {})
			err := g.Trash.Purge(*kept, func(int, string) error { return errors.New("no") })
			if err == nil || !g.has("a/data") {
				t.Fatal(err)
			}
		}
		g.must(os.Chmod(g.at("a"), 0o755|os.ModeSetgid))
		all, err := g.Trash.List(t.Context())
		g.must(err)
		_, err = g.Volumes.Restore(t.Context(), all[0], "")
		if purging {
			g.wantError("to bring it back", err, volume.ErrNotFound, "being purged")
		} else if g.must(err); g.text("a/data") != "of v1" || g.state("v1") != Ready {
			t.Errorf("it is %v, with %q", g.state("v1"), g.text("a/data"))
		}
		if left := clearShare(g); left != nil {
			t.Errorf("purging %v: left are %q", purging, left)
		}
	}
}

// TestKeptMoved removes the project and retries the deletion: the directory goes to the trash, and
// is due at the time that was recorded first.
func TestKeptMoved(t *testing.T) {
	g := newProjects(t, quotaOfShare)
	kept := makeKept(g, "v1", "a")
	g.must(os.Chmod(g.at("a"), 0o755|os.ModeSetgid))
	g.def.TrashRetention = time.Minute
	moved := g.delete("v1")
	if moved == nil || !moved.Complete() || moved.Due != kept.Due || g.has("a") || g.state("v1") != -1 {
		t.Errorf("it is in the trash as %+v, and was %+v before", moved, kept)
	}
	if left := clearShare(g); left != nil {
		t.Errorf("left are %q", left)
	}
}

// TestKeptIsWrittenTo lets a pod write into a volume while it is purged in its place.
func TestKeptIsWrittenTo(t *testing.T) {
	g := newProjects(t, quotaOfShare)
	kept := makeKept(g, "v1", "a")
	g.opt.Step = func(what string) {
		if what == "replace the directory by the empty one" {
			g.put("a/more", "and more")
		}
	}
	g.wantError("a purge", g.Trash.Purge(*kept, g.remove), volume.ErrBusy, "is written into")
	g.opt.Step = nil
	if g.state("v1") != Deleting {
		t.Errorf("it is %v", g.state("v1"))
	}
	if left := clearShare(g); left != nil {
		t.Errorf("left are %q", left)
	}
}

// TestKeptVanished removes the directory, or replaces it by a file or a link.
func TestKeptVanished(t *testing.T) {
	for _, there := range []string{"nothing", "a file", "a link"} {
		g := newProjects(t, quotaOfShare)
		kept := makeKept(g, "v1", "a")
		g.must(os.RemoveAll(g.at("a")))
		switch there {
		case "a file":
			g.put("a", "somebody's")
		case "a link":
			g.put("else/file", "somebody's")
			g.must(os.Symlink("else", g.at("a")))
		}
		g.must(g.Trash.Purge(*kept, g.remove))
		left := clearShare(g)
		if there == "a file" && g.text("a") != "somebody's" || there == "a link" && g.text("a/file") != "somebody's" || there == "nothing" && left != nil {
			t.Errorf("%s: left are %q", there, left)
		}
	}
}

// TestTwoProjects has a parent and .mooring with different projects: no rename between them works.
// The error names the remedy, and after that everything continues.
func TestTwoProjects(t *testing.T) {
	lay := func(t *testing.T, dir string) {
		t.Helper()
		quotaOfShare(t, dir)
		setProject(t, dir, inherited|own, "team")
	}
	released := func(g *testShare) {
		for _, name := range []string{".mooring/volumes", ".mooring/volumes/v1"} {
			g.must(os.Chmod(g.at(name), 0o700))
		}
	}
	g := newProjects(t, lay)
	kept := makeKept(g, "v1", "team/v1")
	g.wantError("a purge", g.Trash.Purge(*kept, g.remove), volume.ErrPrecondition, "docs/operate.md")
	if !g.has("team/v1") || g.has("team/v1/data") {
		t.Error("it was not purged in its place, or its directory is gone")
	}
	released(g)
	g.must(g.Trash.Purge(*kept, g.remove))
	if g.has("team/v1") || g.state("v1") != -1 {
		t.Errorf("it still exists: %v", g.state("v1"))
	}

	g = newProjects(t, lay)
	g.create("v1", "v1")
	g.put("v1/data", "of v1")
	r := record("v2", "team/v2")
	r.Source = sourceOf(volumeObject("v1"))
	g.beforeStep("copy", func() { setProject(t, g.dir, own, "team/v2") })
	_, err := g.make(r)
	g.wantError("a copy", err, volume.ErrPrecondition, "docs/operate.md")
	if g.has("team/v2/copy") {
		t.Error("there is an incomplete copy")
	}
}

// TestRenewInPlace copies in place for longer than a lease: Renew keeps the creation alive, and
// fails after another process has undone it.
func TestRenewInPlace(t *testing.T) {
	g := newProjects(t, quotaOfParent)
	g.create("v1", "v1")
	g.put("v1/data", "of v1")
	r := record("v2", "team/v2")
	r.Source = sourceOf(volumeObject("v1"))
	p := g.begin(r)
	g.must(p.MakeDirectory(t.Context()))
	c, err := p.BeginCopy(t.Context(), g.Share)
	g.must(err)
	g.must(g.copy(c))
	made, again, err := p.CommitCopy(t.Context())
	if err != nil || made != nil || again == nil {
		t.Fatalf("it is %+v, to be made again: %v, %v", made, again != nil, err)
	}
	g.age(".mooring/volumes/v2/placing.json", time.Hour)
	g.must(again.Renew())
	patient := openTestShare(t, g.dir, Options{Maker: otherMaker, beforeRename: refuseByProject})
	_, err = patient.Volumes.Delete(t.Context(), "v2")
	patient.wantError("to undo what is being made", err, volume.ErrBusy, "still being created")
	g.age(".mooring/volumes/v2/placing.json", time.Hour)
	patient.delete("v2")
	g.wantError("to renew what was undone", again.Renew(), volume.ErrBusy, "undone by another process")
	if _, _, err := p.CommitCopy(t.Context()); err == nil || g.has("team/v2") {
		t.Errorf("it is committed: %v", err)
	}
}

// TestNotArchived has a volume whose project prevents its rename: out of its place, or to the
// archived name. Nothing is lost, and without the project it is archived.
func TestNotArchived(t *testing.T) {
	for _, c := range []struct {
		name, at, say string
		lay           func(t *testing.T, dir string)
	}{
		{"nowhere", "a/data", "was not changed", quotaOfShare},
		{"not back", ".mooring/volumes/v1/tree/data", ".mooring/volumes/v1/tree", func(t *testing.T, dir string) {
			t.Helper()
			for _, name := range []string{"volumes", "claims", "staging", "trash"} {
				setProject(t, dir, 0, ".mooring/"+name)
			}
			quotaOfShare(t, dir)
		}},
	} {
		g := newProjects(t, c.lay)
		r := record("v1", "a")
		r.OnDelete = volume.Archive
		_, err := g.make(r)
		g.must(err)
		g.put("a/data", "of v1")
		setProject(t, g.dir, own, "a")
		for range 2 {
			_, err = g.Volumes.Delete(t.Context(), "v1")
			g.wantError(c.name, err, volume.ErrPrecondition, c.say)
		}
		if g.text(c.at) != "of v1" {
			t.Errorf("%s: the data are at %q", c.name, g.find("data"))
		}
		if c.name == "nowhere" && len(g.names(".mooring/claims")) != 1 {
			t.Errorf("%s: the claims are %q", c.name, g.names(".mooring/claims"))
		}
		g.must(os.Chmod(g.at(strings.TrimSuffix(c.at, "/data")), 0o755|os.ModeSetgid))
		g.delete("v1")
		if g.text("archived-a/data") != "of v1" || len(g.names(".mooring/claims")) != 0 {
			t.Errorf("%s: the data are at %q", c.name, g.find("data"))
		}
	}
}

// TestRestoreElsewhere restores a volume to a directory that has another project.
func TestRestoreElsewhere(t *testing.T) {
	g := newProjects(t, quotaOfParent)
	deleted := g.createDeleted("v1", "a")
	_, err := g.Volumes.Restore(t.Context(), deleted, "team/v1")
	g.wantError("to bring it back", err, volume.ErrPrecondition, "choose another directory")
	_, err = (&actor{testShare: g}).restore("v1")
	if err == nil {
		t.Error("it was restored to its old place")
	}
	all, err := g.Trash.List(t.Context())
	g.must(err)
	for _, e := range all {
		if e.Complete() {
			_, err := g.Volumes.Restore(t.Context(), e, "a")
			g.must(err)
		}
	}
	if g.text("a/data") != "of v1" {
		t.Errorf("it is at %q", g.find("data"))
	}
}
