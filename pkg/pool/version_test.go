// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// TestVersions has a share be mounted by several NFS versions: it is known which, and what was not
// asked for, and is less than NFS 4, is told.
func TestVersions(t *testing.T) {
	for _, c := range []struct {
		options []string
		got     string
		told    bool
	}{
		{nil, "4.2", false},
		{nil, "3", true},
		{[]string{"vers=4"}, "4.1", false},
		{[]string{"nfsvers=3"}, "3", false},
		{[]string{"v3"}, "3", false},
	} {
		r := newRig(t)
		r.register("10.0.0.1", "/a", c.options...)
		r.opt.Table = func() (mount.Table, error) {
			table, err := r.mounter.Table()
			for i := range table {
				table[i].Super = []string{"rw", "vers=" + c.got}
			}
			return table, err
		}
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
		log := logger.GetSink().(ktesting.Underlier).GetBuffer()
		_, release, err := r.Open(klog.NewContext(context.Background(), logger), "nas1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, told := r.Versions(), strings.Contains(log.String(), "mounted by NFS 3"); !maps.Equal(got, map[string]string{"nas1": c.got}) || told != c.told {
			t.Errorf("asked for %v, by %s: the versions are %v, and it is told: %v", c.options, c.got, got, told)
		}
		release()
		r.Close()
	}
}
