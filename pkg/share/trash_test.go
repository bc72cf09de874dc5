// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDue has entries with and without a record that says how long they are kept.
func TestDue(t *testing.T) {
	ctx := context.Background()
	def, short := nas1, time.Minute
	def.TrashRetention = 2 * time.Hour
	dir := t.TempDir()
	s, err := Open(dir, def, Options{Maker: maker})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g := &ground{t, s, dir}
	now := time.Unix(1e9, 5)
	want := map[string]time.Duration{"plain": 2 * time.Hour, "short": time.Minute, "damaged": 2 * time.Hour, "half": 2 * time.Hour}
	for key := range want {
		g.create(key, key)
		r, err := g.Lookup(ctx, key)
		g.must(err)
		if key == "short" {
			r.Retention = &short
			g.must(g.Update(ctx, r.Record))
			r, err = g.Lookup(ctx, key)
			g.must(err)
		}
		e, due, err := g.Share.Trash(ctx, r, now)
		g.must(err)
		if e.Key != key || !e.Deleted.Equal(now) || !e.Recorded() || key != "damaged" && !due.Equal(now.Add(want[key])) {
			t.Errorf("%s is in the trash as %+v, due at %v", key, e, due)
		}
		record := ".mooring/trash/" + e.Name + ".json"
		switch key {
		case "damaged":
			g.must(os.Truncate(g.at(record), 7))
		case "half":
			g.must(os.Remove(g.at(record)))
		}
	}
	g.put(".mooring/trash/not-ours", "")
	entries, err := g.Trashed(ctx)
	g.must(err)
	if len(entries) != len(want) {
		t.Errorf("the trash holds %+v", entries)
	}
	for _, e := range entries {
		due, err := g.Due(e)
		if err != nil || !due.Equal(now.Add(want[e.Key])) || e.Recorded() != (e.Key != "half") {
			t.Errorf("%+v is due %v after its deletion, want %v (%v)", e, due.Sub(now), want[e.Key], err)
		}
	}
	s.def.TrashRetention = 0
	for _, e := range entries {
		if e.Key == "half" {
			if due, err := g.Due(e); err != nil || !due.Equal(now.Add(halfTrashed)) {
				t.Errorf("half a deletion is due %v after it (%v)", due.Sub(now), err)
			}
		}
	}
}

// TestPurgeOrder removes the record last, and not where the data stays.
func TestPurgeOrder(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	g.delete("v1")
	entries, err := g.Trashed(ctx)
	g.must(err)
	wrong := errors.New("no")
	if err := g.Purge(entries[0], func(int, string) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("a purge that failed: %v", err)
	}
	if len(g.names(".mooring/trash")) != 2 {
		t.Errorf("the trash holds %q", g.names(".mooring/trash"))
	}
	for range 2 {
		g.must(g.Purge(entries[0], func(_ int, name string) error { return os.RemoveAll(g.at(".mooring/trash/" + name)) }))
	}
	if len(g.names(".mooring/trash")) != 0 {
		t.Errorf("the trash holds %q", g.names(".mooring/trash"))
	}
}

// TestTrashName parses what it made, and nothing else.
func TestTrashName(t *testing.T) {
	at := time.Unix(1e9, 123)
	for _, key := range []string{"v1", "a.b.c", "a.1"} {
		if got, when, ok := parseTrashName(trashName(key, at)); got != key || !when.Equal(at) || !ok {
			t.Errorf("%s comes back as %s, %v, %v", key, got, when, ok)
		}
	}
	for _, name := range []string{"", "v1", ".1", "v1.", "v1.x", "v1.1x"} {
		if key, _, ok := parseTrashName(name); ok {
			t.Errorf("%q was parsed as of %q", name, key)
		}
	}
}

// TestArchiveTaken finds another name where the first is taken.
func TestArchiveTaken(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.put("team/archived-a/file", "first")
	for _, key := range []string{"v1", "v2"} {
		g.create(key, "team/a")
		g.put("team/a/file", key)
		r, err := g.Lookup(ctx, key)
		g.must(err)
		g.must(g.Archive(ctx, r))
		g.must(g.Archive(ctx, r)) // a retry
		if g.has("team/a") || g.has(".mooring/volumes/"+key+".json") || g.has(".mooring/claims/team/a") {
			t.Errorf("%s is not gone", key)
		}
	}
	found := map[string]bool{}
	all, _ := filepath.Glob(g.at("team/archived-a*/file"))
	for _, file := range all {
		data, _ := os.ReadFile(file)
		found[string(data)] = true
	}
	if len(all) != 3 || !found["first"] || !found["v1"] || !found["v2"] {
		t.Errorf("archived are %q, with %v", all, found)
	}
	if left := g.names(".mooring/claims/team"); strings.Join(left, " ") != ".mooring" && len(left) > 0 {
		t.Errorf("left are the claims %q", left)
	}
}

// TestRelease forgets a volume and leaves its directory.
func TestRelease(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	g.put("a/file", "")
	r, err := g.Lookup(ctx, "v1")
	g.must(err)
	g.must(g.Release(ctx, r))
	g.must(g.Release(ctx, r))
	if !g.has("a/file") || g.has(".mooring/claims/a") || g.has(".mooring/volumes/v1.json") {
		t.Error("too much or too little has gone")
	}
}

// TestTidy removes the parents that were made for volumes, and no others.
func TestTidy(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.put("theirs/keep", "") // was there before
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
	g.must(os.Remove(g.at("used/b"))) // v7 is there all the same
	g.must(g.Tidy(ctx, time.Hour))
	for _, parent := range []string{"made/deep", "theirs/sub", "empty", "full", "used/x"} {
		if !g.has(parent) {
			t.Errorf("%s went before its time", parent)
		}
	}
	g.must(g.Tidy(ctx, 0))
	for parent, stays := range map[string]bool{
		"made/deep": false, "made": false, "theirs/sub": false, "theirs/keep": true, "empty": true, "full/file": true, "used/x": false, "used": true,
	} {
		if g.has(parent) != stays {
			t.Errorf("%s is there: %v, want %v", parent, g.has(parent), stays)
		}
		if claims := ".mooring/claims/" + parent; !stays && g.has(claims) {
			t.Errorf("%s stays", claims)
		}
	}
	if !g.has(".mooring/claims/used/b") || g.has(".mooring/claims/empty") || g.has(".mooring/claims/theirs") {
		t.Errorf("left are the claims %q", g.names(".mooring/claims"))
	}
	g.create("v8", "made/deep/a") // and again
}

// TestTidyLater finds the parents that an earlier process has left, and leaves them alone for as
// long as another controller may still use them.
func TestTidyLater(t *testing.T) {
	g := newGround(t)
	g.create("v1", "a/b/c")
	g.delete("v1")
	synctest.Test(t, func(t *testing.T) {
		// Its clock does not move by itself. The server's, by which files are told, does.
		time.Sleep(time.Until(time.Unix(4e9, 0)))
		next := openAt(t, g.dir, maker)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(ParentIdle - time.Nanosecond)
		must(next.Tidy(context.Background(), ParentIdle))
		if !g.has("a/b") {
			t.Fatal("a parent went before its time")
		}
		time.Sleep(time.Nanosecond)
		recently := time.Now().Add(-time.Minute) // by another controller
		must(os.Chtimes(g.at(".mooring/claims/a/b"), recently, recently))
		must(next.Tidy(context.Background(), ParentIdle))
		if !g.has("a/b") {
			t.Fatal("a parent that another uses has gone")
		}
		time.Sleep(ParentIdle)
		must(next.Tidy(context.Background(), ParentIdle))
		if g.has("a/b") || g.has(".mooring/claims/a/b") {
			t.Error("a parent stays")
		}
	})
}
