// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

func rules(t *testing.T) *Rules {
	t.Helper()
	r, err := ReadRules(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Groups) != 1 || len(r.Groups[0].Rules) < 10 {
		t.Fatalf("the chart has the rules %+v", r)
	}
	return r
}

func promtool(t *testing.T, stdin io.Reader, args ...string) {
	t.Helper()
	c := exec.Command("promtool", args...)
	c.Stdin = stdin
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules checks the alerts with promtool, and runs alerts_test.yaml: each alert fires when it should, and
// its text names the share or the instance, and it does not fire when it should not.
func TestRules(t *testing.T) {
	if os.Getenv("MOORING_LAB") != "" {
		t.Skip("this test needs no lab")
	}
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed (package prometheus): run make monitoring")
	}
	r, dir := rules(t), t.TempDir()
	file := filepath.Join(dir, "rules.yaml")
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", file)
	tests, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(tests), "DRIVER", r.Driver())
	described := map[string]string{}
	for _, a := range r.Groups[0].Rules {
		described[a.Alert] = a.Annotations["description"]
		fires, quiet := "alertname: "+a.Alert+", fires\n", "alertname: "+a.Alert+", quiet\n"
		if !strings.Contains(text, "# "+fires) || !strings.Contains(text, "# "+quiet) {
			t.Errorf("alerts_test.yaml does not test that %s fires, and that it is quiet", a.Alert)
		}
	}
	text = regexp.MustCompile(`"@@(\w+)@@(.*)"`).ReplaceAllStringFunc(text, func(found string) string {
		parts := strings.Split(strings.Trim(found, `"`), "@@")
		return strconv.Quote(strings.ReplaceAll(described[parts[1]], "{{ $value | humanizeDuration }}", parts[2]))
	})
	if err := os.WriteFile(filepath.Join(dir, "test.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "test", "rules", filepath.Join(dir, "test.yaml"))
}
