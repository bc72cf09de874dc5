// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

const (
	// diskTimeout is the timeout for a controller to notice the state of a disk: it writes to the disk
	// once a minute, and every 15 seconds after a failure.
	diskTimeout = 3 * time.Minute
	// diskMetrics is the address of the controller's metrics.
	diskMetrics = "127.0.0.1:9876"
)

// failing is a site with two volumes on a disk of the second server. A pod of a node has the first.
type failing struct {
	*site
	kind string
	pod  *seat
}

// onDisk makes a disk with a file system of that kind, and a site on it.
func onDisk(t *testing.T, kind string) failing {
	t.Helper()
	if err := errors.Join(lab.Do("second"), lab.Do("second", "disk", kind)); err != nil {
		t.Fatal(err)
	}
	dir := "/disk-" + kind + "/" + strings.ReplaceAll(t.Name(), "/", "-")
	mkdir(t, lab.View+dir)
	s := newSiteAt(t, dir, lab.View+dir, "mountOptions: [nfsvers=4.2]")
	s.config = strings.Replace(s.config, "servers: ["+lab.Server+"]", "servers: ["+secondServer+"]", 1)
	s.ctl = s.start("controller", "controller", "--metrics-address", diskMetrics)
	f := failing{site: s, kind: kind, pod: s.seat(s.start("node", "node"), s.mustCreate("pvc-1", ""))}
	f.pod.must(f.pod.publish("pod", false))
	s.mustCreate("pvc-2", "")
	list, err := s.ctl.Controller.ControllerListVolumeHealth(soon(t), &csi.ControllerListVolumeHealthRequest{})
	if f.pod.must(err); list.GetEntries() != nil {
		t.Errorf("not well are %v", list)
	}
	return f
}

// breakDisk causes an accident of the disk, and returns the function that repairs it.
func (f failing) breakDisk(accident ...string) (mend func()) {
	f.t.Helper()
	broken := true
	mend = func() {
		if broken {
			broken = false
			if err := lab.Do("second", "disk", f.kind, "mend"); err != nil {
				f.t.Error(err)
			}
		}
	}
	f.t.Cleanup(mend)
	if err := lab.Do(append([]string{"second", "disk", f.kind}, accident...)...); err != nil {
		f.t.Fatal(err)
	}
	return mend
}

// waitForReason waits until the controller reports this reason for both volumes in both calls, and the fault of
// the share in the metrics; "" for none.
func (f failing) waitForReason(reason, fault string) {
	f.t.Helper()
	var last any
	eventually(f.t, diskTimeout, "the controller says "+reason, func() bool {
		r, err := f.ctl.Controller.ControllerGetVolumeHealth(soon(f.t), &csi.ControllerGetVolumeHealthRequest{VolumeId: "nas1/pvc-2"})
		list, err2 := f.ctl.Controller.ControllerListVolumeHealth(soon(f.t), &csi.ControllerListVolumeHealthRequest{})
		if now := fmt.Sprint(r, list, err, err2); now != last {
			last = now
			f.t.Log(last)
		}
		if err != nil || err2 != nil || f.reportedFault() != fault {
			return false
		}
		if reason == "" {
			return r.GetVolumeHealth().GetHealthStatuses() == nil && list.GetEntries() == nil
		}
		return len(list.GetEntries()) == 2 && hasReason(r.GetVolumeHealth(), reason) && hasReason(list.GetEntries()[0], reason) && hasReason(list.GetEntries()[1], reason)
	})
}

// hasReason reports whether a reason is among the reported ones.
func hasReason(h *csi.VolumeHealth, reason string) bool {
	return slices.ContainsFunc(h.GetHealthStatuses(), func(c *csi.VolumeHealth_VolumeHealthEntry) bool { return c.GetReason() == reason })
}

var faultTold = regexp.MustCompile(`mooring_share_fault\{driver_name="[^"]+",reason="(\w+)",share="nas1"\} ([01])\n`)

// reportedFault returns the fault in the metrics; "none told" if they have no values for faults at all.
func (f failing) reportedFault() string {
	f.t.Helper()
	all, is := faultTold.FindAllStringSubmatch(metricsAt(f.t, diskMetrics), -1), ""
	for _, m := range all {
		if m[2] == "1" {
			is += m[1]
		}
	}
	if len(all) != 5 {
		return "none told"
	}
	return is
}

// metricsAt returns the metrics that a program serves.
func metricsAt(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDisk makes disks fail and repairs them: controller and node report it, and continue by themselves.
func TestDisk(t *testing.T) {
	const readOnly, fails = "read-only on the server: export it rw, or check with dmesg there whether", "check dmesg there"
	for name, c := range map[string]struct {
		kind, accident          string
		forgets                 bool // drop the server's cache of the disk
		controller, fault, node string
		code                    codes.Code // of a creation meanwhile
		says                    string
	}{
		"ext4 after an error":          {"ext4", "readonly", false, "ReadOnlyServer", "ReadOnlyServer", "ReadOnlyServer", codes.PermissionDenied, readOnly},
		"XFS that takes nothing":       {"xfs", "error_writes", false, "DiskFailing", "DiskFailing", "DiskFailing", codes.Unavailable, fails},
		"XFS of which nothing is left": {"xfs", "error", true, "DiskFailing", "DiskFailing", "StaleFileHandle", codes.Unavailable, "dmesg"},
	} {
		t.Run(name, func(t *testing.T) {
			f := onDisk(t, c.kind)
			wantReasons(t, f.pod.health(f.pod.target("pod")))
			mend := f.breakDisk(c.accident)
			if c.forgets {
				output(t, "echo 3 >/proc/sys/vm/drop_caches")
			}
			f.pod.checkWrite("pod", unix.EIO, unix.EROFS, unix.ESTALE)
			f.waitForReason(c.controller, c.fault)
			wantReasons(t, f.pod.health(f.pod.target("pod")), c.node)
			_, err := f.create("pvc-3", nil)
			wantCode(t, err, c.code, "nas1", c.says)
			_, err = f.ctl.Controller.CreateSnapshot(soon(t), &csi.CreateSnapshotRequest{SourceVolumeId: "nas1/pvc-1", Name: "snap-1"})
			wantCode(t, err, c.code, "nas1", c.says)
			if err = f.delete("nas1/pvc-2"); err == nil || !strings.Contains(err.Error(), "dmesg") {
				t.Errorf("to delete ends with %v", err)
			}
			mend()
			f.waitForReason("", "")
			eventually(t, waitTimeout, "the node says nothing any more", func() bool { return len(f.pod.health(f.pod.target("pod"))) == 0 })
			f.pod.checkWrite("pod")
			f.mustCreate("pvc-3", "")
			f.pod.leave("pod")
		})
	}
}

// TestBadBlock makes one block of a disk unreadable, the one with the record of a volume: that volume is
// reported as unhealthy. Blocks that nobody reads cannot be checked.
func TestBadBlock(t *testing.T) {
	f := onDisk(t, "ext4")
	f.breakDisk("dust", f.at(".mooring/volumes/pvc-2/record.json"))
	for id, want := range map[string][]string{"nas1/pvc-2": {"DiskFailing"}, "nas1/pvc-1": nil} {
		r, err := f.ctl.Controller.ControllerGetVolumeHealth(soon(t), &csi.ControllerGetVolumeHealthRequest{VolumeId: id})
		f.pod.must(err)
		wantReasons(t, reasons(t, r.GetVolumeHealth()), want...)
	}
	list, err := f.ctl.Controller.ControllerListVolumeHealth(soon(t), &csi.ControllerListVolumeHealthRequest{})
	if f.pod.must(err); len(list.GetEntries()) != 1 || !hasReason(list.GetEntries()[0], "DiskFailing") {
		t.Errorf("not well are %v", list)
	}
	wantReasons(t, f.pod.health(f.pod.target("pod")))
	f.mustCreate("pvc-3", "")
	f.pod.leave("pod")
}

// checkWrite writes a file in a pod's directory, and expects one of the errors if there are any.
func (a *seat) checkWrite(pod string, wants ...unix.Errno) {
	a.t.Helper()
	done := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(filepath.Join(a.target(pod), "written"), os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString("a few words")
			err = errors.Join(err, f.Sync(), f.Close())
		}
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-time.After(waitTimeout):
		err = context.DeadlineExceeded
	}
	for _, want := range wants {
		if errors.Is(err, want) {
			return
		}
	}
	if len(wants) > 0 || err != nil {
		a.t.Fatalf("to write ends with %v", err)
	}
}
