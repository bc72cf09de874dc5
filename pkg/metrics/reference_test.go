// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

var update = flag.Bool("update", false, "update the table in docs/metrics.md")

const (
	page  = "../../docs/metrics.md"
	begin = "<!-- go test ./pkg/metrics -update -->\n"
	end   = "<!-- end -->\n"
)

// role returns the metrics handler of a process of that role after one of everything has happened.
func role(t *testing.T, name string) http.Handler {
	t.Helper()
	m, now := New(Build{Driver: "nfs.csi.mooring.dev", Version: "v1", Role: name}), time.Now()
	m.Processes("mount", &child.Runner{})
	m.Servers(func() []probe.ServerStatus { return []probe.ServerStatus{{Address: "10.0.0.1:2049", Up: true}} })
	m.ObserveRPC("/csi.v1.Identity/Probe", "OK", nil, time.Second)
	if err := m.Timed(&mount.Fake{}).Unmount(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if name == "node" {
		m.Processes("ask", &child.Runner{})
		m.Queries(func() (waiting, quarantined int) { return 0, 0 })
		return m.Handler(func() bool { return true })
	}
	m.LaidOut()
	m.Trash(func() []jobs.Trash { return []jobs.Trash{{Share: "nas1", Scanned: true, Oldest: now, Since: now}} })
	m.Volumes(func() []jobs.VolumeCount { return []jobs.VolumeCount{{Share: "nas1"}} })
	m.Copies(func() []jobs.CopyTotals {
		return []jobs.CopyTotals{{Share: "nas1", ByMethod: map[string]jobs.CopyCount{jobs.MethodCopy: {}}}}
	})
	m.Shares(func() []string { return []string{"nas1"} }, func() map[string]string { return map[string]string{"nas1": "4.2"} }, func() []jobs.ShareStatus {
		return []jobs.ShareStatus{{Share: "nas1", Up: true, Space: volume.Space{Total: 1, Inodes: 1}, LastWrite: now}}
	})
	return m.Handler(func() bool { return true })
}

// metric is the description of one metric.
type metric struct {
	kind, help string
	labels     []string
}

var (
	about  = regexp.MustCompile(`^# (HELP|TYPE) (\S+) (.*)$`)
	sample = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? \S+$`)
	label  = regexp.MustCompile(`([a-z_]+)="[^"]*"`)
)

// parse reads the metrics from an exposition. Those of a histogram are one.
func parse(text string) map[string]*metric {
	all := map[string]*metric{}
	for line := range strings.Lines(text) {
		if m := about.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			if all[m[2]] == nil {
				all[m[2]] = &metric{}
			}
			if m[1] == "HELP" {
				all[m[2]].help = m[3]
			} else {
				all[m[2]].kind = m[3]
			}
			continue
		}
		m := sample.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		found := all[m[1]]
		if found == nil {
			found = all[regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(m[1], "")]
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" && !slices.Contains(found.labels, l[1]) {
				found.labels = append(found.labels, l[1])
			}
		}
	}
	return all
}

// TestReference compares the table in docs/metrics.md with the metrics of the two roles.
func TestReference(t *testing.T) {
	controller, node := parse(get(t, role(t, "controller"), "/metrics")), parse(get(t, role(t, "node"), "/metrics"))
	all := maps.Clone(controller)
	maps.Copy(all, node)
	var table strings.Builder
	table.WriteString("| Metric | Type | Labels | Of | Meaning |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue // of Prometheus' own collectors
		}
		of := "both"
		switch {
		case controller[name] == nil:
			of = "node"
		case node[name] == nil:
			of = "controller"
		}
		m := all[name]
		m.labels = slices.DeleteFunc(slices.Sorted(slices.Values(m.labels)), func(label string) bool { return label == "driver_name" })
		labels := ""
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", name, m.kind, labels, of, m.help)
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	was, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no marks %q and %q for the table", page, begin, end)
	}
	want := "\n" + table.String() + "\n"
	if was == want {
		return
	}
	if !*update {
		t.Fatalf("the table in docs/metrics.md is out of date: run go test ./pkg/metrics -update. It should be\n%s", want)
	}
	if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
