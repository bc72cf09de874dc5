// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "update the tables of docs/errors.md and docs/reliability.md")

// failure is an error that the driver can return.
type failure struct {
	code, kind   string
	words        string // what it says, with … where something is filled in
	cause, doing string
}

// names returns the name that an expression ends in: ErrInvalid of volume.ErrInvalid.
func names(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// codeOf reads the driver's table from kinds of error to gRPC's codes.
func codeOf(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	ast.Inspect(source(t, "pkg/driver/codes.go"), func(n ast.Node) bool {
		if pair, ok := n.(*ast.KeyValueExpr); ok && strings.HasPrefix(names(pair.Key), "Err") {
			all[names(pair.Key)] = names(pair.Value)
		}
		return true
	})
	if len(all) < 10 {
		t.Fatalf("pkg/driver/codes.go has the codes %v", all)
	}
	return all
}

var verb = regexp.MustCompile(`%[-+#.0-9]*[a-z]`)

// filled puts … where something is filled in.
func filled(format string) string {
	return regexp.MustCompile(`…(?:[ ,/.]*…)+`).ReplaceAllString(verb.ReplaceAllString(strings.ReplaceAll(format, "|", "/"), "…"), "…")
}

// failures collects the errors that are given a kind where they are made, the advice that
// package share gives to a system's error, and what package mount makes of mount(8)'s words.
func failures(t *testing.T) (all, system, mounts []failure) {
	t.Helper()
	codes, seen := codeOf(t), map[string]bool{}
	add := func(to *[]failure, kind, words, cause, doing string) {
		if !strings.HasPrefix(kind, "Err") || seen[kind+words] || strings.Trim(words, "…: %") == "" {
			return
		}
		seen[kind+words] = true
		if codes[kind] == "" {
			t.Errorf("%q is of the kind %s, which has no code", words, kind)
		}
		*to = append(*to, failure{codes[kind], kind, words, cause, doing})
	}
	files, err := filepath.Glob(filepath.Join(root, "pkg/*/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "fake.go" {
			continue
		}
		ast.Inspect(source(t, strings.TrimPrefix(file, root+"/")), func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				switch name := names(n.Fun); {
				case name == "Errorf" && len(n.Args) > 1:
					format, _ := literal(n.Args[1])
					add(&all, names(n.Args[0]), filled(format), "", "")
				case name == "invalid":
					format, _ := literal(n.Args[0])
					add(&all, "ErrInvalid", filled(format), "", "")
				case name == "busy" && strings.Contains(file, "pkg/share/"):
					format, _ := literal(n.Args[0])
					add(&all, "ErrBusy", filled(format)+": try again", "", "")
				}
			case *ast.CompositeLit: // of mount's causes
				if len(n.Elts) == 4 && strings.HasSuffix(file, "mount/explain.go") {
					says, _ := literal(n.Elts[0])
					advice, _ := literal(n.Elts[3])
					cause, doing, _ := strings.Cut(advice, ": ")
					add(&mounts, names(n.Elts[2]), says, cause, doing)
				}
			case *ast.CaseClause: // of share's classify
				if len(n.Body) == 0 || !strings.HasSuffix(file, "share/disk.go") {
					break
				}
				if r, ok := n.Body[0].(*ast.ReturnStmt); ok && len(r.Results) == 2 {
					advice, _ := literal(r.Results[0])
					cause, doing, _ := strings.Cut(strings.TrimPrefix(advice, ": "), ": ")
					var errnos []string
					for _, e := range n.List {
						if names(e) != "" {
							errnos = append(errnos, names(e))
						}
					}
					if len(errnos) > 0 {
						add(&system, names(r.Results[1]), strings.Join(errnos, ", "), cause, doing)
					}
				}
			}
			return true
		})
	}
	return all, system, mounts
}

// sentence makes one of what is half of one in the code.
func sentence(s string) string {
	if s == "" || s == "?" || strings.HasSuffix(s, ".") {
		return s
	}
	for _, name := range []string{"mount.nfs", "nfs", "rpc.gssd", "exportfs"} {
		if strings.HasPrefix(s, name) {
			return s + "."
		}
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

const (
	errorsPage  = "docs/errors.md"
	errorsBegin = "<!-- go test ./test/docs -update -->\n"
	errorsEnd   = "<!-- end -->\n"
)

// row is one of the page's: what it says, the cause, and what to do.
var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*?) \\| (.*?) \\|$")

// TestErrors compares docs/errors.md with the errors that there are: each has a row, with a
// cause and a remedy, under its gRPC code. With -update it is written anew, and what people
// wrote for each error is kept.
func TestErrors(t *testing.T) {
	all, system, mounts := failures(t)
	if len(all) < 100 || len(system) < 8 || len(mounts) < 20 {
		t.Fatalf("only %d, %d and %d errors were found", len(all), len(system), len(mounts))
	}
	page := text(t, errorsPage)
	before, rest, ok := strings.Cut(page, errorsBegin)
	was, after, ended := strings.Cut(rest, errorsEnd)
	if !ok || !ended {
		t.Fatalf("%s has no place for the tables: between %q and %q", errorsPage, errorsBegin, errorsEnd)
	}
	written := map[string][2]string{}
	for _, m := range row.FindAllStringSubmatch(was, -1) {
		written[m[1]] = [2]string{m[2], m[3]}
	}
	byCode := map[string][]failure{}
	for _, f := range all {
		w := written[f.words]
		if f.cause, f.doing = w[0], w[1]; f.cause == "" || f.doing == "" || f.cause == "?" || f.doing == "?" {
			f.cause, f.doing = "?", "?"
			t.Errorf("%s tells no cause or remedy of %q", errorsPage, f.words)
		}
		byCode[f.code] = append(byCode[f.code], f)
	}
	var now strings.Builder
	table := func(head string, failures []failure, coded bool) {
		if coded {
			fmt.Fprintf(&now, "\n| %s | Code | Cause | What to do |\n|---|---|---|---|\n", head)
		} else {
			fmt.Fprintf(&now, "\n| %s | Cause | What to do |\n|---|---|---|\n", head)
		}
		for _, f := range failures {
			code := ""
			if coded {
				code = f.code + " | "
			}
			if f.cause == "" || f.doing == "" {
				t.Errorf("the advice about %q has not the form \"cause: remedy\"", f.words)
			}
			fmt.Fprintf(&now, "| `%s` | %s%s | %s |\n", f.words, code, sentence(f.cause), sentence(f.doing))
		}
	}
	for _, code := range slices.Sorted(maps.Keys(byCode)) {
		fmt.Fprintf(&now, "\n### %s\n", code)
		table("Message", byCode[code], false)
	}
	now.WriteString("\n### What mount(8) says\n\nThe error contains mount(8)'s message, its cause, and what to do.\n")
	table("mount(8) says", mounts, true)
	now.WriteString("\n### What the server, or the kernel, says\n\nThe errors have the form `share …: the operation: the system error: its cause: what to do`.\n")
	table("System error", system, true)
	now.WriteString("\n")
	if was == now.String() {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code has: go test ./test/docs -update, and fill in each ?", errorsPage)
	}
	if err := os.WriteFile(filepath.Join(root, errorsPage), []byte(before+errorsBegin+now.String()+errorsEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
