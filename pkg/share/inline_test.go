// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestInline(t *testing.T) {
	g := newTestShare(t)
	v, err := OpenInline(g.dir, nas1, true)
	g.must(err)
	defer v.Close()
	for range 2 { // a retry
		dir, err := v.Make("csi-1")
		g.must(err)
		dir.Close()
	}
	own := ".mooring/" + volume.InlineDir + "/csi-1"
	g.put(own+"/data", "")
	for range 2 {
		g.must(v.Trash("csi-1"))
	}
	if g.has(own) {
		t.Error("the directory stays")
	}
	all, err := g.Trash.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Kind() != "leftover" || all[0].Key != "csi-1" || all[0].Complete() || !all[0].Due.IsZero() {
		t.Errorf("in the trash are %+v, %v", all, err)
	}
	g.must(g.purge())
	if len(g.names(".mooring/trash")) > 0 {
		t.Error("it is not purged")
	}
}

// TestInlineOpen opens directories that exist, unless they are a volume's.
func TestInlineOpen(t *testing.T) {
	g := newTestShare(t)
	g.create("pvc-1", "team/one")
	for _, dir := range []string{"data/set", "outside", "gone"} {
		g.must(os.MkdirAll(g.at(dir), 0o755))
	}
	g.must(os.Symlink("../outside", g.at("data/up")))
	g.must(os.Symlink("/etc", g.at("data/out")))
	g.create("pvc-2", "was/one")
	g.delete("pvc-2")
	v, err := OpenInline(g.dir, nas1, true)
	g.must(err)
	defer v.Close()
	for directory, c := range map[string]struct {
		kind error
		say  string
	}{
		"data/set":     {nil, ""},
		"data":         {nil, ""},
		"was":          {nil, ""},
		"none":         {volume.ErrPrecondition, "does not exist"},
		"data/up":      {volume.ErrPrecondition, ""},
		"data/out":     {volume.ErrPrecondition, ""},
		"team/one":     {volume.ErrRefused, "pvc-1"},
		"team/one/sub": {volume.ErrRefused, "pvc-1"},
		"team":         {volume.ErrRefused, `"team/one"`},
	} {
		dir, err := v.Open(directory)
		if c.kind != nil {
			g.wantError(directory, err, c.kind, c.say)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", directory, err)
			continue
		}
		dir.Close()
	}
}
