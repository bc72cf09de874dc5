// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	onshare "github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab"
)

// parents makes volumes with subDir: ns-N/pvc on the server's disk as a controller does: each has a
// parent of its own.
func parents(s *site, n int) {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	for i := range n {
		key, parent := fmt.Sprintf("pvc-%d", i), fmt.Sprintf("ns-%d", i)
		data, err := volume.Record{
			Key: key, Name: key, Directory: parent + "/pvc", OnDelete: volume.Delete,
			Maker: "0a1b2c3d", Run: "4e5f6071", Nonce: fmt.Sprintf("%016x", i), Created: time.Now().UTC(),
		}.Encode()
		must(err)
		entry, claim := s.at(".mooring/volumes", key), s.at(".mooring/claims", parent, "taken/pvc")
		for _, dir := range []string{entry, claim, s.at(parent, "pvc")} {
			must(os.MkdirAll(dir, 0o700))
		}
		must(os.WriteFile(entry+"/record.json", data, 0o600))
		must(os.Link(entry+"/record.json", claim+"/taken"))
		for _, note := range []string{"c.", "d."} {
			must(os.WriteFile(s.at(".mooring/parents", note+parent), nil, 0o600))
		}
	}
}

// TestOpenMany opens a share with two thousand volumes, each in a parent of its own: this costs as many
// RPCs as with two volumes.
func TestOpenMany(t *testing.T) {
	var sites [2]*site
	for i, n := range []int{2, 2000} {
		path := fmt.Sprintf("%s/open-%d", lab.Exports, n)
		s := newSiteAt(t, path, path)
		sites[i] = s
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		laid, err := onshare.Open(path, definition(s), onshare.Options{Maker: "0a1b2c3d", Initialize: true})
		if err != nil {
			t.Fatal(err)
		}
		laid.Close()
		parents(s, n)
	}
	for _, version := range versions {
		var cost [2]lab.Counts
		for i, s := range sites {
			at := filepath.Join(s.dir, version)
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			s.mount(at, "nosharecache,nfsvers="+version)
			cost[i] = opening(s, at)
		}
		if cost[0].Total() < 5 || !maps.Equal(cost[1].ByKind, cost[0].ByKind) {
			t.Errorf("by NFS %s it costs %v with two thousand, and with two %v", version, cost[1], cost[0])
		}
	}
}

func definition(s *site) volume.Share {
	return volume.Share{Name: "nas1", Servers: []string{lab.Server}, Path: s.path}
}

// opening counts the RPCs of opening a mounted share.
func opening(s *site, at string) lab.Counts {
	s.t.Helper()
	ours := func(_, target string) bool { return target == at }
	before, err := lab.Count(os.Getpid(), ours)
	if err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	sh, err := onshare.Open(at, definition(s), onshare.Options{Maker: "4e5f6071"})
	took := time.Since(began)
	if err != nil {
		s.t.Fatal(err)
	}
	defer sh.Close()
	after, err := lab.Count(os.Getpid(), ours)
	if err != nil {
		s.t.Fatal(err)
	}
	cost := after.Since(before)
	s.t.Logf("%s: it takes %v: %v", at, took.Round(10*time.Microsecond), cost)
	for _, kind := range []string{"CLOSE", "DELEGRETURN", "RENEW"} { // the client sends them at any time
		delete(cost.ByKind, kind)
	}
	return cost
}
