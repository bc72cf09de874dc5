// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// report is the part of ginkgo's report that the test reads.
type report []struct {
	SpecReports []spec
}

type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeText            string
	State                   string
	RunTime                 int64
	Failure                 struct{ Message string }
}

func (s spec) name() string {
	return strings.Join(append(slices.Clone(s.ContainerHierarchyTexts[1:]), s.LeafNodeText), " ")
}

// leftOut are specs that cannot run here, each with the reason.
var leftOut = map[string]string{
	"[Disruptive]":           "disruptive: kubelet is restarted by SSH, which the nodes do not have",
	"any volume data source": "any volume data source: it tests hello-populator, of which there is no image here",
}

// left returns the reason why a spec is left out, or "".
func (s spec) left() string {
	for part, why := range leftOut {
		if strings.Contains(s.name(), part) {
			return why
		}
	}
	return ""
}

// TestExternal runs Kubernetes' own tests of storage drivers, with every capability in
// external/driver.yaml. MOORING_EXTERNAL is a pattern of the specs to run.
func TestExternal(t *testing.T) {
	install(t, "csiDriver.storageCapacity=true", "snapshots.groups=true", "node.maxVolumes=20",
		"controller.provisioner.extraArgs[0]=--capacity-for-immediate-binding", "controller.provisioner.extraArgs[1]=--capacity-poll-interval=10s")
	t.Cleanup(func() { install(t) })
	build, err := filepath.Abs("../../build")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(build, "external.json")
	_ = os.Remove(file)
	var skip []string
	for part := range leftOut {
		skip = append(skip, regexp.QuoteMeta(part))
	}
	out, suiteErr := run("", "suite", file, "External.Storage.*"+os.Getenv("MOORING_EXTERNAL"), strings.Join(skip, "|"))
	_ = os.WriteFile(filepath.Join(build, "external.log"), []byte(out), 0o600)
	data, err := os.ReadFile(file)
	var all report
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil || len(all) == 0 {
		t.Fatal(err, suiteErr)
	}
	count, reasons := map[string]int{}, map[string]int{}
	for _, s := range all[0].SpecReports {
		if len(s.ContainerHierarchyTexts) == 0 || !strings.HasPrefix(s.ContainerHierarchyTexts[0], "External Storage") {
			continue
		}
		state := s.State
		switch {
		case state == "passed":
		case state != "skipped":
			state = "failed"
			t.Errorf("%s: %s: %s", s.State, s.name(), tail(s.Failure.Message, 1000))
		case s.Failure.Message != "":
			reasons[reason(s.Failure.Message)]++
		case s.left() != "":
			reasons[s.left()]++
		default: // not in MOORING_EXTERNAL
			continue
		}
		count[state]++
	}
	t.Logf("%d passed, %d failed, %d skipped", count["passed"], count["failed"], count["skipped"])
	if count["passed"] == 0 || suiteErr != nil {
		t.Error("the suite: ", suiteErr)
	}
	if err := os.WriteFile(filepath.Join(build, "conformance.md"), []byte(conformance(count, reasons)), 0o600); err != nil {
		t.Error(err)
	}
}

var quoted = regexp.MustCompile(`"[^"]*"`)

// reason returns the suite's reason of a skip, without the parts that differ between specs.
func reason(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	message = strings.TrimSuffix(strings.TrimSpace(strings.ReplaceAll(message, "nfs.csi.mooring.dev", "driver")), " - skipping")
	if !strings.Contains(message, "volume type") {
		message = quoted.ReplaceAllString(message, "...")
	}
	return strings.TrimSuffix(message, " -- skipping")
}

// conformance writes the results of the suite for docs/conformance.md.
func conformance(count, reasons map[string]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| passed | failed | skipped |\n|---|---|---|\n| %d | %d | %d |\n\n| skipped | as the suite says |\n|---|---|\n", count["passed"], count["failed"], count["skipped"])
	for _, why := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		if reasons[a] != reasons[b] {
			return reasons[b] - reasons[a]
		}
		return strings.Compare(a, b)
	}) {
		fmt.Fprintf(&b, "| %d | %s |\n", reasons[why], strings.ReplaceAll(why, "|", `\|`))
	}
	return b.String()
}
