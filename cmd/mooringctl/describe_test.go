// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
)

const describedVolume = `Handle:     nas1/pvc-1
State:      ready
Claim:      shop/db
Capacity:   1Gi
Created:    2001-09-09T01:46:40Z
On delete:  delete, kept in the trash for 1h0m0s
Owner:      uid 1000, gid -, mode 0770
Source:     -
Restored:   -
Maker:      0a1b2c3d
Directory:  shop?db (missing, not claimed)
Share:      nas1, 10.0.0.1:/a, NFS 4.2, 1Gi of 4Gi free
Snapshots:
  HANDLE        SIZE   CREATED
  nas1/snap-1   2Ki    2001-09-09T01:46:40Z
Copies:     none
Trash:      none
`

const describedDeleted = `Handle:     nas1/pvc-1
State:      deleted
Share:      nas1, 10.0.0.1:/a, not reachable
Snapshots:  none
Copies:     none
Trash:
  ENTRY                         KIND     STATE   CLAIM     CAPACITY   DELETED   PURGED
  nas1/pvc-1.6d8f3b0a9c2e4175   volume   whole   shop/db   1Gi        -         now

To restore it: mooringctl trash restore nas1/pvc-1.6d8f3b0a9c2e4175
`

func TestDescription(t *testing.T) {
	uid, free, total := uint32(1000), int64(1<<30), int64(4<<30)
	created, claim := time.Unix(1e9, 0), &volume.PVC{Namespace: "shop", Name: "db"}
	share := admin.Health{Share: "nas1", Export: "10.0.0.1:/a", Reachable: true, Version: "4.2", Free: &free, Total: &total}
	live := &admin.Description{
		Handle: "nas1/pvc-1", Share: share, Directory: &admin.Directory{Path: "shop\x1bdb"},
		Volume: &admin.Volume{
			Handle: "nas1/pvc-1", State: "ready", Claim: claim, Directory: "shop\x1bdb", Capacity: 1 << 30, Created: created,
			OnDelete: volume.Delete, Retention: "1h0m0s", UID: &uid, Mode: "0770", Maker: "0a1b2c3d",
		},
		Snapshots: []admin.Snapshot{{Handle: "nas1/snap-1", Volume: "nas1/pvc-1", Size: 2 << 10, Created: created}},
	}
	deleted := &admin.Description{
		Handle: "nas1/pvc-1", Share: admin.Health{Share: "nas1", Export: "10.0.0.1:/a"},
		Trash: []admin.Deleted{{Entry: "nas1/pvc-1.6d8f3b0a9c2e4175", Kind: "volume", State: "whole", Claim: claim, Capacity: 1 << 30}},
	}
	for want, d := range map[string]*admin.Description{describedVolume: live, describedDeleted: deleted} {
		if got := description(d); got != want {
			t.Errorf("description =\n%s\nwant\n%s", got, want)
		}
	}
	var b bytes.Buffer
	if err := printDocument(&b, "json", live, description); err != nil {
		t.Fatal(err)
	}
	var got admin.Description
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Volume.Claim.Name != "db" || *got.Share.Free != free {
		t.Errorf("JSON = %s, %v", &b, err)
	}
	for want, state := range map[string]admin.Directory{
		"exists, claimed by this volume": {Exists: true, ClaimedBy: "nas1/pvc-1"}, "exists, claimed by nas1/pvc-2": {Exists: true, ClaimedBy: "nas1/pvc-2"},
	} {
		if got := directoryState(&admin.Description{Handle: "nas1/pvc-1", Directory: &state}); got != want {
			t.Errorf("directory: %q, want %q", got, want)
		}
	}
}
