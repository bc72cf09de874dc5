// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"regexp"
	"testing"
)

// TestAlerts has each of the chart's alerts in the table of docs/metrics.md, with what it has
// for a condition and a severity, and a section of its own where its link leads.
func TestAlerts(t *testing.T) {
	rule := regexp.MustCompile(`(?s)- alert: (\w+)\n(.*?)runbook_url: \{\{ \$runbook \}\}#([a-z]+)\n`)
	said := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| \\[`(\\w+)`\\]\\(troubleshooting\\.md#[a-z]+\\) (\\|.*)$").FindAllStringSubmatch(text(t, "docs/metrics.md"), -1) {
		said[m[1]] = m[2]
	}
	anchors, found := map[string]bool{}, map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(text(t, "docs/troubleshooting.md"), -1) {
		anchors[anchor(h[1])] = true
	}
	for _, m := range rule.FindAllStringSubmatch(text(t, "charts/mooring/templates/monitoring.yaml"), -1) {
		found[m[1]] = true
		after := "at once"
		if d := regexp.MustCompile(`\n\s+for: (\w+)\n`).FindStringSubmatch("\n" + m[2]); d != nil {
			after = d[1]
		}
		severity := regexp.MustCompile(`severity: (\w+)`).FindStringSubmatch(m[2])[1]
		if !regexp.MustCompile(`\| ` + after + ` \| ` + severity + ` \|$`).MatchString(said[m[1]]) {
			t.Errorf("docs/metrics.md says of %s %q, and it is %s, %s", m[1], said[m[1]], after, severity)
		}
		if !anchors[m[3]] {
			t.Errorf("%s links to #%s, which docs/troubleshooting.md does not have", m[1], m[3])
		}
	}
	if len(found) < 10 {
		t.Errorf("only the alerts %v were found", found)
	}
	lists(t, "docs/metrics.md", said, found)
}
