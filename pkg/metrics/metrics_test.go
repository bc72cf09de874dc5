// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// get returns the response for a path.
func get(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("GET %s = %d, %v", path, w.Code, err)
	}
	return string(body)
}

// getOwn returns the metrics without the label that all of them have.
func getOwn(t *testing.T, h http.Handler) string {
	t.Helper()
	all := strings.NewReplacer(`driver_name="nfs.csi.example",`, "", `{driver_name="nfs.csi.example"}`, "").Replace(get(t, h, "/metrics"))
	if strings.Contains(all, "driver_name=") {
		t.Errorf("a metric has driver_name, and another label before it:\n%s", all)
	}
	return all
}

// TestMetrics makes one of everything happen, and reads the metrics.
func TestMetrics(t *testing.T) {
	m, ctx := New(Build{Driver: "nfs.csi.example", Version: "v1.2.3", Role: "all"}), context.Background()
	dir := t.TempDir()
	for _, name := range []string{"root/x", "stage", "pod"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fake := &mount.Fake{Root: filepath.Join(dir, "root")}
	timed := m.Timed(fake)
	stage, pod := filepath.Join(dir, "stage"), filepath.Join(dir, "pod")
	err := errors.Join(timed.Mount(ctx, mount.Spec{Source: "nas:/x", Target: stage}), timed.Bind(ctx, mount.Entry{Target: stage, Device: "0:1"}, pod, false), timed.Unmount(ctx, pod))
	if err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("no")
	fake.Fail = func(string, string) error { return wrong }
	if err := timed.Mount(ctx, mount.Spec{Source: "nas:/x", Target: pod}); !errors.Is(err, wrong) {
		t.Errorf("error = %v, want that of the mounter", err)
	}
	if table, err := timed.Table(); err != nil || len(table) != 1 {
		t.Errorf("table = %v, %v", table, err)
	}
	var children child.Runner
	if _, _, err := children.Run(ctx, child.Command{Name: "true"}); err != nil {
		t.Fatal(err)
	}
	m.Processes("mount", &children)
	m.Processes("statfs", child.NewWorkers(child.Command{}))
	m.Queries(func() (waiting, quarantined int) { return 7, 2 })
	m.Trash(func() []jobs.Trash {
		return []jobs.Trash{
			{Share: "nas1", Scanned: true, Volumes: 2, Oldest: time.Unix(1000, 0), Overdue: 1, Since: time.Unix(2000, 0), Purged: 3, Entries: 40, Failed: 5},
			{Share: "10.0.0.1:/x", Scanned: true},
			{Share: "silent"},
		}
	})
	m.Volumes(func() []jobs.VolumeCount { return []jobs.VolumeCount{{Share: "nas1", Volumes: 2, Bytes: 300}} })
	m.Shares(func() []string { return []string{"nas1"} }, func() map[string]string { return map[string]string{"nas1": "4.2"} }, func() []jobs.ShareStatus {
		return []jobs.ShareStatus{
			{Share: "nas1", Up: true, Latency: 500 * time.Millisecond, Space: volume.Space{Total: 100, Free: 40, Inodes: 10, InodesFree: 3}, LastWrite: time.Now()},
			{Share: "nas2", Up: true, Space: volume.Space{Total: 100}},
			{Share: "silent", Up: true},
			{Share: "nas3", LastWrite: time.Now()},
			{Share: "nas4", Fault: volume.Condition{Reason: volume.DiskFailing}, LastWrite: time.Now()},
		}
	})
	m.Servers(func() []probe.ServerStatus {
		return []probe.ServerStatus{{Address: "10.0.0.1:2049", Up: true, Took: 250 * time.Millisecond}, {Address: "10.0.0.2:2049"}}
	})
	m.RPCs([]string{"/csi.v1.Controller/CreateVolume", "/csi.v1.Identity/Probe"}, []string{"OK", "Internal"})
	m.ObserveRPC("/csi.v1.Controller/CreateVolume", "OK", nil, time.Second)

	handler := m.Handler(func() bool { return true })
	get(t, handler, "/healthz")
	get(t, handler, "/readyz")
	w := httptest.NewRecorder()
	if m.Handler(func() bool { return false }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("GET /readyz of a process that is not ready = %d", w.Code)
	}
	text := getOwn(t, handler)
	for _, name := range []string{"go_goroutines ", "process_start_time_seconds ", "process_resident_memory_bytes "} {
		if strings.Count(text, "\n"+name) != 1 {
			t.Errorf("%s is not served once", name)
		}
	}
	for _, line := range []string{
		`mooring_mount_duration_seconds_count{operation="mount",result="ok"} 1`,
		`mooring_mount_duration_seconds_count{operation="mount",result="error"} 1`,
		`mooring_mount_duration_seconds_count{operation="bind",result="ok"} 1`,
		`mooring_mount_duration_seconds_count{operation="unmount",result="ok"} 1`,
		`mooring_children{kind="mount"} 0`,
		`mooring_children_started_total{kind="mount"} 1`,
		`mooring_children_started_total{kind="statfs"} 0`,
		`mooring_trash_volumes{share="nas1"} 2`,
		`mooring_trash_oldest_timestamp_seconds{share="nas1"} 1000`,
		`mooring_trash_volumes{share="10.0.0.1:/x"} 0`,
		`mooring_trash_purged_volumes_total{share="nas1"} 3`,
		`mooring_trash_purged_entries_total{share="nas1"} 40`,
		`mooring_trash_failures_total{share="nas1"} 5`,
		`mooring_trash_overdue_volumes{share="nas1"} 1`,
		`mooring_trash_overdue_volumes{share="10.0.0.1:/x"} 0`,
		`mooring_trash_overdue_timestamp_seconds{share="nas1"} 2000`,
		`mooring_share_volumes{share="nas1"} 2`,
		`mooring_share_provisioned_bytes{share="nas1"} 300`,
		`mooring_share_mounted{share="nas1"} 1`,
		`mooring_share_nfs_version{share="nas1"} 4.2`,
		`mooring_share_up{share="nas1"} 1`,
		`mooring_share_up{share="nas3"} 0`,
		`mooring_share_fault{reason="DiskFailing",share="nas1"} 0`,
		`mooring_share_fault{reason="ReadOnlyServer",share="nas1"} 0`,
		`mooring_share_up{share="nas4"} 0`,
		`mooring_share_fault{reason="DiskFailing",share="nas4"} 1`,
		`mooring_share_fault{reason="ShareFull",share="nas4"} 0`,
		`mooring_share_response_seconds{share="nas1"} 0.5`,
		`mooring_share_capacity_bytes{share="nas1"} 100`,
		`mooring_share_free_bytes{share="nas1"} 40`,
		`mooring_share_inodes{share="nas1"} 10`,
		`mooring_share_inodes_free{share="nas1"} 3`,
		`mooring_build_info{role="all",version="v1.2.3"} 1`,
		`mooring_server_up{server="10.0.0.1:2049"} 1`,
		`mooring_server_up{server="10.0.0.2:2049"} 0`,
		`mooring_server_response_seconds{server="10.0.0.1:2049"} 0.25`,
		`mooring_children_abandoned{kind="mount"} 0`,
		`mooring_children_abandoned{kind="statfs"} 0`,
		"mooring_asks_waiting 7",
		"mooring_file_systems_quarantined 2",
		`mooring_rpcs_total{grpc_status_code="OK",method_name="/csi.v1.Controller/CreateVolume"} 1`,
		`mooring_rpcs_total{grpc_status_code="Internal",method_name="/csi.v1.Controller/CreateVolume"} 0`,
		`mooring_rpcs_total{grpc_status_code="OK",method_name="/csi.v1.Identity/Probe"} 0`,
		`csi_plugin_operations_seconds_count{grpc_status_code="OK",method_name="/csi.v1.Controller/CreateVolume"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	for _, line := range []string{
		`mooring_trash_overdue_timestamp_seconds{share="10.0.0.1:/x"}`, `mooring_trash_oldest_timestamp_seconds{share="10.0.0.1:/x"}`,
		`mooring_trash_volumes{share="silent"}`, `mooring_trash_overdue_volumes{share="silent"}`, `mooring_share_inodes{share="nas2"}`,
		`mooring_share_capacity_bytes{share="silent"}`, `mooring_share_free_bytes{share="silent"}`,
		`mooring_share_free_bytes{share="nas3"}`, `mooring_share_response_seconds{share="nas3"}`,
		`mooring_share_fault{reason="DiskFailing",share="nas2"}`, `mooring_share_fault{reason="DiskFailing",share="nas3"}`,
	} {
		if strings.Contains(text, line) {
			t.Errorf("a line for an unknown value: %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	lint(t, text)
}

// TestCopies reads the metrics of copies: there are none before the first copy.
func TestCopies(t *testing.T) {
	m := New(Build{Driver: "nfs.csi.example"})
	var status []jobs.CopyTotals
	m.Copies(func() []jobs.CopyTotals { return status })
	handler := m.Handler(func() bool { return true })
	if text := getOwn(t, handler); strings.Contains(text, "mooring_cop") {
		t.Errorf("metrics without copies = %s", text)
	}
	status = []jobs.CopyTotals{
		{
			Share: "nas1", Running: 1, Done: 2, Failed: 3, Skipped: 4, Vanished: 5, Entries: 6,
			ByMethod: map[string]jobs.CopyCount{jobs.MethodClone: {Files: 7, Bytes: 8}, jobs.MethodCopy: {Files: 9, Bytes: 10}, jobs.MethodWrite: {Files: 11, Bytes: 12}},
		},
		{Share: "10.0.0.1:/x"},
	}
	text := getOwn(t, handler)
	for _, line := range []string{
		`mooring_copies_running{share="nas1"} 1`,
		`mooring_copies_total{result="ok",share="nas1"} 2`,
		`mooring_copies_total{result="error",share="nas1"} 3`,
		`mooring_copy_skipped_total{share="nas1"} 4`,
		`mooring_copy_vanished_total{share="nas1"} 5`,
		`mooring_copied_entries_total{share="nas1"} 6`,
		`mooring_copied_files_total{method="clone",share="nas1"} 7`,
		`mooring_copied_bytes_total{method="clone",share="nas1"} 8`,
		`mooring_copied_files_total{method="copy",share="nas1"} 9`,
		`mooring_copied_bytes_total{method="copy",share="nas1"} 10`,
		`mooring_copied_files_total{method="readwrite",share="nas1"} 11`,
		`mooring_copied_bytes_total{method="readwrite",share="nas1"} 12`,
		`mooring_copies_running{share="10.0.0.1:/x"} 0`,
		`mooring_copies_total{result="error",share="10.0.0.1:/x"} 0`,
		"# TYPE mooring_copies_running gauge",
		"# TYPE mooring_copies_total counter",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	lint(t, text)
}

// lint checks our names and help texts by Prometheus's rules.
func lint(t *testing.T, text string) {
	t.Helper()
	var ours bytes.Buffer
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "mooring_") {
			ours.WriteString(line)
		}
	}
	problems, err := promlint.New(&ours).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
