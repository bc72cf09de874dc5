// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// putUnknown puts files on a share that this version does not know and a next version may write. It returns
// their contents. All of them are old: this version's own would be abandoned.
func putUnknown(g *testShare) map[string]string {
	g.Helper()
	const data = "of a next version\n"
	all := map[string]string{
		".mooring/quotas/plain":                                                data,
		".mooring/index.json":                                                  data,
		".mooring/volumes/.index":                                              data,
		".mooring/volumes/index":                                               data,
		".mooring/parents/e.team":                                              data,
		".mooring/jobs/move.volume.next." + someNonce:                          data,
		".mooring/jobs/volume.next." + someNonce + ".parts":                    data,
		".mooring/claims/next/owned":                                           data,
		".mooring/trash/next." + someNonce + ".moved/data":                     data,
		".mooring/trash/next." + someNonce + ".1.2.json.moved":                 data,
		".mooring/staging/pool/data":                                           data,
		".mooring/volumes/nested/deletion/move.volume.next." + someNonce:       data,
		".mooring/snapshots/outlived/deletion/move.snapshot.next." + someNonce: data,
	}
	for _, in := range []string{"volumes", "snapshots", "groups"} {
		// A record in an unknown state, and a tree.
		all[".mooring/"+in+"/next/moving.json"] = `{"version": 2, "key": "next", "nonce": "` + someNonce + `"}`
		all[".mooring/"+in+"/next/parts/data"] = data
		// A tree alone.
		all[".mooring/"+in+"/parts/parts/data"] = data
	}
	for path, text := range all {
		g.put(path, text)
	}
	for path := range all {
		for ; !slices.Contains([]string{".mooring/volumes/nested", ".mooring/snapshots/outlived", ".mooring"}, path); path = path[:strings.LastIndexByte(path, '/')] {
			g.age(path, fixtureAge)
		}
	}
	return all
}

// checkUnchanged fails the test if files have changed.
func checkUnchanged(g *testShare, when string, files map[string]string) {
	g.Helper()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if got := g.text(p); got != files[p] {
			g.Errorf("%s%s: %s is %q, and was %q", g.label, when, p, got, files[p])
		}
	}
}

// TestNextBeside lets the current controller do everything on a share where a next version has things of
// unknown kinds: it leaves them alone.
func TestNextBeside(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		ctx := t.Context()
		strange := putUnknown(g)
		before := problemsOf(g)
		sameLists(g, "what a check finds of them", slices.DeleteFunc(before, func(p string) bool {
			_, where, _ := strings.Cut(p, " ")
			return strange[".mooring/"+strings.ReplaceAll(where, "NONCE", someNonce)] == "" && !slices.Contains(strangeDirs, p)
		}), slices.Concat(strangeDirs, strangeFiles))
		g = reopen(g)
		for what, err := range map[string]error{
			"to make its volume":           second(g.make(record("next", "new"))),
			"to delete it":                 second(g.Volumes.Delete(ctx, "next")),
			"to make its snapshot":         second(g.trySnapshot("next", "plain", nil)),
			"to delete that":               second(g.Snapshots.Delete(ctx, "next", nil)),
			"to make its group":            makeGrouped(g, "next", false),
			"to delete that group":         second(g.Groups.Delete(ctx, "next", nil)),
			"to make a volume of parts":    second(g.make(record("parts", "new"))),
			"to delete a volume of parts":  second(g.Volumes.Delete(ctx, "parts")),
			"to delete a snapshot of them": second(g.Snapshots.Delete(ctx, "parts", nil)),
			"to delete a group of them":    second(g.Groups.Delete(ctx, "parts", nil)),
			"to delete what it holds":      second(g.Volumes.Delete(ctx, "nested")),
			"to delete that snapshot":      second(g.Snapshots.Delete(ctx, "outlived", nil)),
		} {
			g.wantError(what, err, volume.ErrPrecondition, "which this Mooring does not know", "upgrade Mooring")
		}
		_, err := g.make(record("other", "next"))
		g.wantError("to have its directory", err, volume.ErrBusy)
		for _, h := range interruptedOps() {
			runAgain(g, h)
		}
		checkVolumes(g)
		checkUnchanged(g, "when all was done again", strange)
		for _, p := range clearShare(g) {
			at, _, _ := strings.Cut(strings.TrimPrefix(p, ".mooring/"), "/")
			if strings.HasPrefix(p, ".mooring/") && !slices.Contains([]string{"quotas", "index.json", "inline"}, at) && g.directories()[at] == nil {
				t.Errorf("still there: %s", p)
			}
		}
		checkUnchanged(g, "in the end", strange)
		keys, err := g.Volumes.Keys(ctx)
		g.must(err)
		sameLists(g, "the keys", keys, []string{"index", "nested", "next", "other", "parts"})
	})
}

// What a check reports of the files of putStrange: directories, and files.
var (
	strangeDirs = []string{
		"warning quotas", "warning staging/pool", "warning trash/next.NONCE.moved",
		"warning volumes/next", "warning volumes/parts", "warning snapshots/next", "warning snapshots/parts", "warning groups/next", "warning groups/parts",
	}
	strangeFiles = []string{
		"warning index.json", "warning volumes/.index", "warning volumes/index", "warning parents/e.team",
		"warning jobs/move.volume.next.NONCE", "warning jobs/volume.next.NONCE.parts", "warning claims/next/owned", "warning trash/next.NONCE.1.2.json.moved",
		"warning volumes/nested/deletion/move.volume.next.NONCE", "warning snapshots/outlived/deletion/move.snapshot.next.NONCE",
	}
)

// TestNextPurge purges a deleted volume while a next version has a volume with its key in an unknown state.
func TestNextPurge(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("next", "next")
	files := map[string]string{".mooring/volumes/next/moving.json": "{}", ".mooring/volumes/next/tree/data": "new"}
	for path, text := range files {
		g.put(path, text)
	}
	g.wantError("to purge it", e.purge(g), volume.ErrPrecondition, "moving.json", "upgrade Mooring")
	checkUnchanged(g, "after a purge", files)
	// The next version has finished, and the older volume is purged.
	g.must(os.RemoveAll(g.at(".mooring/volumes/next")))
	g.must(e.purge(g))
}

// TestNextExtras lets a next version keep more in the entries of what requires nothing: it is removed with
// them, except for trees, which an administrator must check.
func TestNextExtras(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	createFilled(g, "plain", "plain")
	g.snapshot("snap", "plain")
	for _, entry := range []string{"volumes/plain", "snapshots/snap"} {
		g.put(".mooring/"+entry+"/usage.json", "{}")
		g.put(".mooring/"+entry+"/parts/parts", "of "+entry)
	}
	g.must(second(g.Snapshots.Delete(ctx, "snap", nil)))
	g.must(second(g.Volumes.Delete(ctx, "plain")))
	trash, err := g.Trash.List(ctx)
	g.must(err)
	for _, e := range trash {
		if e.HasRecord() {
			g.must(e.purge(g))
		}
	}
	var got []string
	for _, p := range g.find("parts") {
		got = append(got, g.text(p))
	}
	sameLists(g, "the trees", got, []string{"of snapshots/snap", "of volumes/plain"})
	if all := g.find("usage.json"); len(all) > 0 || len(g.names(".mooring/volumes")) > 0 || len(g.names(".mooring/snapshots")) > 0 {
		t.Errorf("still there: %q", g.tree())
	}
}

// nextController is a controller of an invented next version, which works on the same share.
type nextController struct {
	*testShare
	made  int
	files map[string]string // that must stay
}

// act creates a volume and then adds fields or requirements to its record, or deletes an earlier volume.
// Each volume must stay as it was created.
func (n *nextController) act() {
	key := fmt.Sprintf("next-%d", n.made)
	n.made++
	createFilled(n.testShare, key, "team/"+key)
	entry := ".mooring/volumes/" + key + "/"
	switch n.made % 4 {
	case 0: // in an unknown state
		n.rename(entry+recordFile, entry+"moving.json")
		n.files[entry+"moving.json"] = n.text(entry + "moving.json")
	case 1:
		rewrite(n.testShare, "volumes/"+key+"/", nextRequires)
		n.files[entry+recordFile] = n.text(entry + recordFile)
	case 2:
		rewrite(n.testShare, "volumes/"+key+"/", nextFields)
		n.files[entry+recordFile] = n.text(entry + recordFile)
	case 3:
		rewrite(n.testShare, "volumes/"+key+"/", nextFields)
		n.must(second(n.Volumes.Delete(n.Context(), key)))
		n.files[".mooring/trash/"+findTrashed(n.testShare, key).Name+"/data"] = "of " + key + "\n"
		return
	}
	n.files["team/"+key+"/data"] = "of " + key + "\n"
}

// TestNextInterleaved lets a controller of a next version act before each step of each operation of the
// current one, on the same share. Both finish, and neither touches what belongs to the other.
func TestNextInterleaved(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := scenarioRun{t, sc, sameView}
			v, _, was := s.newShare()
			n := &nextController{testShare: openTestShare(t, v.other.dir, Options{Maker: "next", Lease: expiredLease}), files: map[string]string{}}
			s.open(v.first, "", Options{Maker: maker}, func(a *actor) {
				a.was = was
				a.opt.Step = func(string) { n.act() }
				fact, err := s.run(a)
				a.must(err)
				facts, _ := readFacts(a.testShare)
				if !isTrue(fact, facts) {
					t.Errorf("%q is not true: %q", fact, facts)
				}
				a.must(sc.undo(a))
				a.must(a.Tidy(t.Context(), 0))
				a.must(second(a.Jobs.Abandoned(t.Context())))
				if a.purged { // it purges everything that was in the trash then
					maps.DeleteFunc(n.files, func(p, _ string) bool { return strings.HasPrefix(p, ".mooring/trash/") })
				}
				checkUnchanged(n.testShare, fmt.Sprintf("after %d volumes", n.made), n.files)
			})
		})
	}
}

// TestNextGoesBack downgrades from a next version: what that left is handled, and what it worked on is still
// there when it is installed again and finishes it.
func TestNextGoesBack(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	n := &nextController{testShare: openTestShare(t, g.dir, Options{Maker: "next", Lease: expiredLease}), files: map[string]string{}}
	for range 8 {
		n.act()
	}
	g.must(g.purge())
	for key, kind := range map[string]error{"next-0": volume.ErrPrecondition, "next-1": nil, "next-2": nil, "next-3": volume.ErrPrecondition} {
		if _, err := g.Volumes.Delete(ctx, key); volume.Kind(err) != kind {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	// It is installed again, and makes its volumes readable for this version too.
	for _, key := range []string{"next-0", "next-4"} {
		g.edit(".mooring/volumes/"+key+"/record.json", nextRequires, nextFields)
	}
	for _, key := range []string{"next-3", "next-7"} {
		g.rename(".mooring/volumes/"+key+"/moving.json", ".mooring/volumes/"+key+"/record.json")
	}
	if left := clearShare(g); len(left) > 0 {
		t.Errorf("left in the end: %q", left)
	}
}
