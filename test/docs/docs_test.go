// SPDX-License-Identifier: Apache-2.0

// Package docs compares README.md and docs with the code: what they list is what there is,
// and what they show can be used.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/volume"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// documents returns the text of each page of docs, and of the pages at other places, by its path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "charts/mooring/README.md"} {
		pages = append(pages, filepath.Join(root, page))
	}
	for _, path := range pages {
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = text(t, name)
	}
	return all
}

func text(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var code = regexp.MustCompile("`([^`]+)`")

// table returns the rows of the tables whose first heading is head, by what stands in
// backticks in their first cell.
func table(t *testing.T, page, head string) map[string]string {
	t.Helper()
	rows, in, lines := map[string]string{}, false, strings.Split(page, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "|") {
			in = false
			continue
		}
		first := strings.TrimSpace(strings.Split(line, "|")[1])
		switch {
		case i > 0 && !strings.HasPrefix(lines[i-1], "|"):
			in = first == head
		case !in || strings.HasPrefix(first, "---"):
		default:
			m := code.FindStringSubmatch(first)
			if m == nil || m[0] != first || rows[m[1]] != "" {
				t.Errorf("the row of %s has another form, or is there twice", first)
				continue
			}
			rows[m[1]] = line
		}
	}
	return rows
}

// lists fails where a document does not list exactly what there is.
func lists[R, W any](t *testing.T, where string, rows map[string]R, want map[string]W) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := rows[name]; !ok {
			t.Errorf("%s does not list %s", where, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s lists %s, which is not there", where, name)
		}
	}
}

func TestParameters(t *testing.T) {
	tables := 0
	for name, page := range documents(t) {
		if rows := table(t, page, "Parameter"); len(rows) > 0 {
			tables++
			lists(t, name, rows, volume.ParameterHelp)
			if !strings.Contains(rows["subDir"], volume.DefaultSubDir) {
				t.Errorf("%s does not say that the default of subDir is %s", name, volume.DefaultSubDir)
			}
		}
	}
	if tables == 0 {
		t.Error("no table of parameters was found")
	}
}

// source parses a file of the code.
func source(t *testing.T, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// literal returns a string or number that is written out.
func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return "", false
	}
	if s, err := strconv.Unquote(l.Value); err == nil {
		return s, true
	}
	return l.Value, true
}

// keys collects the YAML keys of a struct of the configuration's file, and of those in it.
func keys(t *testing.T, structs map[string]*ast.StructType, name, prefix string, found map[string]bool) {
	t.Helper()
	for _, field := range structs[name].Fields.List {
		tag, _ := literal(field.Tag)
		key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if key == "" {
			t.Fatalf("a field of %s has no key", name)
		}
		key = prefix + key
		kind := field.Type
		if list, ok := kind.(*ast.ArrayType); ok {
			kind = list.Elt
			if id, ok := kind.(*ast.Ident); ok && structs[id.Name] != nil {
				key += "[]"
			}
		}
		if id, ok := kind.(*ast.Ident); ok && structs[id.Name] != nil {
			keys(t, structs, id.Name, key+".", found)
			continue
		}
		found[key] = true
	}
}

func TestKeys(t *testing.T) {
	structs := map[string]*ast.StructType{}
	ast.Inspect(source(t, "pkg/config/config.go"), func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	if structs["file"] == nil {
		t.Fatal("the configuration's file is not a struct called file any more")
	}
	found := map[string]bool{}
	keys(t, structs, "file", "", found)
	rows := table(t, text(t, "docs/configuration.md"), "Key")
	lists(t, "docs/configuration.md", rows, found)
	defaults := config.Default()
	for key, want := range map[string]string{
		"defaults.subDir":       "`" + defaults.SubDir.String() + "`",
		"defaults.mountOptions": "`[" + strings.Join(defaults.MountOptions, ", ") + "]`",
	} {
		if !strings.Contains(rows[key], want) {
			t.Errorf("docs/configuration.md does not say that the default of %s is %s", key, want)
		}
	}
}

// flags returns the program's own flags with their defaults, as far as these are written out.
func flags(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	ast.Inspect(source(t, "cmd/mooring/run.go"), func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 4 {
			return true
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); !ok || !strings.HasSuffix(f.Sel.Name, "Var") {
			return true
		}
		if name, ok := literal(call.Args[1]); ok {
			found["--"+name], _ = literal(call.Args[2])
		}
		return true
	})
	return found
}

func TestFlags(t *testing.T) {
	rows := table(t, text(t, "docs/configuration.md"), "Flag")
	found := flags(t)
	lists(t, "docs/configuration.md", rows, found)
	for name, value := range found {
		if value != "" && !strings.Contains(rows[name], "| `"+value+"` |") {
			t.Errorf("docs/configuration.md does not say that the default of %s is %s", name, value)
		}
	}
}

func TestMetrics(t *testing.T) {
	found := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(root, "pkg/metrics/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		ast.Inspect(source(t, strings.TrimPrefix(file, root+"/")), func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if name, ok := literal(e); ok && strings.HasPrefix(name, "mooring_") {
					found[name] = true
				}
			}
			return true
		})
	}
	rows := table(t, text(t, "docs/metrics.md"), "Metric")
	maps.DeleteFunc(rows, func(name, _ string) bool { return !strings.HasPrefix(name, "mooring_") }) // the libraries'
	lists(t, "docs/metrics.md", rows, found)
}

func TestReasons(t *testing.T) {
	found := map[string]bool{}
	ast.Inspect(source(t, "pkg/volume/health.go"), func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				reason, _ := literal(spec.Values[0])
				found[reason] = true
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Fatal("no reasons are found in pkg/volume/health.go any more")
	}
	lists(t, "docs/reliability.md", table(t, text(t, "docs/reliability.md"), "Reason"), found)
}

// examples are YAML on its own, and YAML that a shell is to write into a file.
var examples = regexp.MustCompile("(?ms)^(?:```yaml|cat > .*\\.yaml <<'EOF')\n(.*?)^(?:```|EOF)$")

// example is what is looked at in an example that is an object of Kubernetes.
type example struct {
	Kind, Provisioner, DriverName string
	Driver                        string
	Parameters                    map[string]any
	MountOptions                  []string
	Metadata                      struct{ Name string }
	Spec                          struct {
		CSI *struct {
			Driver           string
			VolumeAttributes map[string]string
		}
		Volumes []struct { // a pod's
			CSI struct {
				Driver           string
				VolumeAttributes map[string]string
			}
		}
	}
}

func TestExamples(t *testing.T) {
	seen := map[string]int{}
	for name, page := range documents(t) {
		if blocks := strings.Count(page, "```yaml") + strings.Count(page, ".yaml <<"); blocks != len(examples.FindAllString(page, -1)) {
			t.Errorf("%s has %d examples, of which only some are found", name, blocks)
		}
		for _, m := range examples.FindAllStringSubmatch(page, -1) {
			var e example
			if err := yaml.Unmarshal([]byte(m[1]), &e); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, m[1])
				continue
			}
			seen[e.Kind]++
			if err := e.check(flags(t)["--driver-name"], m[1]); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, m[1])
			}
		}
	}
	for _, kind := range []string{"", "StorageClass", "VolumeAttributesClass", "CSIDriver", "PersistentVolume", "PersistentVolumeClaim", "VolumeSnapshotClass", "VolumeSnapshot", "Pod", "ResourceQuota"} {
		if seen[kind] == 0 {
			t.Errorf("no example was found of kind %q", kind)
		}
		delete(seen, kind)
	}
	if len(seen) > 0 {
		t.Errorf("there are examples of kinds that are not known here: %v", seen)
	}
}

// parameters returns the parameters if all are strings: Kubernetes takes no others.
func (e *example) parameters() (map[string]string, error) {
	all := map[string]string{}
	for key, value := range e.Parameters {
		s, ok := value.(string)
		if !ok {
			return nil, volume.Errorf(volume.ErrInvalid, "the parameter %s is no string: it wants quotation marks", key)
		}
		all[key] = s
	}
	return all, nil
}

func (e *example) check(driver, written string) error {
	named := driver
	parameters, err := e.parameters()
	if err != nil {
		return err
	}
	switch e.Kind {
	case "":
		_, err = config.Parse([]byte(written))
	case "StorageClass":
		named = e.Provisioner
		var p volume.Params
		if p, err = volume.ParseParams(parameters); err == nil && !p.SubDir.IsZero() {
			_, err = p.SubDir.Expand(volume.Names{PVC: "my-pvc", Namespace: "default", PV: "pvc-1"})
		}
		if err == nil {
			err = volume.CheckMountOptions(e.MountOptions)
		}
	case "VolumeAttributesClass":
		named = e.DriverName
		_, err = volume.ParseMutable(parameters)
	case "CSIDriver":
		named = e.Metadata.Name
	case "PersistentVolume":
		named = e.Spec.CSI.Driver
		err = volume.CheckDirectory(e.Spec.CSI.VolumeAttributes["subDir"])
	case "Pod":
		for _, v := range e.Spec.Volumes {
			named = v.CSI.Driver
			err = volume.CheckShareName(v.CSI.VolumeAttributes["share"])
			if dir := v.CSI.VolumeAttributes["subDir"]; err == nil && dir != "" {
				err = volume.CheckDirectory(dir)
			}
			if err != nil || named != driver {
				break
			}
		}
	case "VolumeSnapshotClass":
		named = e.Driver
		err = volume.CheckSnapshotParams(parameters)
	}
	if err == nil && named != driver {
		err = volume.Errorf(volume.ErrInvalid, "the driver is %q, not %q", named, driver)
	}
	return err
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	dropped = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// anchor is what a heading can be linked to by.
func anchor(heading string) string {
	return strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// TestLinks follows the links between documents, and to headings in them.
func TestLinks(t *testing.T) {
	for name, page := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(page, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, at, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			anchors := map[string]bool{"": true}
			if info, err := os.Stat(filepath.Join(root, target)); err == nil && info.IsDir() && at == "" {
				continue
			}
			for _, h := range heading.FindAllStringSubmatch(text(t, target), -1) {
				anchors[anchor(h[1])] = true
			}
			if !anchors[at] {
				t.Errorf("%s: %s has no heading for #%s", name, target, at)
			}
		}
	}
}

// TestIndex looks for each page of docs in the index, docs/README.md.
func TestIndex(t *testing.T) {
	index := text(t, "docs/README.md")
	for name := range documents(t) {
		if page, ok := strings.CutPrefix(name, "docs/"); ok && page != "README.md" && !strings.Contains(index, "("+page+")") {
			t.Errorf("docs/README.md does not link to %s", page)
		}
	}
}

var target = regexp.MustCompile("(?m)(?:^|`)make ([a-z0-9-]+)")

// TestTargets looks for the targets of make that are named. Steps of package share begin so too.
func TestTargets(t *testing.T) {
	makefile, all := text(t, "Makefile"), steps(t)
	for name, page := range documents(t) {
		for _, step := range all {
			page = strings.ReplaceAll(page, "`"+step, "`")
		}
		for _, m := range target.FindAllStringSubmatch(page, -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s: the Makefile has no target %s", name, m[1])
			}
		}
	}
}
