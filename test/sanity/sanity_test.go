// SPDX-License-Identifier: Apache-2.0

package sanity

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
)

// testConfig makes the suite run all its tests, with repeated calls.
func testConfig(dir, endpoint string) sanity.TestConfig {
	c := sanity.NewTestConfig()
	c.Address = endpoint
	c.TargetPath = filepath.Join(dir, "target")
	c.StagingPath = filepath.Join(dir, "staging")
	c.TestVolumeParameters = map[string]string{"share": "nas1"}
	c.TestVolumeMutableParameters = map[string]string{"onDelete": "delete", "trashRetention": "0s"}
	c.TestNodeVolumeAttachLimit = true
	return c
}

// leftOn lists what is left on a share after all volumes are deleted and the trash is purged.
func leftOn(t *testing.T, export string) []string {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		left = nil
		err := filepath.WalkDir(export, func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if name, _ := filepath.Rel(export, path); !layout[name] {
				left = append(left, name)
			}
			return nil
		})
		if err == nil && left == nil {
			return nil
		}
	}
	return left
}

// layout is Mooring's own files on an empty share.
var layout = map[string]bool{
	".": true, ".mooring": true, ".mooring/format.json": true, ".mooring/heartbeat": true, ".mooring/volumes": true, ".mooring/claims": true, ".mooring/parents": true,
	".mooring/snapshots": true, ".mooring/groups": true, ".mooring/jobs": true, ".mooring/staging": true, ".mooring/trash": true,
}
