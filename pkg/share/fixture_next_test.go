// SPDX-License-Identifier: Apache-2.0

package share

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// What an invented next version of Mooring adds to the records that it writes.
const (
	nextFields   = `"tier": {"name": "<cold>", "since": 12345678901234567890}`
	nextRequires = `"requires": ["teleport", "telepathy"], ` + nextFields
)

// rewrite changes the records in a directory of .mooring ("": all, and the format) to what a next version
// writes: more fields after the version. The files and their times do not change.
func rewrite(g *testShare, in, more string) (records []string) {
	g.Helper()
	for _, p := range g.tree() {
		text := g.text(p)
		if !strings.HasPrefix(p, ".mooring/"+in) || !strings.HasPrefix(text, "{\n  \"version\": 1") {
			continue
		}
		info, err := os.Stat(g.at(p))
		g.must(err)
		text = strings.Replace(text, `"version": 1`, `"version": 2, `+more, 1)
		if !json.Valid([]byte(text)) {
			g.Fatalf("%s is %s", p, text)
		}
		g.must(os.WriteFile(g.at(p), []byte(text), 0o600))
		g.must(os.Chtimes(g.at(p), info.ModTime(), info.ModTime()))
		records = append(records, p)
	}
	return records
}

// hasFields fails the test unless a record still has the fields that a next version has added.
func hasFields(g *testShare, path string) {
	g.Helper()
	var r struct {
		Version int
		Tier    json.RawMessage
	}
	err := json.Unmarshal([]byte(g.text(path)), &r)
	if tier := strings.Join(strings.Fields(string(r.Tier)), ""); err != nil || r.Version != 2 || tier != `{"name":"<cold>","since":12345678901234567890}` {
		g.Errorf("%s%s has version %d and the tier %s, %v", g.label, path, r.Version, tier, err)
	}
}

// TestNextFields keeps unknown fields of records in everything that writes a record again, and those of the
// format at each start.
func TestNextFields(t *testing.T) {
	ctx := t.Context()
	kept, err := os.ReadFile(fixtureFile)
	if err != nil {
		t.Fatal(err)
	}
	g := unpack(t, kept, scratchDir(t))
	if records := rewrite(g, "", nextFields); len(records) < 100 || !slices.Contains(records, ".mooring/"+formatFile) {
		t.Fatalf("only %d records were written: %q", len(records), records)
	}
	format := g.text(".mooring/" + formatFile)
	g = reopen(g)
	// An update.
	g.must(second(g.setCapacity("plain", 9)))
	hasFields(g, ".mooring/volumes/plain/record.json")
	// A deletion, and two restores.
	for range 2 {
		g.must(second(g.Volumes.Delete(ctx, "nested")))
		hasFields(g, g.glob(".mooring/trash/nested.*.json"))
		g.must(second(g.Volumes.Restore(ctx, findTrashed(g, "nested"), "")))
		hasFields(g, ".mooring/volumes/nested/record.json")
	}
	// An interrupted restore.
	runAgain(g, interruptedOp{key: "restore-4", operation: restoreOp})
	hasFields(g, ".mooring/volumes/restore-4/record.json")
	// An interrupted copy, which package jobs continues from its record.
	found, err := g.Volumes.Lookup(ctx, "clone-2")
	g.must(err)
	g.must(g.Volumes.AbortAbandoned(ctx, found))
	p := g.begin(found.Record)
	g.must(second(g.fill(p)))
	hasFields(g, ".mooring/volumes/clone-2/record.json")
	// A snapshot and its group.
	g.must(second(g.Groups.Delete(ctx, "group", nil)))
	hasFields(g, g.glob(".mooring/trash/group.plain.*.json"))
	if got := g.text(".mooring/" + formatFile); got != format {
		t.Errorf("the format was %s, and is %s", format, got)
	}
	for _, h := range interruptedOps() { // the origin of a volume does not say what it is
		runAgain(g, h)
	}
	for _, key := range []string{"update-1", "update-3", "restore-1"} {
		hasFields(g, ".mooring/volumes/"+key+"/record.json")
	}
}

// TestNextRequires lets all records require something unknown: everything is listed, and nothing changes.
// What requires nothing works beside it.
func TestNextRequires(t *testing.T) {
	kept, err := os.ReadFile(fixtureFile)
	if err != nil {
		t.Fatal(err)
	}
	g := unpack(t, kept, scratchDir(t))
	for _, in := range []string{"volumes/", "snapshots/", "groups/", "trash/", "claims/", "jobs/"} {
		rewrite(g, in, nextRequires)
	}
	g = reopen(g) // which sweeps staging
	copies, err := g.Jobs.Abandoned(t.Context())
	if err != nil || len(copies) != len(copiesLeft) {
		t.Errorf("the copies are %+v, %v", copies, err)
	}
	before := g.listing()
	checkVolumes(g)
	for _, h := range interruptedOps() {
		if was := stateOf(g, h.of, h.key); was != h.left {
			t.Errorf("%s %s is in state %d, not %d", h.of, h.key, was, h.left)
		}
	}
	for what, err := range changeAll(g) {
		g.wantError(what, err, volume.ErrPrecondition, "teleport, telepathy", "upgrade Mooring")
	}
	g.must(g.Tidy(t.Context(), time.Hour))
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("the fixture has changed\n%s", d)
	}
	// Other volumes work.
	createFilled(g, "new", "team/new")
	g.snapshot("new", "new")
	clone := record("newer", "newer")
	clone.Source = sourceOf(snapshotObject("new"))
	g.must(second(g.make(clone)))
	for _, key := range []string{"new", "newer"} {
		g.must(second(g.Volumes.Delete(t.Context(), key)))
		g.must(purgeOf(g, key))
	}
	g.must(second(g.Snapshots.Delete(t.Context(), "new", nil)))
	g.must(purgeOf(g, "new"))
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("other volumes have changed\n%s", d)
	}
}

// changeAll tries to change everything on the fixture, and returns the errors.
func changeAll(g *testShare) map[string]error {
	ctx := g.Context()
	all := map[string]error{}
	for key := range fixtureVolumes() {
		all["to delete "+key] = second(g.Volumes.Delete(ctx, key))
		all["to change "+key] = second(g.setCapacity(key, 99))
	}
	for _, key := range []string{"snap", "shared", "outlived", "group.plain"} {
		all["to delete snapshot "+key] = second(g.Snapshots.Delete(ctx, key, nil))
	}
	all["to delete the group"] = second(g.Groups.Delete(ctx, "group", nil))
	filled := record("new", "new")
	filled.Source = sourceOf(snapshotObject("snap"))
	clone := filled
	clone.Source = sourceOf(volumeObject("plain"))
	for what, r := range map[string]volume.Record{"to fill a volume": filled, "to clone": clone, "to be a snapshot": shallowRecord("new", "snap")} {
		all[what] = second(g.make(r))
	}
	all["to make a snapshot"] = second(g.trySnapshot("new", "plain", nil))
	trash, err := g.Trash.List(ctx)
	g.must(err)
	for _, e := range trash {
		if !e.HasRecord() || e.kind == volume.TrashLeftover {
			continue
		}
		all["to purge "+e.Name] = e.purge(g)
		if e.Complete() && e.kind == volume.TrashVolume {
			all["to bring back "+e.Name] = second(g.Volumes.Restore(ctx, e, ""))
		}
	}
	for _, h := range interruptedOps() {
		if h.left != Empty && h.left != Ready {
			all["to go on with "+h.key] = h.run(g, h.key)
		}
	}
	return all
}

// TestNextGroup lets one snapshot of a group require something unknown: nothing of the group is deleted.
func TestNextGroup(t *testing.T) {
	g := newTestShare(t)
	createFilled(g, "plain", "plain")
	createFilled(g, "nested", "nested")
	g.must(makeGrouped(g, "g1", false))
	rewrite(g, "snapshots/g1.nested", nextRequires)
	before := g.listing()
	g.wantError("to delete it", second(g.Groups.Delete(t.Context(), "g1", nil)), volume.ErrPrecondition, "teleport")
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("the fixture has changed\n%s", d)
	}
}

// TestNextHalfGroup lets an incomplete group require something unknown: nobody continues it.
func TestNextHalfGroup(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	createFilled(g, "plain", "plain")
	createFilled(g, "nested", "nested")
	dieBefore(g, "commit", 3, func(h *testShare) error { return makeGrouped(h, "g1", false) })
	rewrite(g, "groups/", nextRequires)
	making := ".mooring/groups/g1/" + makingFile
	g.age(making, fixtureAge)
	g.wantError("to ask for it", makeGrouped(g, "g1", false), volume.ErrPrecondition, "teleport")
	if info, err := os.Stat(g.at(making)); err != nil || time.Since(info.ModTime()) < fixtureAge/2 {
		t.Errorf("the group was renewed: %v, %v", info, err)
	}
	r, err := g.Groups.Lookup(ctx, "g1")
	g.must(err)
	g.wantError("to commit it", g.Groups.Commit(ctx, r), volume.ErrPrecondition, "teleport")
	if state := stateOf(g, ofGroup, "g1"); state != Making {
		t.Errorf("the group is in state %d", state)
	}
}

// TestNextCopy has a record that only a next version can read: the copies of others are found.
func TestNextCopy(t *testing.T) {
	for what, text := range map[string]string{
		"of a next version": `{"version": 2, "requires": ["teleport"], "key": {}, "nonce": "NONCE"}`,
		"damaged":           `{"version": 1, "key": "clone-2", "nonce": "NONCE"}`,
	} {
		kept, err := os.ReadFile(fixtureFile)
		if err != nil {
			t.Fatal(err)
		}
		g := reopen(unpack(t, kept, scratchDir(t)))
		path := ".mooring/volumes/clone-2/making.json"
		_, nonce := decodeIdentity([]byte(g.text(path)))
		g.replace(path, strings.Replace(text, "NONCE", nonce, 1))
		copies, err := g.Jobs.Abandoned(t.Context())
		if err == nil || len(copies) != len(copiesLeft)-1 {
			t.Errorf("%s: the copies are %+v, %v", what, copies, err)
		}
	}
}

// TestNextFormat has a share whose format requires something unknown, from the start or later.
func TestNextFormat(t *testing.T) {
	kept, err := os.ReadFile(fixtureFile)
	if err != nil {
		t.Fatal(err)
	}
	g := unpack(t, kept, scratchDir(t))
	open := reopen(g)
	rewrite(g, formatFile, nextRequires)
	before := g.listing()
	_, err = Open(g.dir, nas1, Options{Maker: maker})
	g.wantError("to open it", err, volume.ErrPrecondition, "teleport, telepathy", "upgrade Mooring")
	_, err = OpenInline(g.dir, nas1, true)
	g.wantError("to open it for a pod", err, volume.ErrPrecondition, "teleport")
	// A controller that has it open notices within a minute: see Purger.once.
	g.wantError("to tidy", open.Tidy(t.Context(), 0), volume.ErrPrecondition, "teleport")
	if !open.Lost() {
		t.Error("a process that has it open continues")
	}
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("the fixture has changed\n%s", d)
	}
	look := openTestShare(t, g.dir, Options{ReadOnly: true})
	checkVolumes(look)
}
