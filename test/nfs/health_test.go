// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// The address and export of the second server.
const (
	secondServer = "10.77.0.2"
	secondExport = "/second"
)

// second starts the lab's second server, makes a directory on it, and returns the exported path of that.
func second(t *testing.T) string {
	t.Helper()
	if err := lab.Do("second"); err != nil {
		t.Fatal(err)
	}
	dir := secondExport + "/" + strings.ReplaceAll(t.Name(), "/", "-")
	mkdir(t, lab.View+dir)
	return dir
}

// accident causes an accident of the second server until the test ends or over is called.
func accident(t *testing.T, begin, end string) (over func()) {
	t.Helper()
	begun := true
	over = func() {
		if begun {
			begun = false
			if err := lab.Do("second", end); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(over)
	if err := lab.Do("second", begin); err != nil {
		t.Fatal(err)
	}
	return over
}

// health returns the reasons that the node reports for a volume.
func (a *seat) health(target string) []string {
	a.t.Helper()
	r, err := a.node.Node.NodeGetVolumeHealth(soon(a.t), &csi.NodeGetVolumeHealthRequest{
		VolumeId: a.volume.VolumeId, VolumePublishPath: target,
	})
	a.must(err)
	return reasons(a.t, r.GetVolumeHealth())
}

func reasons(t *testing.T, h *csi.VolumeHealth) []string {
	t.Helper()
	var all []string
	for _, c := range h.GetHealthStatuses() {
		all = append(all, c.GetReason())
		if c.GetStatus() == 0 || c.GetMessage() == "" {
			t.Errorf("a condition says too little: %v", c)
		}
	}
	slices.Sort(all)
	return all
}

func wantReasons(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the reasons are %q, want %q", got, want)
	}
}

// static returns a static volume.
func static(id string, attributes ...string) *csi.Volume {
	v := &csi.Volume{VolumeId: id, VolumeContext: map[string]string{}}
	for i := 0; i < len(attributes); i += 2 {
		v.VolumeContext[attributes[i]] = attributes[i+1]
	}
	return v
}

// TestStale replaces a volume's directory on the server: the next pod gets the new one, no matter which
// call notices first, and the earlier pod can be removed.
func TestStale(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", "dir"))
			for i, notice := range []func(){
				func() { wantReasons(t, a.health(a.target("old")), "StaleFileHandle") },
				func() { time.Sleep(expiry) }, // by the next publication
				func() { time.Sleep(expiry); s.kill(a.node); a.node = s.start("node", "node") },
			} {
				a.must(a.publish("old", false))
				write(t, a.target("old/data"), "before")
				a.must(os.RemoveAll(s.at("dir")))
				mkdir(t, s.at("dir"))
				notice()
				a.must(a.publish("new", false))
				a.must(a.publish("newer", false))
				write(t, a.target("new/data"), "after")
				for _, at := range []string{s.at("dir/data"), a.target("newer/data")} {
					if data, err := os.ReadFile(at); string(data) != "after" {
						t.Fatalf("%d: at %s there is %q (%v)", i, at, data, err)
					}
				}
				wantReasons(t, a.health(a.target("new")))
				wantReasons(t, a.health(a.target("newer")))
				wantReasons(t, a.health(a.target("old")), "StaleFileHandle")
				a.mounted("old", "new", "newer")
				for _, pod := range []string{"old", "new", "newer"} {
					a.must(a.unpublish(pod))
				}
			}
			a.leave()
		})
	}
}

// TestSingleWriterStale checks that a pod with a stale mount counts as a pod.
func TestSingleWriterStale(t *testing.T) {
	s := newSite(t)
	a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", "dir"))
	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	a.must(a.publish("pod", false))
	a.must(os.RemoveAll(s.at("dir")))
	mkdir(t, s.at("dir"))
	wantReasons(t, a.health(""), "StaleFileHandle")
	wantCode(t, a.publish("second", false), codes.FailedPrecondition, "for a single pod", a.target("pod"))
	a.must(a.unpublish("pod"))
	a.must(a.publish("second", false))
	a.leave("second")
}

// TestNodeHealth provokes each reason.
func TestNodeHealth(t *testing.T) {
	s := newSite(t)
	if err := lab.Do("export", "readonly"); err != nil {
		t.Fatal(err)
	}
	dir := second(t)
	mkdir(t, s.add("ro", "/readonly", lab.View+"/readonly")+"/v")
	s.config += "  - {name: far, servers: [" + secondServer + "], path: " + dir + "}\n"
	mkdir(t, lab.View+dir+"/v")
	node := s.start("node", "node")
	a := s.seat(node, s.mustCreate("pvc-1", ""))
	a.must(a.publish("pod", false))
	wantReasons(t, a.health(a.target("pod")))

	_, err := node.Node.NodeGetVolumeHealth(soon(t), &csi.NodeGetVolumeHealthRequest{VolumeId: "nas1/other", VolumePublishPath: a.target("none")})
	wantCode(t, err, codes.NotFound, "nas1/other", "is not mounted")
	_, err = node.Node.NodeGetVolumeHealth(soon(t), &csi.NodeGetVolumeHealthRequest{VolumeId: "nas1/pvc-1", VolumePublishPath: "relative"})
	wantCode(t, err, codes.InvalidArgument, "relative")
	r, err := node.Node.NodeGetVolumeHealth(soon(t), &csi.NodeGetVolumeHealthRequest{VolumeId: "nas1/pvc-1"})
	a.must(err)
	wantReasons(t, reasons(t, r.GetVolumeHealth()))

	ro := s.held(node, static("archive", "share", "ro", "subDir", "v"))
	wantReasons(t, ro.health(""), "ReadOnlyServer")
	ro.leave()

	a.must(unix.Unmount(a.target("pod"), 0))
	wantReasons(t, a.health(""), "NotMounted")
	a.must(a.publish("pod", false))
	wantReasons(t, a.health(a.target("pod")))

	far := s.held(node, static("far-away", "share", "far", "subDir", "v"))
	over := accident(t, "cut", "heal")
	wantReasons(t, far.health(""), "ServerUnreachable")
	storage, err := node.Node.NodeGetStorageHealth(soon(t), &csi.NodeGetStorageHealthRequest{})
	a.must(err)
	if h := storage.GetBackendHealth(); len(h) != 1 || h[0].GetStatus() != csi.StorageHealthErrorType_STORAGE_UNREACHABLE || !strings.Contains(h[0].GetMessage(), "share far") {
		t.Errorf("the storage is %v", h)
	}
	wantReasons(t, a.health(a.target("pod")))
	over()
	eventually(t, waitTimeout, "the server is reachable", func() bool { return len(far.health("")) == 0 })
	far.leave()

	rewrite(s, strings.Replace(s.config, "servers: ["+lab.Server+"]", "servers: [localhost]", 1), node)
	eventually(t, waitTimeout, "the server has moved", func() bool { return slices.Equal(a.health(""), []string{"ServerMoved"}) })
	rewrite(s, strings.Replace(s.config, "name: nas1", "name: nas2", 1), node)
	eventually(t, waitTimeout, "the share is not registered", func() bool { return slices.Equal(a.health(""), []string{"ShareNotRegistered"}) })
	a.leave("pod")
}

// TestHealthChangesNothing asks for health and usage again and again: the server's directory keeps its
// times and its set-group-ID bit, and the server gets no more requests than necessary.
func TestHealthChangesNothing(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", "dir"))
			a.must(a.publish("pod", false))
			a.must(os.Chown(s.at("dir"), 1000, 1000))
			a.must(os.Chmod(s.at("dir"), 0o775|os.ModeSetgid))
			look := func() (st unix.Stat_t) { a.must(unix.Stat(s.at("dir"), &st)); return st }
			before := look()
			for range 3 {
				trips := tripsOf(s)
				wantReasons(t, a.health(a.target("pod")))
				d := tripsOf(s).Since(trips)
				if t.Logf("its health cost the server %v", d); d.Total() > 4 || d.ByKind["SETATTR"] > 0 || (version == "4.2") != (d.ByKind["REMOVEXATTR"] == 1) {
					t.Error("and that is too much, or less than is to be asked")
				}
				trips = tripsOf(s)
				_, err := a.stats(a.target("pod"))
				a.must(err)
				d = tripsOf(s).Since(trips)
				if t.Logf("usage cost the server %v", d); d.Total() > 2 {
					t.Error("and that is too much")
				}
			}
			if now := look(); now != before {
				t.Errorf("the directory was %+v, and is %+v", before, now)
			}
			a.leave("pod")
		})
	}
}

// TestHealthChangesNothingSquashed asks about directories in which root, which the server maps to nobody,
// may not write: their modes, of which a chmod(2) would drop a bit, and ctimes remain.
func TestHealthChangesNothingSquashed(t *testing.T) {
	s := newSite(t)
	const nobody, other, group = 65534, 1234, 5678
	squashed := s.add("squashed", "/squash", lab.View+"/squash")
	node := s.start("node", "node")
	for i, owner := range []struct {
		uid  int
		mode uint32
	}{{other, 0o2755}, {other, 0o2555}, {nobody, 0o2555}, {nobody, 0o2755}} {
		name := fmt.Sprint("v", i)
		dir := filepath.Join(squashed, name)
		mkdir(t, dir)
		a := s.held(node, static(name, "share", "squashed", "subDir", name))
		a.must(errors.Join(os.Chown(dir, owner.uid, group), unix.Chmod(dir, owner.mode)))
		var before, after unix.Stat_t
		a.must(unix.Stat(dir, &before))
		wantReasons(t, a.health(a.target(holder)))
		a.must(unix.Stat(dir, &after))
		if before.Mode&0o7777 != owner.mode || before != after {
			t.Errorf("of %d with mode %o: before the question it is %+v, and then %+v", owner.uid, owner.mode, before, after)
		}
		a.leave()
	}
}

// TestControllerHealth provokes each reason that the controller reports.
func TestControllerHealth(t *testing.T) {
	s := newSite(t)
	far := second(t)
	s.config += "  - {name: far, servers: [" + secondServer + "], path: " + far + "}\n"
	for _, name := range []string{"a", "b", "c", "d"} {
		s.mustCreate("pvc-"+name, name)
	}
	if _, err := s.create("pvc-far", params{"share": "far"}); err != nil {
		t.Fatal(err)
	}
	health := func(id string) []string {
		t.Helper()
		r, err := s.ctl.Controller.ControllerGetVolumeHealth(soon(t), &csi.ControllerGetVolumeHealthRequest{VolumeId: id})
		if err != nil {
			t.Fatal(err)
		}
		return reasons(t, r.GetVolumeHealth())
	}
	list := func(most int32) (all []string) {
		t.Helper()
		for token := ""; ; {
			r, err := s.ctl.Controller.ControllerListVolumeHealth(soon(t), &csi.ControllerListVolumeHealthRequest{MaxEntries: most, StartingToken: token})
			if err != nil {
				t.Fatal(err)
			}
			if most > 0 && len(r.GetEntries()) > int(most) {
				t.Fatalf("%d entries, of %d at most", len(r.GetEntries()), most)
			}
			for _, e := range r.GetEntries() {
				all = append(all, e.GetVolumeId()+": "+strings.Join(reasons(t, e), ", "))
			}
			if token = r.GetNextToken(); token == "" {
				return all
			}
		}
	}
	wantReasons(t, list(0))
	if err := os.Rename(s.at("a"), s.at("moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.at("b")); err != nil {
		t.Fatal(err)
	}
	write(t, s.at("b"), "a file")
	write(t, s.at(".mooring/volumes/pvc-c/record.json"), "{")
	s.restart() // the new one has no records in its cache
	wantReasons(t, health("nas1/pvc-a"), "DirectoryMissing")
	wantReasons(t, health("nas1/pvc-b"), "DirectoryMissing")
	wantReasons(t, health("nas1/pvc-c"), "RecordDamaged")
	wantReasons(t, health("nas1/pvc-d"))
	wantReasons(t, health("nas9/pvc-a"), "ShareNotRegistered")
	_, err := s.ctl.Controller.ControllerGetVolumeHealth(soon(t), &csi.ControllerGetVolumeHealthRequest{VolumeId: "nas1/none"})
	wantCode(t, err, codes.NotFound, "none")
	unwell := []string{"nas1/pvc-a: DirectoryMissing", "nas1/pvc-b: DirectoryMissing", "nas1/pvc-c: RecordDamaged"}
	wantReasons(t, list(0), unwell...)
	over := accident(t, "cut", "heal")
	wantReasons(t, health("far/pvc-far"), "ServerUnreachable")
	for most := range int32(4) {
		wantReasons(t, list(most), append([]string{"far/pvc-far: ServerUnreachable"}, unwell...)...)
	}
	over()
	eventually(t, waitTimeout, "the share is well again", func() bool { return len(health("far/pvc-far")) == 0 })
	wantReasons(t, list(2), unwell...)
}
