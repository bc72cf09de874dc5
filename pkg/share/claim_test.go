// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// TestClaims tries directories that belong to another volume, or are inside or around one.
func TestClaims(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	g.create("v1", "team/a/b")
	for directory, parts := range map[string][]string{
		"team/a/b":     {"v1", "two volumes cannot share"},
		"team/a/b/c":   {"v1", `"team/a/b"`, "inside another"},
		"team/a/b/c/d": {"v1", `"team/a/b"`, "inside another"},
		"team/a":       {"there are volumes inside it"},
		"team":         {"there are volumes inside it"},
	} {
		p := g.begin(record("v2", directory))
		g.wantError(directory, p.MakeDirectory(ctx), volume.ErrPrecondition, parts...)
		g.must(p.Abort())
	}
	g.create("v2", "team/a/c")
	g.create("v3", "team/a/b-2")
	for directory, want := range map[string]string{"team/a/b": "v1", "team/a/c": "v2", "team/a": "", "team": "", "none/x": "", "team/a/b/c": ""} {
		if key, err := g.Directories.Owner(ctx, directory); err != nil || key != want {
			t.Errorf("the owner of %s is %q, %v", directory, key, err)
		}
	}
	// A parent without volumes can become a volume at once.
	for _, key := range []string{"v1", "v2", "v3"} {
		g.delete(key)
	}
	g.create("v4", "team")
	if key, err := g.Directories.Owner(ctx, "team"); err != nil || key != "v4" {
		t.Errorf("the owner is %q, %v", key, err)
	}
}

// TestParentWithFiles tries a volume in the place of a parent that contains a file.
func TestParentWithFiles(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "team/a")
	g.delete("v1")
	g.put("team/file", "")
	p := g.begin(record("v2", "team"))
	g.wantError("its parent", p.MakeDirectory(t.Context()), volume.ErrPrecondition, "exists already")
	g.must(p.Abort())
	if !g.has("team/file") {
		t.Error("a file is gone")
	}
}

// TestDamagedClaim has a claim whose owner is not known: nothing is destroyed.
func TestDamagedClaim(t *testing.T) {
	for _, text := range []string{"{", `{"key": ""}`, `{"version": 1}`, "\x00\x00", ""} {
		g := newTestShare(t)
		g.label = text + ": "
		g.create("v1", "a")
		g.must(os.Remove(g.at(".mooring/claims/a/taken")))
		g.put(".mooring/claims/a/taken", text)
		g.put("a/file", "")
		_, err := g.Volumes.Delete(t.Context(), "v1")
		g.wantError("its deletion", err, volume.ErrDamaged, ".mooring/claims")
		p := g.begin(record("v2", "a"))
		kind := volume.ErrDamaged
		if text == "" { // as Tidy leaves it for a moment
			kind = volume.ErrBusy
		}
		g.wantError("another", p.MakeDirectory(t.Context()), kind)
		if err := p.Abort(); err != nil {
			g.wantError("its undo", err, volume.ErrDamaged) // the claim may be its own
		}
		if !g.has("a/file") || !g.has(".mooring/claims/a/taken") || g.state("v1") != Deleting {
			t.Errorf("with the claim %q something was destroyed", text)
		}
	}
}

// TestForeignClaim has a record whose directory is claimed for another volume, or for none.
func TestForeignClaim(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "a")
	g.create("v2", "b")
	g.put("b/file", "")
	_, err := g.Volumes.Update(t.Context(), "v1", func(r *volume.Record) error { r.Capacity, r.Directory = 1, "b"; return nil })
	g.must(err)
	for range 2 {
		_, err = g.Volumes.Delete(t.Context(), "v1")
		g.wantError("another's directory", err, volume.ErrDamaged, "v1", "v2", "the directory was not touched")
	}
	g.must(os.RemoveAll(g.at(".mooring/claims/b")))
	_, err = g.Volumes.Delete(t.Context(), "v2")
	g.wantError("a directory without a claim", err, volume.ErrDamaged, "no volume")
	if !g.has("b/file") || !g.has("a") || g.state("v1") < Making || g.state("v2") < Making {
		t.Error("something was destroyed")
	}
}

// TestEmptyClaims has the empty directories of claims that a process leaves if it dies at the wrong moment.
// They block nothing.
func TestEmptyClaims(t *testing.T) {
	g := newTestShare(t)
	for _, d := range []string{"a", "team/taken/b", "x", "y/taken/z/taken"} {
		g.must(os.MkdirAll(g.at(".mooring/claims/"+d), 0o700))
	}
	for key, directory := range map[string]string{"v1": "a", "v2": "team/b", "v3": "x/c", "v4": "y/d", "v5": "y/z/e"} {
		if owner, err := g.Directories.Owner(t.Context(), directory); err != nil || owner != "" {
			t.Errorf("the owner of %s is %q, %v", directory, owner, err)
		}
		g.create(key, directory)
	}
}

// TestDeadClaim has the claim of a volume whose entry is gone: it is removed when another volume needs it.
func TestDeadClaim(t *testing.T) {
	g := newTestShare(t)
	for key, directory := range map[string]string{"v1": "a", "v2": "b", "v3": "c/d"} {
		g.create(key, directory)
		g.must(os.RemoveAll(g.at(directory)))
		g.must(os.RemoveAll(g.at(".mooring/volumes/" + key)))
	}
	g.create("v4", "a")
	g.create("v5", "b/inner")
	g.create("v1", "c/d") // the key of another
	if owner, err := g.Directories.Owner(t.Context(), "a"); err != nil || owner != "v4" {
		t.Errorf("the owner is %q, %v", owner, err)
	}
	// The entry of a damaged record may belong to any volume.
	g.must(os.Remove(g.at(".mooring/volumes/v5/record.json"))) // the claim is a link to it
	g.put(".mooring/volumes/v5/record.json", "{")
	p := g.begin(record("v6", "b/inner"))
	g.wantError("that of a damaged volume", p.MakeDirectory(t.Context()), volume.ErrPrecondition, "v5")
	g.must(p.Abort())
}

// removeLinks changes the claims of a share to what they are without hard links: an empty file, and beside it
// one that is named after the volume.
func removeLinks(g *testShare) {
	g.Helper()
	g.must(filepath.Walk(g.at(".mooring/claims"), func(p string, info os.FileInfo, err error) error {
		if err != nil || info.Name() != takenName || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		g.must(err)
		key, nonce := decodeIdentity(data)
		if key == "" {
			return nil
		}
		g.must(os.WriteFile(filepath.Join(filepath.Dir(p), key+"."+nonce), nil, 0o600))
		g.must(os.Remove(p)) // it is a link
		return os.WriteFile(p, nil, 0o600)
	}))
}

// TestWithoutLinks does everything with claims that are no links.
func TestWithoutLinks(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "team/a")
	g.put("team/a/data", "of v1")
	g.create("v2", "b")
	removeLinks(g)
	if owner, err := g.Directories.Owner(t.Context(), "team/a"); err != nil || owner != "v1" {
		t.Errorf("the owner is %q, %v", owner, err)
	}
	for _, directory := range []string{"team/a", "team/a/c", "b"} {
		p := g.begin(record("v3", directory))
		g.wantError(directory, p.MakeDirectory(t.Context()), volume.ErrPrecondition)
		g.must(p.Abort())
	}
	e := g.delete("v1")
	if e == nil || g.has("team/a") || g.has(".mooring/claims/team/taken/a") {
		t.Errorf("it is in the trash as %+v; the claims are %q", e, g.names(".mooring/claims/team/taken"))
	}
	_, err := g.Volumes.Restore(t.Context(), *e, "")
	g.must(err)
	removeLinks(g)
	// An old note says that the directory of a volume is a parent.
	g.put(".mooring/parents/"+directoryNote+"b", "")
	other := g.withExpiredLease()
	g.must(other.Tidy(t.Context(), 0))
	if owner, err := g.Directories.Owner(t.Context(), "b"); err != nil || owner != "v2" || !g.has("b") {
		t.Errorf("after Tidy the owner is %q, %v", owner, err)
	}
	if left := clearShare(other); len(left) > 0 {
		t.Errorf("left in the end: %q", left)
	}
}

// TestServerWithoutLinks lets link(2) fail as it does on servers without hard links. Some report that, some
// report the same as a failing disk.
func TestServerWithoutLinks(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.EPERM, unix.EIO, unix.EREMOTEIO, unix.EINVAL} {
		t.Run(errno.Error(), func(t *testing.T) {
			g := openTestShare(t, scratchDir(t), Options{Maker: maker, linkErr: errno})
			g.create("v1", "team/a")
			g.put("team/a/data", "of v1")
			p := g.begin(record("v2", "team/a"))
			g.wantError("another volume's directory", p.MakeDirectory(t.Context()), volume.ErrPrecondition, "v1")
			g.must(p.Abort())
			g.snapshot("s1", "v1")
			if left := clearShare(g); len(left) > 0 {
				t.Errorf("left in the end: %q", left)
			}
		})
	}
}

// TestDiskFailsToLink lets the disk fail: that is not taken for a server without hard links.
func TestDiskFailsToLink(t *testing.T) {
	g := openTestShare(t, scratchDir(t), Options{Maker: maker})
	g.create("v1", "a")
	g.opt.linkErr = unix.EIO
	g.removeAll(".mooring/staging") // as if nothing could be written there
	err := hardLink(g.disk, g.Volumes.dir, "v1", g.root, "b")
	if !errors.Is(err, unix.EIO) || g.noLinks.Load() {
		t.Errorf("the link failed with %v; links are believed to be missing: %t", err, g.noLinks.Load())
	}
}

// TestInterruptedLink ends a call with EIO because the server is silent: that is not taken for a server without hard
// links, also if it answers again in between.
func TestInterruptedLink(t *testing.T) {
	g := openTestShare(t, scratchDir(t), Options{Maker: maker})
	g.create("v1", "a")
	g.opt.linkErr = unix.EIO
	g.Interrupted.Store(true)
	err := hardLink(g.disk, g.Volumes.dir, "v1", g.root, "b")
	if !errors.Is(err, unix.EIO) || g.noLinks.Load() {
		t.Errorf("the link failed with %v; links are believed to be missing: %t", err, g.noLinks.Load())
	}
}

// TestBar has a Tidy in progress, or one that died: creations in the parent wait for it. After a lease they
// remove its bar and put back what it has moved.
func TestBar(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "team/a")
	g.delete("v1")
	g.beforeStep("take an empty parent away", func() {
		for _, directory := range []string{"team/b", "team"} {
			_, err := openTestShare(t, g.dir, Options{Maker: otherMaker}).make(record("v2", directory))
			g.wantError(directory, err, volume.ErrBusy)
		}
	})
	g.must(g.Tidy(t.Context(), 0))
	if g.has("team") {
		t.Error("the parent stays")
	}
	g.withExpiredLease().delete("v2")

	g.create("v1", "team/a")
	g.delete("v1")
	g.must(os.Remove(g.at(".mooring/claims/team/taken")))
	g.put(".mooring/claims/team/taken", "")
	g.must(os.Rename(g.at("team"), g.at(".mooring/claims/team/dead")))
	g.put(".mooring/claims/team/dead/file", "that came into it meanwhile")
	_, err := g.make(record("v2", "team/b"))
	g.wantError("within the lease", err, volume.ErrBusy)
	other := g.withExpiredLease()
	other.create("v2", "team/b")
	if !g.has("team/file") {
		t.Error("the content of the parent is lost")
	}
}

// TestLinksAreNotFollowed has symbolic links, of tenants and in .mooring, where a directory must be.
func TestLinksAreNotFollowed(t *testing.T) {
	g := newTestShare(t)
	out := t.TempDir()
	g.must(os.Symlink(out, g.at("link")))
	g.must(os.Symlink("real", g.at("inner")))
	g.put("real/keep", "")
	for _, directory := range []string{"link", "link/v", "inner", "inner/v", "real/keep/v"} {
		p := g.begin(record("v1", directory))
		g.wantError(directory, p.MakeDirectory(t.Context()), volume.ErrPrecondition)
		g.must(p.Abort())
		if exists, _ := g.Directories.Exists(t.Context(), directory); exists {
			t.Errorf("%s exists", directory)
		}
	}
	if entries, _ := os.ReadDir(out); len(entries) > 0 {
		t.Errorf("outside of the share: %v", entries)
	}
	g.create("v2", "b")
	g.must(os.Remove(g.at("b")))
	g.must(os.Symlink(out, g.at("b")))
	g.delete("v2") // the link is moved to the trash, not its target
	if _, err := os.Stat(out); err != nil || g.has("b") {
		t.Errorf("after the deletion it exists: %v, %v", g.has("b"), err)
	}
}

// TestTidy removes the parents that were made for volumes, and no others.
func TestTidy(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	g.put("theirs/keep", "") // existed before
	g.must(os.Mkdir(g.at("empty"), 0o755))
	for key, directory := range map[string]string{
		"v1": "made/deep/a", "v2": "made/b", "v3": "theirs/sub/a", "v4": "empty/a", "v5": "full/a", "v6": "used/x/a", "v7": "used/b",
	} {
		g.create(key, directory)
		if key != "v7" {
			g.delete(key)
		}
	}
	g.put("full/file", "of somebody")
	g.must(os.Remove(g.at("used/b"))) // v7 still exists
	g.must(g.Tidy(ctx, time.Hour))
	for _, parent := range []string{"made/deep", "theirs/sub", "empty", "full", "used/x"} {
		if !g.has(parent) {
			t.Errorf("%s was removed too early", parent)
		}
	}
	g.must(g.Tidy(ctx, 0))
	for parent, stays := range map[string]bool{
		"made/deep": false, "made": false, "theirs/sub": false, "theirs/keep": true, "empty": true, "full/file": true, "used/x": false, "used": true,
	} {
		if g.has(parent) != stays {
			t.Errorf("%s exists: %v, want %v", parent, g.has(parent), stays)
		}
	}
	if names := g.names(".mooring/claims"); len(names) != 1 || names[0] != "used" {
		t.Errorf("left among the claims: %q", names)
	}
	g.create("v8", "made/deep/a") // and again
	g.delete("v7")
	// Another process, which does not know when they were used last.
	next := g.nextRun()
	g.must(next.Tidy(ctx, ParentIdle))
	if !g.has("made") {
		t.Error("a parent was removed too early")
	}
	if _, err := next.Volumes.Lookup(ctx, "v7"); !errors.Is(err, volume.ErrNotFound) {
		t.Error(err)
	}
	// A parent that another process has removed is forgotten.
	g.delete("v8")
	g.must(next.Tidy(ctx, 0))
	if parents := g.claims.parents; g.has("made") || parents.lastUse["made"].IsZero() {
		t.Fatalf("made exists: %v; last used are %v", g.has("made"), parents.lastUse)
	}
	g.must(g.Tidy(ctx, 0))
	if parents := g.claims.parents; len(parents.lastUse)+len(parents.listed) > 0 {
		t.Errorf("of parents that are gone, these are known: %v, %v", parents.lastUse, parents.listed)
	}
}

// TestDeadParent has a parent in its directory of claims: a late Tidy, whose bar was removed, has moved it
// there. What is in it is put back, and volumes can be made there.
func TestDeadParent(t *testing.T) {
	for _, full := range []bool{false, true} {
		g := newTestShare(t)
		g.must(os.MkdirAll(g.at(".mooring/claims/team/dead"), 0o700))
		if full {
			g.put(".mooring/claims/team/dead/file", "content")
		}
		_, err := g.make(record("v1", "team/v1"))
		g.must(err)
		_, err = os.Lstat(g.at("team/file"))
		if got := err == nil; got != full {
			t.Errorf("with a file in it (%v): restored to its place: %v", full, got)
		}
		if _, err := os.Lstat(g.at(".mooring/claims/team/dead")); !os.IsNotExist(err) {
			t.Errorf("it still exists: %v", err)
		}
	}
}
