// SPDX-License-Identifier: Apache-2.0

//go:build lab

// Package sanity runs the CSI conformance suite, csi-sanity, with nothing skipped.
package sanity

import (
	"os"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/mooring-csi/mooring/test/lab"
)

// TestRealServer runs the suite against the real program and a real NFS server.
func TestRealServer(t *testing.T) {
	export := lab.Exports + "/sanity"
	if err := os.Mkdir(export, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := lab.Start("all", t.TempDir(), lab.Registry("nas1", export), "--node-id", "node-1", "--max-volumes-per-node", "20")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Errorf("the program did not end well: %v", err)
		}
		if n, _ := lab.Mounts(os.Getpid()); n != 0 {
			t.Errorf("%d NFS mounts are left", n)
		}
		if t.Failed() {
			t.Log(d.Log())
		}
	}()
	sanity.Test(t, testConfig(t.TempDir(), d.Endpoint))
	if left := leftOn(t, export); len(left) > 0 {
		t.Errorf("left on the share: %v", left)
	}
}
