// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	lab "github.com/mooring-csi/mooring/test/lab/ground"
)

// decisive says for each operation before which step it is stopped while another has its place
// taken by a successor, and which of the deeds those are that make one, and that purge.
var decisiveSteps = []struct{ operation, step, successor, purge string }{
	{"create", "make the directory", "another's successor", "purge, another's successor"},
	{"create with parents", "rename the claim into place", "another's successor", "purge, another's successor"},
	{"create with an owner", "set the owner", "another's successor", "purge, another's successor"},
	{"adopt", "commit", "a successor", "purge, another's successor"},
	{"delete", "take the directory away", "purge, another's successor", "another's successor"},
	{"archive", "rename the directory to its archived name", "another's successor", "purge, another's successor"},
	{"retain", "release the claim", "another's successor", "purge, another's successor"},
	{"delete what was changed", "mark as being deleted, under the seal", "purge, another's successor", "another's successor"},
	{"archive what was changed", "seal the holds", "another's successor", "purge, another's successor"},
	{"retain what was changed", "mark as being deleted, under the seal", "another's successor", "purge, another's successor"},
	{"update", "rename the changed record into place", "a successor", "purge, another's successor"},
	{"restore", "rename the tree into its place", "another's successor", "purge, another's successor"},
	{"purge", "take the tree for its purge", "restoration, deletion", "purge, another's successor"},
	{"clone", "rename the tree into its place", "another's successor", "a purge of the source"},
	{"restore a snapshot", "rename the tree into its place", "a successor", "a purge of the source"},
	{"shallow", "commit", "another snapshot in the source's place", "a purge of the source"},
	{"delete a shallow one", "release the hold", "a successor", "a purge of the source"},
	{"snapshot", "commit", "another in the source's place", "a purge of the source"},
	{"delete a snapshot", "move the tree into the trash", "another snapshot in the source's place", "a purge of the source"},
	{"group", "commit", "a successor", "purge"},
	{"delete a group", "move the tree into the trash", "a successor", "purge"},
	{"tidy", "take an empty parent away", "a volume instead of a parent", "another tidy, a volume instead"},
}

// nfsScenarios are the scenarios without those whose projects are simulated.
func nfsScenarios() []scenario {
	return slices.DeleteFunc(scenarios(), func(sc scenario) bool { return sc.setProjects != nil })
}

// serverDir is a directory of the server, and the paths where two processes see it.
type serverDir struct{ server, first, other string }

// newViews makes an empty share in the directory.
func (s serverDir) newViews(t *testing.T) views {
	t.Helper()
	server, err := os.MkdirTemp(s.server, "share")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(server)
	return views{view{filepath.Join(s.first, name), server}, view{filepath.Join(s.other, name), server}}
}

// TestMain runs tests concurrently although the lab has one CPU: some of them mostly wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// needsLab skips a test if there is no NFS server.
func needsLab(t *testing.T) {
	t.Helper()
	if os.Getenv("MOORING_LAB") == "" {
		t.Skip("there is no NFS server here: run this by make test-lab")
	}
}

// TestPauseOnNFS is TestPause on real NFS mounts, of the oldest version and of the newest: one case
// of each operation with each kind of action of other processes. The two processes are on one
// mount, or on two machines: then the stopped one has cached what the other has changed. They are
// also on two mounts of one machine, where an NFSv4 server does not recall its delegations: there
// the operation stops only at the decisive step.
func TestPauseOnNFS(t *testing.T) {
	needsLab(t)
	t.Parallel()
	counts := map[string]int{}
	for _, sc := range nfsScenarios() {
		counts[sc.name] = sc.count(t)
	}
	for place, p := range []struct {
		version, name string
		other         func(t *testing.T) *lab.Machine // nil: on the mount of the first
	}{
		{"3", "one mount", nil},
		{"3", "two machines", lab.NewMachine},
		{"4.2", "one mount", nil},
		{"4.2", "two machines", lab.NewMachine},
		{"4.2", "two mounts", func(*testing.T) *lab.Machine { return lab.ThisMachine() }},
	} {
		t.Run("nfs"+p.version+"/"+p.name, func(t *testing.T) {
			server := lab.Exported(t)
			first := lab.ThisMachine().Mount(t, p.version, server)
			other := first
			if p.other != nil {
				other = p.other(t).Mount(t, p.version, server)
			}
			pauseOn(t, serverDir{server, first, other}, counts, place)
		})
	}
}

// TestPauseOnMounts is the part of TestPauseOnNFS with the decisive steps, on existing mounts of any
// server. MOORING_PAUSE has three mount points of one empty directory, with colons between them: for
// the check of the result, for the process that stops, and for the other one. test/servers sets it.
func TestPauseOnMounts(t *testing.T) {
	dirs := strings.Split(os.Getenv("MOORING_PAUSE"), ":")
	if len(dirs) != 3 {
		t.Skip("MOORING_PAUSE has no mount points: run this by make servers")
	}
	// The check of the result is a client, too. On CephFS and GlusterFS two quick changes of a
	// directory can seem to be one to a client that has listed it in between: it does not list it again.
	dropCaches = func() {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			t.Error(err)
		}
	}
	counts := map[string]int{}
	for _, sc := range nfsScenarios() {
		counts[sc.name] = sc.count(t)
	}
	pauseOn(t, serverDir{dirs[0], dirs[1], dirs[2]}, counts, maxStops)
}

// count returns how many steps the operation has.
func (sc scenario) count(t *testing.T) (n int) {
	s := scenarioRun{t, sc, func(t *testing.T) views {
		v := localView(t.TempDir())
		return views{v, v}
	}}
	v, _, was := s.newShare()
	s.open(v.first, "", Options{Maker: maker, Lease: expiredLease, Step: func(string) { n++ }}, func(a *actor) {
		n = 0 // without the steps of Open
		a.was = was
		if _, err := s.run(a); err != nil {
			t.Errorf("%s: %v", sc.name, err)
		}
	})
	return n
}

// places is on how many pauseOn stops at more than the decisive step: at others on each of them.
const maxStops = 4

func pauseOn(t *testing.T, where serverDir, counts map[string]int, place int) {
	cases := 0
	var l leftEmpty
	t.Cleanup(func() { t.Logf("%d cases; left in the end: %+v", cases, l) })
	for _, sc := range nfsScenarios() {
		t.Run(sc.name, func(t *testing.T) {
			s := scenarioRun{t, sc, where.newViews}
			stop := func(m stopPoint, name string) {
				cases++
				if !s.runPaused(m, sc.action(t, name), &l) {
					t.Errorf("it does not reach %+v", m)
				}
			}
			i := slices.IndexFunc(decisiveSteps, func(d struct{ operation, step, successor, purge string }) bool {
				return d.operation == sc.name
			})
			if i < 0 {
				t.Fatal("decisiveSteps does not have it")
			}
			at := decisiveSteps[i]
			stop(stopPoint{step: at.step}, at.successor)
			if place >= maxStops {
				return
			}
			others := []string{"the same", "the opposite", at.purge}
			for j, name := range others {
				n := (j*maxStops + place) * counts[sc.name] / (len(others) * maxStops)
				stop(stopPoint{n: n + 1}, name)
			}
		})
	}
}

// action returns an action by its name.
func (sc scenario) action(t *testing.T, name string) action {
	t.Helper()
	for _, d := range sc.actions() {
		if d.name == name {
			return d
		}
	}
	t.Fatalf("there is no action %q", name)
	return action{}
}
