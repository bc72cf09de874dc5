// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// problemCase is something that is wrong on a share that was good.
type problemCase struct {
	name  string
	do    func(g *testShare)
	finds []string
}

const (
	someNonce = "00000000000000aa"
	newer     = `"requires": ["teleport"],`
)

// problemCases are the problems that a check finds, one by one.
func problemCases() []problemCase {
	return slices.Concat(wrongLayout(), wrongEntries(), wrongVolumes(), wrongSnapshots(), wrongHolds(), wrongClaims(), wrongTrash())
}

func wrongLayout() []problemCase {
	return []problemCase{
		{"mode", func(g *testShare) { g.must(os.Chmod(g.at(".mooring"), 0o750)) }, []string{"error .mooring: 0750"}},
		{"owner", func(g *testShare) {
			if os.Getuid() != 0 {
				g.Skip("needs root")
			}
			g.must(os.Chown(g.at(".mooring"), 1234, -1))
		}, []string{"note .mooring: 1234"}},
		{"no format", func(g *testShare) { g.removeAll(".mooring/format.json") }, []string{"error format.json: before the first release"}},
		{"old layout", func(g *testShare) {
			g.removeAll(".mooring/format.json")
			g.put(".mooring/volumes/v9.json", "{}")
		}, []string{"error format.json: before the first release", "warning volumes/v9.json: nothing of that name"}},
		{"newer format", func(g *testShare) {
			g.replace(".mooring/format.json", "{"+newer+`"version": 9, "id": "`+volume.NewShareID()+`"}`)
		}, []string{"warning format.json: teleport"}},
		{"no id", withoutID, []string{"note format.json: before there were ids"}},
		{"an id beside the format", func(g *testShare) {
			withoutID(g)
			g.put(".mooring/id.json", `{"version": 1, "id": "`+volume.NewShareID()+`"}`)
		}, nil},
		{"a bad id beside the format", func(g *testShare) { g.put(".mooring/id.json", "{") }, []string{"error id.json: not whole JSON"}},
		{"something in .mooring", func(g *testShare) { g.put(".mooring/mine", "") }, []string{"warning mine: nothing of that name"}},
		{"a half format", func(g *testShare) { g.put(".mooring/format.ctl.1."+someNonce, "") }, []string{"note format.ctl.1.NONCE: left by a controller"}},
		{"no jobs", func(g *testShare) { g.removeAll(".mooring/jobs") }, []string{"error jobs: missing"}},
		{"a parent", func(g *testShare) { g.put(".mooring/parents/team", "") }, []string{"warning parents/team: nothing of that name"}},
		{"a job of nothing", func(g *testShare) { g.put(".mooring/jobs/volume.v9."+someNonce, "") }, []string{"note jobs/volume.v9.NONCE: volume v9, which is not being made"}},
		{"a job that ended", func(g *testShare) { g.put(".mooring/jobs/volume.v4."+someNonce, "") }, []string{"note jobs/volume.v4.NONCE: volume v4"}},
		{"a job of no name", func(g *testShare) { g.put(".mooring/jobs/v4", "") }, []string{"warning jobs/v4: nothing of that name"}},
		{"staging", func(g *testShare) {
			g.put(".mooring/staging/ctl.1."+volume.NewNonce(), "")
			g.mkdir(".mooring/staging/ctl.2." + someNonce)
			g.age(".mooring/staging/ctl.2."+someNonce, 2*time.Hour)
			g.put(".mooring/staging/pool", "")
		}, []string{"warning staging/ctl.2.NONCE: process that died", "warning staging/pool: nothing of that name"}},
	}
}

func wrongEntries() []problemCase {
	return []problemCase{
		{"two records", func(g *testShare) { g.put(".mooring/volumes/v1/abort.json", "") }, []string{"error volumes/v1: abort.json, record.json"}},
		{"two records of a group", func(g *testShare) { g.put(".mooring/groups/g1/making.json", "") }, []string{"error groups/g1: making.json, record.json"}},
		{"no record", func(g *testShare) { g.mkdir(".mooring/volumes/v9") }, []string{"note volumes/v9: only the entry"}},
		{"no record, data", func(g *testShare) { g.put(".mooring/volumes/v9/tree/x", "") }, []string{`error volumes/v9: "tree"`}},
		{"no record that is known", func(g *testShare) { g.put(".mooring/volumes/v9/moving.json", "{}") }, []string{`warning volumes/v9: no record that this Mooring knows, but "moving.json"`}},
		{"no entry", func(g *testShare) { g.put(".mooring/volumes/v9", "") }, []string{"warning volumes/v9: nothing of that name"}},
		{"half a record", func(g *testShare) { g.must(os.Truncate(g.at(".mooring/volumes/v1/record.json"), 9)) }, []string{"error volumes/v1: cannot be believed"}},
		{"half a group", func(g *testShare) { g.must(os.Truncate(g.at(".mooring/groups/g1/record.json"), 9)) }, []string{"error groups/g1: cannot be believed"}},
		{"another's record", func(g *testShare) { g.edit(".mooring/volumes/v1/record.json", `"key": "v1"`, `"key": "v2"`) }, []string{"error volumes/v1: that of \"v2\""}},
		{"no nonce", func(g *testShare) { g.edit(".mooring/volumes/v1/record.json", `"nonce": "`, `"nonce": "x`) }, []string{"error volumes/v1: its nonce is"}},
		{"a link as a record", func(g *testShare) {
			g.rename(".mooring/volumes/v1/record.json", "elsewhere")
			g.must(os.Symlink("../../../elsewhere", g.at(".mooring/volumes/v1/record.json")))
		}, []string{"error volumes/v1: cannot be read"}},
		{"a newer record", func(g *testShare) { g.edit(".mooring/volumes/v1/record.json", "{", "{"+newer) }, []string{"warning volumes/v1: teleport"}},
		{"a much newer record", func(g *testShare) {
			g.replace(".mooring/snapshots/s3/record.json", `{"version": 9, `+newer+`"key": {}}`)
		}, []string{"warning snapshots/s3: teleport"}},
		{"a file", func(g *testShare) { g.put(".mooring/volumes/v1/x", "") }, []string{`warning volumes/v1: "x"`}},
		{"tree", func(g *testShare) { g.put(".mooring/volumes/v1/tree/x", "") }, []string{`error volumes/v1: "tree"`}},
		{"stage and claim", func(g *testShare) { g.mkdir(".mooring/volumes/v1/stage"); g.mkdir(".mooring/volumes/v1/claim") },
			[]string{`warning volumes/v1: "claim"`, `warning volumes/v1: "stage"`}},
		{"making", func(g *testShare) { g.rename(".mooring/volumes/v1/record.json", ".mooring/volumes/v1/making.json") }, []string{"warning volumes/v1: creation of volume v1 was begun | neither finished nor undone"}},
		{"placing", func(g *testShare) { g.rename(".mooring/volumes/v1/record.json", ".mooring/volumes/v1/placing.json") }, []string{"warning volumes/v1: creation of volume v1 was begun"}},
		{"aborting", func(g *testShare) { g.rename(".mooring/volumes/v1/record.json", ".mooring/volumes/v1/unplace.json") }, []string{"warning volumes/v1: undoing the creation"}},
		{"deleting", func(g *testShare) {
			g.must(os.Remove(g.at(".mooring/volumes/v1/deletion")))
			g.rename(".mooring/volumes/v1/record.json", ".mooring/volumes/v1/deletion")
		}, []string{"warning volumes/v1: deletion of volume v1"}},
		{"a group in the making", func(g *testShare) {
			g.rename(".mooring/groups/g1/record.json", ".mooring/groups/g1/making.json")
			g.age(".mooring/groups/g1/making.json", 2*time.Hour)
		}, []string{"warning groups/g1: creation of group g1"}},
		{"half a snapshot in the making", func(g *testShare) {
			g.rename(".mooring/snapshots/s3/record.json", ".mooring/snapshots/s3/making.json")
			g.replace(".mooring/snapshots/s3/making.json", "{")
			g.removeAll(".mooring/volumes/v5")
		}, []string{"warning snapshots/s3: creation of snapshot s3"}},
	}
}

func wrongVolumes() []problemCase {
	return []problemCase{
		{"no claim", func(g *testShare) { g.removeAll(".mooring/claims/v2") }, []string{"error volumes/v2: nobody has the claim"}},
		{"an earlier claim", func(g *testShare) { g.replace(".mooring/claims/v2/taken", `{"key":"v2","nonce":"`+someNonce+`"}`) }, []string{"error volumes/v2: earlier volume v2 | " + someNonce}},
		{"a stranger's claim", func(g *testShare) { g.replace(".mooring/claims/v2/taken", `{"key":"v9","nonce":"`+someNonce+`"}`) },
			[]string{"note claims/v2: left by a volume v9", "error volumes/v2: volume v9 has the claim"}},
		{"one directory", func(g *testShare) {
			g.edit(".mooring/volumes/v2/record.json", `"directory": "v2"`, `"directory": "old"`)
			g.removeAll(".mooring/claims/v2")
		}, []string{`error volumes/v2: "old" is also that of volume v3`}},
		{"inside another", func(g *testShare) {
			g.edit(".mooring/volumes/v2/record.json", `"directory": "v2"`, `"directory": "old/v2"`)
			g.removeAll(".mooring/claims/v2")
			g.mkdir("old/v2")
		}, []string{`error volumes/v2: "old/v2" is inside that of volume v3, "old"`}},
		{"around others", func(g *testShare) {
			g.edit(".mooring/volumes/v2/record.json", `"directory": "v2"`, `"directory": "team"`)
			g.removeAll(".mooring/claims/v2")
		}, []string{`error volumes/v2: inside its directory "team"`}},
		{"no directory", func(g *testShare) { g.removeAll("v2") }, []string{`error volumes/v2: its directory "v2" does not exist`}},
		{"no parent", func(g *testShare) { g.removeAll("team/x") }, []string{`error volumes/v1: "team/x/v1" does not exist`}},
		{"a link", func(g *testShare) { g.rename("v2", "v2.moved"); g.must(os.Symlink("v2.moved", g.at("v2"))) }, []string{"error volumes/v2: symbolic link"}},
		{"a link above", func(g *testShare) { g.rename("team/x", "team/y"); g.must(os.Symlink("y", g.at("team/x"))) }, []string{"error volumes/v1: symbolic link"}},
		{"a file in the claims", func(g *testShare) {
			g.edit(".mooring/volumes/v2/record.json", `"directory": "v2"`, `"directory": "else/v2"`)
			g.removeAll(".mooring/claims/v2")
			g.mkdir("else/v2")
			g.put(".mooring/claims/else", "")
		}, []string{"error volumes/v2: something else in its place", "warning claims/else: nothing of that name"}},
		{"a mount", func(g *testShare) {
			if err := unix.Mount(g.at("old"), g.at("v2"), "", unix.MS_BIND, ""); err != nil {
				g.Skip(err)
			}
			g.Cleanup(func() { _ = unix.Unmount(g.at("v2"), unix.MNT_DETACH) })
		}, []string{"error volumes/v2: another file system"}},
		{"a file instead", func(g *testShare) { g.removeAll("v2"); g.put("v2", "") }, []string{"error volumes/v2: a file"}},
	}
}

func wrongSnapshots() []problemCase {
	return []problemCase{
		{"no tree", func(g *testShare) { g.removeAll(".mooring/snapshots/s3/data") }, []string{"error snapshots/s3: no tree"}},
		{"no snapshot of a shallow one", func(g *testShare) { g.removeAll(".mooring/snapshots/s3") }, []string{"error volumes/v5: snapshot s3 itself, which does not exist"}},
		{"no hold of a shallow one", func(g *testShare) { g.removeAll(".mooring/snapshots/s3/deletion") }, []string{"error volumes/v5: does not hold it"}},
		{"no group", func(g *testShare) { g.removeAll(".mooring/groups/g1") }, []string{"error snapshots/s1: group g1", "error snapshots/s2: group g1"}},
		{"another group", func(g *testShare) {
			g.edit(".mooring/groups/g1/record.json", `"nonce": "`, `"nonce": "`+someNonce+`", "was": "`)
		}, []string{"error groups/g1: s1, which was not made for it", "error groups/g1: s2, which was not made for it", "error snapshots/s1: group g1", "error snapshots/s2: group g1"}},
		{"no member", func(g *testShare) { g.removeAll(".mooring/snapshots/s1") }, []string{"error groups/g1: s1, which does not exist"}},
		{"a member that goes", func(g *testShare) {
			g.rename(".mooring/snapshots/s1/record.json", ".mooring/snapshots/s1/deletion")
		}, []string{"error groups/g1: s1, which is not complete", "warning snapshots/s1: deletion of snapshot s1"}},
	}
}

func wrongHolds() []problemCase {
	return []problemCase{
		{"a change", func(g *testShare) { g.mkdir(".mooring/volumes/v1/deletion/change") }, []string{"warning volumes/v1/deletion/change: not finished"}},
		{"a copy that is no more", func(g *testShare) {
			g.put(".mooring/volumes/v1/deletion/copy.volume.v9."+someNonce, "")
		}, []string{"warning volumes/v1/deletion/copy.volume.v9.NONCE: as volume v9, which is not being made"}},
		{"a copy that ended", func(g *testShare) {
			g.put(".mooring/volumes/v1/deletion/copy.volume.v4."+nonceIn(g, "volumes/v4"), "")
		}, []string{"warning volumes/v1/deletion/copy.volume.v4.NONCE: as volume v4"}},
		{"a hold of nobody", func(g *testShare) { g.put(".mooring/volumes/v1/deletion/x", "") }, []string{"warning volumes/v1/deletion/x: nothing of that name"}},
		{"a sealed snapshot of a shallow one", func(g *testShare) { g.put(".mooring/snapshots/s3/deletion/sealed", "") }, []string{"warning snapshots/s3/deletion/sealed: deletion of snapshot s3 was begun", "error volumes/v5: snapshot s3 itself, which is being deleted"}},
		{"a user of no name", func(g *testShare) { g.put(".mooring/snapshots/s3/deletion/user.x", "") }, []string{"warning snapshots/s3/deletion/user.x: no volume can"}},
		{"a user that is no more", func(g *testShare) { g.removeAll(".mooring/volumes/v5") }, []string{"note snapshots/s3/deletion/user.v5.NONCE: volume v5, which was"}},
		{"another user", func(g *testShare) {
			g.put(".mooring/snapshots/s3/deletion/user.v1."+someNonce, "")
		}, []string{"note snapshots/s3/deletion/user.v1.NONCE: volume v1, which was"}},
	}
}

// nonceIn returns the nonce of an entry.
func nonceIn(g *testShare, entry string) string {
	g.Helper()
	_, nonce := decodeIdentity([]byte(g.text(".mooring/" + entry + "/record.json")))
	return nonce
}

func wrongClaims() []problemCase {
	return []problemCase{
		{"a claim that was left", func(g *testShare) { g.removeAll(".mooring/volumes/v2") }, []string{"note claims/v2: volume v2, with the nonce"}},
		{"a claim of an earlier one", func(g *testShare) {
			g.put(".mooring/claims/else/taken", `{"key":"v2","nonce":"`+someNonce+`"}`)
		}, []string{"note claims/else: volume v2, with the nonce " + someNonce}},
		{"a claim on two", func(g *testShare) {
			g.mkdir(".mooring/claims/else")
			g.must(os.Link(g.at(".mooring/volumes/v2/record.json"), g.at(".mooring/claims/else/taken")))
		}, []string{`error claims/else: volume v2, whose directory is "v2"`}},
		{"nobody's claim", func(g *testShare) { g.put(".mooring/claims/else/taken", "{") }, []string{"error claims/else: does not name its owner"}},
		{"a bar", func(g *testShare) {
			g.put(".mooring/claims/else/taken", "")
			g.mkdir(".mooring/claims/else/dead")
		}, []string{"warning claims/else: barred"}},
		{"a volume's claim is empty", func(g *testShare) { g.replace(".mooring/claims/v2/taken", "") },
			[]string{"warning claims/v2: barred", "error volumes/v2: does not name its owner"}},
		{"a dead parent", func(g *testShare) { g.mkdir(".mooring/claims/team/dead") }, []string{`error claims/team/dead: idle parent directory "team"`}},
		{"an empty one", func(g *testShare) { g.mkdir(".mooring/claims/else") }, nil}, // as of a volume in the trash
		{"an empty one below", func(g *testShare) { g.mkdir(".mooring/claims/team/taken/else") }, []string{"note claims/team/taken/else: nobody has a claim"}},
		{"a parent of none", func(g *testShare) { g.mkdir(".mooring/claims/else/taken") }, []string{`note claims/else: "else", but there are none`}},
		{"an owner without a claim", func(g *testShare) { g.put(".mooring/claims/else/v9."+someNonce, "") }, []string{"warning claims/else/v9.NONCE: released"}},
		{"a file", func(g *testShare) { g.put(".mooring/claims/else", "") }, []string{"warning claims/else: nothing of that name"}},
		{"a file beside a claim", func(g *testShare) { g.put(".mooring/claims/v2/x", "") }, []string{"warning claims/v2/x: nothing of that name"}},
		{"strays", func(g *testShare) {
			for _, name := range []string{"stray", "team/x/stray", "full/of", ".mooring2"} {
				g.mkdir(name)
			}
		}, []string{"note stray: belongs to no volume", "note team/x/stray: belongs to no volume", "note .mooring2: belongs to no volume"}},
	}
}

func wrongTrash() []problemCase {
	tree := func(g *testShare) string { return strings.TrimSuffix(g.glob(".mooring/trash/v6.*[0-9a-f]"), "/") }
	file := func(g *testShare) string { return g.glob(".mooring/trash/v6.*.json") }
	return []problemCase{
		{"no name", func(g *testShare) { g.mkdir(".mooring/trash/v6") }, []string{"warning trash/v6: nothing of that name"}},
		{"no record in the trash", func(g *testShare) { g.removeAll(file(g)) }, []string{"error trash/v6.NONCE: volume v6, whose deletion"}},
		{"no record of a snapshot", func(g *testShare) { g.removeAll(g.glob(".mooring/trash/s4.*.json")) }, []string{"error trash/s4.NONCE.snapshot: snapshot s4, whose deletion"}},
		{"the tree of one that exists", func(g *testShare) {
			g.rename(tree(g), ".mooring/trash/v2."+nonceIn(g, "volumes/v2"))
			g.removeAll(file(g))
		}, []string{"error trash/v2.NONCE: volume v2, which exists"}},
		{"no tree in the trash", func(g *testShare) { g.removeAll(tree(g)) }, []string{"note trash/v6.NONCE: only the record"}},
		{"a file in the trash", func(g *testShare) { path := tree(g); g.removeAll(path); g.put(path, "") }, []string{"error trash/v6.NONCE: no directory"}},
		{"half a record in the trash", func(g *testShare) { g.must(os.Truncate(g.at(file(g)), 9)) }, []string{"warning trash/v6.NONCE.TIMES: cannot be believed"}},
		{"a newer record in the trash", func(g *testShare) { g.edit(file(g), "{", "{"+newer) }, []string{"warning trash/v6.NONCE.TIMES: teleport"}},
		{"a much newer record in the trash", func(g *testShare) {
			g.replace(file(g), `{"version": 9, `+newer+`"key": {}}`)
		}, []string{"warning trash/v6.NONCE.TIMES: teleport"}},
		{"another's record in the trash", func(g *testShare) { g.edit(file(g), `"nonce": "`, `"nonce": "`+someNonce+`", "was": "`) }, []string{"warning trash/v6.NONCE.TIMES: " + someNonce}},
		{"a directory as a record", func(g *testShare) { path := file(g); g.removeAll(path); g.mkdir(path) }, []string{"warning trash/v6.NONCE.TIMES: is a directory"}},
		{"the record of one that is back", func(g *testShare) {
			r, err := g.Volumes.Lookup(g.Context(), "v7")
			g.must(err)
			name := volume.TrashRecordName(r.Restored.Entry, r.Restored.Deleted, r.Restored.Due)
			_, nonce, _ := cutNonce(r.Restored.Entry)
			g.put(".mooring/trash/"+name, strings.Replace(g.text(".mooring/volumes/v7/record.json"), r.Nonce, nonce, 1))
		}, []string{"note trash/v7.NONCE: only the record"}},
		{"purging", func(g *testShare) { g.removeAll(file(g)); path := tree(g); g.rename(path, path+".purging") }, []string{"note trash/v6.NONCE: being purged"}},
		{"purging, with a record", func(g *testShare) { path := tree(g); g.rename(path, path+".purging") }, nil},
	}
}

// matches reports whether the expected problems were found: of "severity path: one | two" both parts must be
// in the message.
func (w problemCase) matches(got []string) bool {
	if len(got) != len(w.finds) {
		return false
	}
	slices.Sort(got)
	for i, line := range got {
		where, what, _ := strings.Cut(line, ": ")
		head, parts, _ := strings.Cut(w.finds[i], ": ")
		where = dates.ReplaceAllString(nonces.ReplaceAllString(where, "NONCE"), ".TIMES")
		if where != head {
			return false
		}
		for part := range strings.SplitSeq(parts, " | ") {
			if !strings.Contains(what, part) {
				return false
			}
		}
	}
	return true
}
