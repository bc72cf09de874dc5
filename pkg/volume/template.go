// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"strings"
)

// DefaultSubDir is the template of a volume's directory if neither class nor configuration has one.
const DefaultSubDir = "${pvc.metadata.namespace}-${pvc.metadata.name}-${pv.metadata.name}"

// Template is a parsed subDir: text with variables.
type Template struct {
	text  string
	parts []part
}

type part struct {
	literal  string
	variable variable // 0: a literal
}

type variable int

const (
	pvcName variable = iota + 1
	pvcNamespace
	pvName
)

// variables has the spellings of csi-driver-nfs and nfs-subdir-external-provisioner.
var variables = map[string]variable{
	"pvc.metadata.name":      pvcName,
	"pvc.metadata.namespace": pvcNamespace,
	"pv.metadata.name":       pvName,
	".PVC.name":              pvcName,
	".PVC.namespace":         pvcNamespace,
}

// Names are the values of a template's variables. Name is the CSI volume name, which the
// provisioner also uses as the name of the PV.
type Names struct {
	PVC, Namespace, PV, Name string
}

func (n Names) value(v variable) string {
	switch v {
	case pvcName:
		return n.PVC
	case pvcNamespace:
		return n.Namespace
	default:
		if n.PV == "" {
			return n.Name
		}
		return n.PV
	}
}

// ParseTemplate parses subDir. An unknown variable, or one that does not end, is ErrInvalid.
func ParseTemplate(text string) (Template, error) {
	t := Template{text: text}
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "${")
		if literal != "" {
			t.parts = append(t.parts, part{literal: literal})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		v, known := variables[name]
		if !closed || !known {
			return Template{}, Errorf(ErrInvalid, "subDir %q: ${%s is not a variable; there are %s", text, strings.TrimSuffix(after, tail), variableNames())
		}
		t.parts = append(t.parts, part{variable: v})
		rest = tail
	}
	return t, nil
}

// MustTemplate is ParseTemplate for a constant. It panics on an error.
func MustTemplate(text string) Template {
	t, err := ParseTemplate(text)
	if err != nil {
		panic(err)
	}
	return t
}

func variableNames() string {
	var names []string
	for name := range variables {
		names = append(names, "${"+name+"}")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// String returns the text that was parsed.
func (t Template) String() string { return t.text }

// IsZero reports whether t is the empty template, which means "not given".
func (t Template) IsZero() bool { return t.text == "" }

// Expand replaces the variables and checks the resulting directory (CheckDirectory). A
// variable without a value is ErrInvalid, and so is a value with a slash.
func (t Template) Expand(n Names) (string, error) {
	levels, err := t.levels(n)
	if err != nil {
		return "", err
	}
	return t.join(levels)
}

// ExpandDefault is Expand for a template that the user of the class did not choose. It
// must result in a directory for every PVC: it shortens names that are too long
// (Shorten), and if the request does not contain the names of PVC and PV, the directory
// is the volume's key.
func (t Template) ExpandDefault(n Names) (string, error) {
	if n.PVC == "" || n.Namespace == "" {
		return KeyFor(n.Name), nil
	}
	levels, err := t.levels(n)
	if err != nil {
		return "", err
	}
	for i := range levels {
		levels[i] = Shorten(levels[i], maxName)
	}
	return t.join(levels)
}

func (t Template) join(levels []string) (string, error) {
	dir := strings.Join(levels, "/")
	if err := CheckDirectory(dir); err != nil {
		return "", Errorf(ErrInvalid, "subDir %q: %w", t.text, err)
	}
	return dir, nil
}

// levels returns the names between the template's own slashes.
func (t Template) levels(n Names) ([]string, error) {
	levels := []string{""}
	for _, p := range t.parts {
		last := &levels[len(levels)-1]
		if p.variable == 0 {
			names := strings.Split(p.literal, "/")
			*last += names[0]
			levels = append(levels, names[1:]...)
			continue
		}
		value := n.value(p.variable)
		if value == "" {
			return nil, Errorf(ErrInvalid, "subDir %q needs the names of PVC and PV, which did not come with the request: start external-provisioner with --extra-create-metadata", t.text)
		}
		if strings.Contains(value, "/") {
			return nil, Errorf(ErrInvalid, "subDir %q: the value %q has a slash in it", t.text, value)
		}
		*last += value
	}
	return levels, nil
}
