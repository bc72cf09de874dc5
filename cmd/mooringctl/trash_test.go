// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestRestoredClaim(t *testing.T) {
	recorded := &volume.Record{Key: "pvc-1", PVC: &volume.PVC{Namespace: "team", Name: "old"}}
	for _, c := range []struct {
		claim  string
		record *volume.Record
		want   volume.PVC
		err    error
	}{
		{"", recorded, volume.PVC{Namespace: "team", Name: "old"}, nil},
		{"other/new", recorded, volume.PVC{Namespace: "other", Name: "new"}, nil},
		{"other/new", &volume.Record{Key: "pvc-1"}, volume.PVC{Namespace: "other", Name: "new"}, nil},
		{"", &volume.Record{Key: "pvc-1"}, volume.PVC{}, volume.ErrPrecondition},
		{"new", recorded, volume.PVC{}, volume.ErrInvalid},
		{"/new", recorded, volume.PVC{}, volume.ErrInvalid},
		{"other/", recorded, volume.PVC{}, volume.ErrInvalid},
		{"other/new/x", recorded, volume.PVC{}, volume.ErrInvalid},
	} {
		got, err := (&restoreOptions{claim: c.claim}).pvc(c.record)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q, %v: %v, %v, want %v, %v", c.claim, c.record.PVC, got, err, c.want, c.err)
		}
	}
}
