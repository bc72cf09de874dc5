// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

const (
	designPage = "docs/design.md"
	layoutHead = "<directory>/ "
)

// between returns the lines of a text from the one that begins with head to the one before end.
func between(t *testing.T, where, text, head, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut("\n"+text, "\n"+head)
	block, _, ended := strings.Cut(rest, "\n"+end+"\n")
	if !ok || !ended {
		t.Fatalf("%s has no layout from %q to %q", where, head, end)
	}
	return head + block
}

// packageComment returns the comment of package share, without indentation.
func packageComment(t *testing.T) string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "pkg/share/doc.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(f.Doc.Text(), "\n\t", "\n")
}

// TestLayout checks that docs/design.md and the comment of package share have the same layout of a
// share, and that this layout and the one in docs/architecture.md have all directories in the code.
func TestLayout(t *testing.T) {
	layout := between(t, designPage, text(t, designPage), layoutHead, "```")
	comment := between(t, "the comment of package share", packageComment(t), layoutHead, "")
	if layout != comment {
		t.Errorf("%s has\n%s\nand pkg/share/doc.go\n%s", designPage, layout, comment)
	}
	_, in, ok := strings.Cut(layout, "\n"+volume.StateDir+"/ ")
	if !ok {
		t.Fatalf("the layout in %s has no %s", designPage, volume.StateDir)
	}
	_, tree, ok := strings.Cut(text(t, "docs/architecture.md"), "└── "+volume.StateDir+"/")
	if !ok {
		t.Fatalf("docs/architecture.md does not show %s", volume.StateDir)
	}
	tree, _, _ = strings.Cut(tree, "```")
	told, shown, known := map[string]bool{}, map[string]bool{}, map[string]bool{volume.FormatName: true, "heartbeat": true, volume.InlineDir: true}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z][a-z.]*)`).FindAllStringSubmatch(in, -1) {
		told[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^    [├└]── ([a-z.]+)`).FindAllStringSubmatch(tree, -1) {
		shown[m[1]] = true
	}
	ast.Inspect(source(t, "pkg/share/share.go"), func(n ast.Node) bool {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "directories" {
			return true
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if pair, ok := n.(*ast.KeyValueExpr); ok {
				if name, ok := literal(pair.Key); ok {
					known[name] = true
				}
			}
			return true
		})
		return false
	})
	if len(known) < 8 {
		t.Fatalf("pkg/share/share.go says that there are %v: its function directories has another form", known)
	}
	lists(t, "docs/architecture.md", shown, known)
	known[volume.AddedIDName] = true // on a share that is older than ids
	known["format."] = true          // temporary
	lists(t, "the layout in "+designPage, told, known)
	paths := strings.Join(regexp.MustCompile(`(?m)^ *[^ ](?: ?[^ ])*`).FindAllString(in, -1), "\n")
	for name, value := range diskNames(t) {
		if !regexp.MustCompile(`(?m)(^|[ /])` + regexp.QuoteMeta(value) + `([,/<]|$)`).MatchString(paths) {
			t.Errorf("the layout in %s does not have %q, the value of %s in pkg/share", designPage, value, name)
		}
	}
}

// diskNames returns the constants of package share that are names, or prefixes of names, on a share.
func diskNames(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	sources(t, "pkg/share", func(_ string, file *ast.File) {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, spec := range decl.Specs {
				s := spec.(*ast.ValueSpec)
				if !diskName.MatchString(s.Names[0].Name) || len(s.Values) != 1 {
					continue
				}
				if value, ok := literal(s.Values[0]); ok {
					all[s.Names[0].Name] = value
				}
			}
		}
	})
	if len(all) < 20 {
		t.Fatalf("pkg/share has only the names %v", all)
	}
	return all
}

// diskName matches the name of such a constant.
var diskName = regexp.MustCompile(`^[a-z]+(File|Name|Note|Hold)$`)

// sources calls each for each Go file of a package that is not a test.
func sources(t *testing.T, dir string, each func(path string, file *ast.File)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			each(file, source(t, strings.TrimPrefix(file, root+"/")))
		}
	}
}

// steps returns the names of the steps of package share. Those that end in a file name have a space
// at the end.
func steps(t *testing.T) []string {
	t.Helper()
	var all []string
	sources(t, "pkg/share", func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || names(call.Fun) != "step" || len(call.Args) != 1 {
				return true
			}
			what := call.Args[0]
			if sum, ok := what.(*ast.BinaryExpr); ok {
				what = sum.X
			}
			words, ok := literal(what)
			if !ok {
				t.Errorf("%s: the name of a step is not a literal", path)
				return true
			}
			all = append(all, words)
			return true
		})
	})
	slices.Sort(all)
	if all = slices.Compact(all); len(all) < 50 {
		t.Fatalf("only %d steps were found in pkg/share: %q", len(all), all)
	}
	return all
}

// TestSteps checks that docs/design.md has each step of package share, and that package share has each
// step in the first column of a table there.
func TestSteps(t *testing.T) {
	page, all := text(t, designPage), steps(t)
	for _, step := range all {
		told := "`" + step + "`"
		if strings.HasSuffix(step, " ") {
			told = "`" + step
		}
		// A line may be broken within the words.
		if !strings.Contains(strings.Join(strings.Fields(page), " "), told) {
			t.Errorf("%s does not have the step %q of pkg/share", designPage, step)
		}
	}
	in, lines := false, strings.Split(page, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "|") {
			in = false
			continue
		}
		if i > 0 && !strings.HasPrefix(lines[i-1], "|") {
			in = strings.HasPrefix(line, "| step |")
			continue
		}
		if !in {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			known := slices.ContainsFunc(all, func(step string) bool {
				return step == m[1] || strings.HasSuffix(step, " ") && strings.HasPrefix(m[1], step)
			})
			if !known && !strings.HasPrefix(m[1], ".") && !strings.HasSuffix(m[1], ".json") {
				t.Errorf("%s has a step %q, which pkg/share does not have", designPage, m[1])
			}
		}
	}
}

// TestPackages checks that docs/architecture.md names each package.
func TestPackages(t *testing.T) {
	page := text(t, "docs/architecture.md")
	entries, err := os.ReadDir(filepath.Join(root, "pkg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(page, "`"+e.Name()+"`") {
			t.Errorf("docs/architecture.md does not name the package %s", e.Name())
		}
	}
}
