// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"path"
	"path/filepath"
	"strings"
	"testing"
)

var names = Names{PVC: "data", Namespace: "shop", PV: "pvc-1", Name: "csi-1"}

func TestExpand(t *testing.T) {
	noPV := names
	noPV.PV = ""
	for _, c := range []struct {
		template string
		names    Names
		want     string
	}{
		{DefaultSubDir, names, "shop-data-pvc-1"},
		{"${pvc.metadata.namespace}/${pvc.metadata.name}/${pv.metadata.name}", names, "shop/data/pvc-1"},
		{"${.PVC.namespace}/${.PVC.name}", names, "shop/data"},
		{"${pv.metadata.name}", noPV, "csi-1"},
		{"a/b", Names{}, "a/b"},
		{"$a/{b}/$", names, "$a/{b}/$"},
		{"$${.PVC.name}}", names, "$data}"},
		{"${.PVC.name}${.PVC.name}", names, "datadata"},
		{"${.PVC.name}", Names{PVC: "${pv.metadata.name}"}, "${pv.metadata.name}"},
		{".${.PVC.name}", Names{PVC: "a"}, ".a"},
	} {
		template, err := ParseTemplate(c.template)
		wantKind(t, c.template, err, nil)
		if template.String() != c.template || template.IsZero() {
			t.Errorf("the template %q reads %q", c.template, template)
		}
		got, err := template.Expand(c.names)
		wantKind(t, c.template, err, nil)
		if got != c.want {
			t.Errorf("%q gives %q, want %q", c.template, got, c.want)
		}
	}
}

func TestParseTemplateRefuses(t *testing.T) {
	for _, text := range []string{"${", "a${", "${pvc.metadata.name", "${}", "${ pv.metadata.name }", "${.PVC.labels.x}", "${pvc.metadata.annotations.x}", "${PVC.name}", "${.PVC.name}/${x}"} {
		_, err := ParseTemplate(text)
		wantKind(t, text, err, ErrInvalid)
		wantText(t, err, "${pvc.metadata.name}", "${.PVC.namespace}")
	}
	_, err := ParseTemplate("a/${.PVC.labels.x}/b")
	wantText(t, err, "${.PVC.labels.x} is not a variable")

	zero, err := ParseTemplate("")
	if err != nil || !zero.IsZero() {
		t.Errorf("the empty template is %+v, %v", zero, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("MustTemplate accepts an invalid template")
		}
	}()
	MustTemplate("${")
}

func TestExpandRefuses(t *testing.T) {
	type wish struct {
		template string
		names    Names
	}
	wishes := []wish{
		{"", names},
		{"${.PVC.name}", Names{PVC: "a/b"}}, {"${.PVC.name}", Names{PVC: "/"}}, {"x-${.PVC.name}", Names{PVC: "/../a"}},
		{"${.PVC.name}", Names{PVC: ".."}}, {"${.PVC.name}${.PVC.namespace}", Names{PVC: ".", Namespace: "."}}, {".${.PVC.name}", Names{PVC: "mooring"}},
		{"a/${.PVC.name}", Names{PVC: "\x00"}}, {"a/${.PVC.name}", Names{PVC: "\xff"}},
		{"${.PVC.name}", Names{}}, {"${.PVC.namespace}", Names{PVC: "a"}}, {"${pv.metadata.name}", Names{PVC: "a"}},
	}
	for _, dir := range badDirectories {
		wishes = append(wishes, wish{dir, names})
		if !strings.Contains(dir, "/") {
			wishes = append(wishes, wish{"${.PVC.name}", Names{PVC: dir}})
		}
	}
	for _, w := range wishes {
		template, err := ParseTemplate(w.template)
		wantKind(t, w.template, err, nil)
		dir, err := template.Expand(w.names)
		if wantKind(t, w.template, err, ErrInvalid); dir != "" {
			t.Errorf("%q of %q gives %q with the error", w.template, w.names, dir)
		}
	}
	_, err := MustTemplate("${.PVC.name}").Expand(Names{PV: "pvc-1"})
	wantText(t, err, "--extra-create-metadata")
}

func TestExpandDefault(t *testing.T) {
	template := MustTemplate(DefaultSubDir)
	const uuid = "pvc-51cce4ed-0b9e-4a9f-8d3f-5a3f0d0a5a0"
	long := Names{Namespace: strings.Repeat("n", 63), PVC: strings.Repeat("p", 253)}
	seen := map[string]bool{}
	for _, last := range "0123456789abcdef" {
		n := long
		n.PV = uuid + string(last)
		dir, err := template.ExpandDefault(n)
		wantKind(t, n.PV, err, nil)
		again, _ := template.ExpandDefault(n)
		if len(dir) > 255 || seen[dir] || dir != again || CheckDirectory(dir) != nil {
			t.Errorf("%s has the directory %q of %d bytes, and then %q", n.PV, dir, len(dir), again)
		}
		seen[dir] = true
	}

	for _, c := range []struct {
		template string
		names    Names
		want     string
	}{
		{DefaultSubDir, names, "shop-data-pvc-1"},
		{DefaultSubDir, Names{Name: "pvc-2"}, "pvc-2"},
		{DefaultSubDir, Names{PVC: "data", Name: "pvc-2"}, "pvc-2"},
		{DefaultSubDir, Names{Namespace: "shop", Name: "../odd"}, KeyFor("../odd")},
		{"${.PVC.namespace}/${.PVC.name}", Names{PVC: long.PVC + long.PVC, Namespace: "shop", PV: "pvc-1"}, "shop/" + Shorten(long.PVC+long.PVC, 255)},
	} {
		got, err := MustTemplate(c.template).ExpandDefault(c.names)
		wantKind(t, c.want, err, nil)
		if got != c.want {
			t.Errorf("%q of %.99q gives %q, want %q", c.template, c.names, got, c.want)
		}
	}
	_, err := MustTemplate("../${.PVC.name}").ExpandDefault(names)
	wantKind(t, "a default that leads out", err, ErrInvalid)
}

func FuzzTemplate(f *testing.F) {
	for _, text := range append(badDirectories, DefaultSubDir, "${.PVC.namespace}/${.PVC.name}", "${.PVC.name}${pv.metadata.name}") {
		f.Add(text, "data", "shop", "pvc-1")
		f.Add(text, "..", ".", "mooring")
	}
	f.Fuzz(func(t *testing.T, text, pvc, namespace, pv string) {
		template, err := ParseTemplate(text)
		if err != nil {
			wantKind(t, text, err, ErrInvalid)
			return
		}
		n := Names{PVC: pvc, Namespace: namespace, PV: pv, Name: "csi/" + pv}
		for _, expand := range []func(Names) (string, error){template.Expand, template.ExpandDefault} {
			dir, err := expand(n)
			if err != nil {
				wantKind(t, text, err, ErrInvalid)
				continue
			}
			if err := CheckDirectory(dir); err != nil || !filepath.IsLocal(dir) || path.Clean(dir) != dir || dir == "." {
				t.Errorf("%q of %q gives %q: %v", text, n, dir, err)
			}
		}
	})
}
