// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
)

// TestStatic mounts static volumes, with our parameters and those of csi-driver-nfs, and deletes none of
// them.
func TestStatic(t *testing.T) {
	s := newSite(t)
	s.config = "unregistered: allow\n" + s.config
	write(t, s.at("data/set/file"), "kept")
	node := s.start("node", "node")
	s.open() // nothing is deleted on a share that is not initialized
	before := tree(t, s.at("data"))
	for name, c := range map[string]struct {
		volume  *csi.Volume
		options []string
		file    string // its path in the pod
		shows   string // among the mount's options
	}{
		"a share":              {static("a", "share", "nas1", "subDir", "data/set"), []string{"nfsvers=4.1"}, "file", "vers=4.1"},
		"a server":             {static("b", "server", lab.Server, "share", s.path, "subDir", "data"), nil, "set/file", "vers=4.2"},
		"with slashes":         {static("c", "server", lab.Server, "share", s.path+"/", "subDir", "/data/"), nil, "set/file", "vers=4.2"},
		"a whole export":       {static("d", "server", lab.Server, "share", s.path), []string{"nfsvers=3", "nolock"}, "data/set/file", "vers=3"},
		"options as attribute": {static("e", "server", lab.Server, "share", s.path, "mountOptions", "nfsvers=4.1,noatime"), []string{"nfsvers=4.0"}, "data/set/file", "vers=4.0"},
		"an id with slashes":   {static("nas1/f", "share", "nas1", "subDir", "data"), nil, "set/file", "vers=4.2"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.seat(node, c.volume, c.options...).withT(t)
			a.must(a.hold())
			a.must(a.publish("pod", false))
			if data, err := os.ReadFile(a.target("pod/" + c.file)); string(data) != "kept" {
				t.Errorf("the pod reads %q (%v)", data, err)
			}
			if m := a.mount(a.target("pod")); !strings.Contains(","+m.VFSOptions+",", ","+c.shows+",") {
				t.Errorf("mounted with %s", m.VFSOptions)
			}
			a.leave("pod")
			if err := s.delete(c.volume.VolumeId); err != nil {
				t.Errorf("to delete it is an error: %v", err)
			}
		})
	}
	if d := differences(before, tree(t, s.at("data"))); d != nil {
		t.Errorf("changed: %q", d)
	}
}

// TestMountOptions publishes with options that are not available.
func TestMountOptions(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "")
	node := s.start("node", "node")
	for option, says := range map[string]string{
		"addr=10.0.0.9":       "the address is the share's",
		"ro,remount":          "not remounted",
		"bind":                "not bound",
		"nfsvers=4.2,x-a=b":   "fstab(5)",
		`timeo="1,2"`:         "quotation marks",
		"nfsvers=9":           "one of 3, 4, 4.0, 4.1, 4.2",
		"sec=krb6":            "one of sys",
		"xprtsec=ssl":         "one of none, tls, mtls",
		"sec=none,bg":         "in the background",
		"proto=tcp,user=root": "only the driver mounts",
	} {
		a := s.seat(node, v, option)
		wantCode(t, a.hold(), codes.InvalidArgument, says)
		a.mounted()
	}
}

// TestServersInOrder uses a share whose first address is silent: the first mount costs one probe, and the
// next one none.
func TestServersInOrder(t *testing.T) {
	second(t) // its network has no host 10.77.0.9
	const dead = "10.77.0.9"
	s := newSite(t)
	v := s.mustCreate("pvc-1", "")
	var next []*csi.Volume
	for i := range 5 {
		next = append(next, s.mustCreate(fmt.Sprint("pvc-next-", i), ""))
	}
	s.config = strings.Replace(s.config, "servers: ["+lab.Server+"]", "servers: ["+dead+", "+lab.Server+"]", 1)
	node := s.start("node", "node")
	start := time.Now()
	a := s.held(node, v)
	first := time.Since(start)
	// A probe takes three seconds. On a busy machine a mount may take as long, but not each.
	quickest := first
	var others []*seat
	for _, v := range next {
		start = time.Now()
		others = append(others, s.held(node, v))
		quickest = min(quickest, time.Since(start))
	}
	if first > prompt || quickest > 2*time.Second {
		t.Errorf("the first mount took %v, the quickest of the next %v", first, quickest)
	}
	if m := a.mount(a.target(holder)); !strings.HasPrefix(m.Source, lab.Server+":") {
		t.Errorf("mounted is %s", m.Source)
	}
	storage, err := node.Node.NodeGetStorageHealth(soon(t), &csi.NodeGetStorageHealthRequest{})
	a.must(err)
	if h := storage.GetBackendHealth(); len(h) != 1 || h[0].GetStatus() != csi.StorageHealthErrorType_STORAGE_DEGRADED || !strings.Contains(h[0].GetMessage(), dead) {
		t.Errorf("the storage is %v", h)
	}
	for _, each := range append(others, a) {
		each.leave()
	}
	s.restart() // a controller with the same addresses
	s.mustCreate("pvc-2", "")
}
