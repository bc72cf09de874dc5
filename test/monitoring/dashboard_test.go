// SPDX-License-Identifier: Apache-2.0

package monitoring

import "testing"

// TestDashboard checks what Grafana does not report: two panels in one place or with one id, and panels
// without a description.
func TestDashboard(t *testing.T) {
	d, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	ids, taken := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other := ids[p.ID]; other != "" || p.ID == 0 {
			t.Errorf("panels %s and %s have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		at := p.GridPos
		if at.W < 1 || at.H < 1 || at.X+at.W > 24 {
			t.Errorf("panel %s is at %+v, and a dashboard is 24 wide", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %s and %s are in one place", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 || p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("panel %s has no description, query or unit", p.Title)
		}
		for _, target := range p.Targets {
			if _, err := d.Expand(target.Expr, "1m"); err != nil || target.LegendFormat == "" {
				t.Errorf("panel %s: %v; its legend is %q", p.Title, err, target.LegendFormat)
			}
		}
	}
	if len(ids) < 20 {
		t.Errorf("only %d panels were found", len(ids))
	}
}
