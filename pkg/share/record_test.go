// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestDamagedRecord has unreadable records, as a crash of the server may leave them. Nothing is
// destroyed because of them.
func TestDamagedRecord(t *testing.T) {
	ctx := t.Context()
	for _, text := range []string{"", "{", "{}", "null", `{"version": 1}`, "\x00\x00"} {
		for _, name := range []string{recordFile, makingFile, placingFile, deletionName, abortFile, unplaceFile} {
			g := newTestShare(t)
			g.label = name + " " + text + ": "
			g.create("v1", "a")
			g.put("a/data", "of v1")
			entry := ".mooring/volumes/v1/"
			g.must(os.Remove(g.at(entry + recordFile)))
			g.put(entry+name, text)
			before := g.listing()
			_, err := g.Volumes.Lookup(ctx, "v1")
			g.wantError("to look", err, volume.ErrDamaged, "v1", ".mooring/volumes/v1")
			_, _, err = g.Volumes.Begin(ctx, record("v1", "a"))
			g.wantError("to create", err, volume.ErrDamaged)
			_, err = g.withExpiredLease().Volumes.Delete(ctx, "v1")
			if name != recordFile { // which is marked first
				g.wantError("to delete", err, volume.ErrDamaged)
			}
			p := g.begin(record("v2", "a"))
			g.wantError("in its place", p.MakeDirectory(ctx), volume.ErrPrecondition, "v1")
			g.must(p.Abort())
			if d := diffLines(g.listing(), before); d != "" {
				t.Errorf("%sthey have changed\n%s", g.label, d)
			}
		}
	}
}

// TestDamagedOthers has a snapshot and a group with an unreadable record: they are not ErrNotFound.
func TestDamagedOthers(t *testing.T) {
	ctx := t.Context()
	for _, text := range []string{"", "{}", "null", `{"version": 1, "key": "s2"}`} {
		g := newTestShare(t)
		withSnapshot(g)
		g.put(".mooring/snapshots/s1/record.json", text)
		g.put(".mooring/groups/g1/record.json", text)
		before := g.listing()
		_, err := g.Snapshots.Lookup(ctx, "s1")
		g.wantError(text, err, volume.ErrDamaged, "s1", "record.json")
		_, err = g.trySnapshot("s1", "v1", nil)
		g.wantError(text, err, volume.ErrDamaged)
		_, err = g.Snapshots.Delete(ctx, "s1", nil)
		g.wantError(text, err, volume.ErrDamaged)
		_, err = g.Groups.Lookup(ctx, "g1")
		g.wantError(text, err, volume.ErrDamaged, "g1", "record.json")
		_, err = g.Groups.Begin(ctx, groupRecord("g1"))
		g.wantError(text, err, volume.ErrDamaged)
		_, err = g.Groups.Delete(ctx, "g1", nil)
		g.wantError(text, err, volume.ErrDamaged)
		if d := diffLines(g.listing(), before); d != "" {
			t.Errorf("%q: they have changed\n%s", text, d)
		}
	}
}

// TestTornSnapshot stops the maker of a snapshot while it writes the final record.
func TestTornSnapshot(t *testing.T) {
	for _, text := range []string{"", "{", `{"version": 1, "key`} {
		g := newTestShare(t)
		withData(g)
		p, _ := beginSnapshot(g, "s1", "v1")
		p.Close()
		g.must(os.WriteFile(g.at(".mooring/snapshots/s1/"+makingFile), []byte(text), 0o600))
		other := g.withExpiredLease()
		other.snapshot("s1", "v1")
		if left := clearShare(other); len(left) > 0 {
			t.Errorf("%q: in the end there is %q", text, left)
		}
	}
}

// TestNoRecord has an entry without content, of a process that stopped while it removed it: it is
// harmless.
func TestNoRecord(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withData(g)
	for _, d := range []string{"volumes/v2", "volumes/v3", "snapshots/s1", "snapshots/s2", "groups/g1", "groups/g2"} {
		g.must(os.Mkdir(g.at(".mooring/"+d), 0o700))
	}
	_, err := g.Volumes.Lookup(ctx, "v2")
	g.wantError("to look", err, volume.ErrNotFound, "v2")
	g.create("v2", "team/v2")
	if g.delete("v3") != nil || g.has(".mooring/volumes/v3") {
		t.Error("it stays")
	}
	g.snapshot("s1", "v1")
	_, err = g.Snapshots.Delete(ctx, "s2", nil)
	g.must(err)
	_, err = g.Groups.Begin(ctx, groupRecord("g1"))
	g.must(err)
	_, err = g.Groups.Delete(ctx, "g2", nil)
	g.must(err)
	if g.has(".mooring/snapshots/s2") || g.has(".mooring/groups/g2") {
		t.Error("they stay")
	}
}

// TestNewer has records that require what this program does not know: it reads them, and changes
// nothing.
func TestNewer(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withPair(g)
	e := g.createDeleted("v3", "v3")
	_, err := g.createGroup("g1")
	g.must(err)
	g.begin(record("v4", "v4")).Close()
	half, _ := beginSnapshot(g, "s4", "v1")
	half.Close()
	records := []string{"volumes/v1/record.json", "volumes/v4/making.json", "snapshots/s1/record.json", "snapshots/s4/making.json", "groups/g1/record.json"}
	for _, name := range g.names(".mooring/trash") {
		if strings.HasSuffix(name, ".json") {
			records = append(records, "trash/"+name)
		}
	}
	for _, r := range records {
		g.addRequirement(r)
	}
	other := g.withExpiredLease()
	before := g.listing()
	v4, err := g.Volumes.Lookup(ctx, "v4")
	g.must(err)
	for what, err := range map[string]error{
		"to delete a volume":           second(other.Volumes.Delete(ctx, "v1")),
		"to change one":                second(other.setCapacity("v1", 7)),
		"to delete one in the making":  second(other.Volumes.Delete(ctx, "v4")),
		"to undo one":                  other.Volumes.AbortAbandoned(ctx, v4),
		"to bring one back":            second(other.Volumes.Restore(ctx, e, "")),
		"to purge one":                 other.Trash.Purge(e, g.remove),
		"to delete a snapshot":         second(other.Snapshots.Delete(ctx, "s1", nil)),
		"to delete one that is half":   second(other.Snapshots.Delete(ctx, "s4", nil)),
		"to make one that was half":    second(other.trySnapshot("s4", "v1", nil)),
		"to delete a group":            second(other.Groups.Delete(ctx, "g1", nil)),
		"to delete the one in a group": second(other.Snapshots.Delete(ctx, "s1", nil)),
	} {
		g.wantError(what, err, volume.ErrPrecondition, "teleport", "upgrade Mooring")
	}
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("they have changed\n%s", d)
	}
	if r, err := g.Volumes.Lookup(ctx, "v1"); err != nil || r.Directory != "v1" || len(r.Unsupported()) != 1 {
		t.Errorf("it looks like %+v, %v", r, err)
	}
}

func second[T any](_ T, err error) error { return err }
