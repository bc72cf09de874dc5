// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
)

var update = flag.Bool("update", false, "write the tables of docs/doctor.md")

// TestCatalogue checks that the catalogue has every check and cause that the code uses, once and
// complete.
func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range slices.Concat(nodeChecks(), serverChecks(), shareChecks()) {
		if seen[c.ID] || c.Title == "" || c.How == "" || c.Why == "" || len(c.Problems) == 0 {
			t.Errorf("the check %+v is a duplicate, or incomplete", c)
		}
		seen[c.ID] = true
		causes := map[string]bool{}
		for _, problem := range slices.Concat(c.Problems, commonProblems()) {
			if causes[problem.Cause] || problem.Summary == "" || problem.Remedy == "" || problem.Status != Warn && problem.Status != Fail {
				t.Errorf("check %s: the problem %+v is a duplicate, or incomplete", c.ID, problem)
			}
			causes[problem.Cause] = true
		}
	}
	used := usedWords(t)
	for _, c := range slices.Concat(nodeChecks(), serverChecks(), shareChecks()) {
		for _, problem := range c.Problems {
			if !used[problem.Cause] && !slices.Contains(mountCauses(), problem.Cause) {
				t.Errorf("check %s: the code does not use the cause %s", c.ID, problem.Cause)
			}
		}
	}
	for _, problem := range mountProblems() {
		if !slices.Contains(mountCauses(), problem.Cause) {
			t.Errorf("package mount has no cause %q", problem.Cause)
		}
	}
}

func mountCauses() []string {
	var all []string
	for _, c := range []mount.Cause{mount.Denied, mount.NoVersion, mount.NoStatd, mount.BadOption, mount.NoKernel, mount.NoProgram, mount.NotPermitted, mount.NotEncrypted, mount.NoTLSHandler, mount.NoHandshake, mount.NoGSSHandler, mount.NoContext, mount.AsksMore, mount.NoLabel, mount.MissingOptions, mount.DiskFailed, mount.Stale, mount.Silent} {
		all = append(all, string(c))
	}
	return all
}

// usedWords looks up every check and cause that the code names, and returns all string literals of
// the code.
func usedWords(t *testing.T) map[string]bool {
	t.Helper()
	words := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "catalogue.go" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				words[text(l)] = true
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || len(call.Args) < 2 || !slices.Contains([]string{"ok", "skip", "problem", "failure"}, method.Sel.Name) {
				return true
			}
			if id := text(call.Args[0]); id != "" {
				check := checkByID(id) // panics if there is none
				if cause := text(call.Args[1]); method.Sel.Name == "problem" && cause != "" {
					check.problem(cause)
				}
			}
			return true
		})
	}
	return words
}

func text(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, _ := strconv.Unquote(l.Value)
	return s
}

// TestDocs checks that docs/doctor.md has the catalogue. With -update it writes it there.
func TestDocs(t *testing.T) {
	const path, begin, end = "../../docs/doctor.md", "<!-- go test ./pkg/doctor -update -->\n", "<!-- end -->\n"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no markers for the tables", path)
	}
	want := before + begin + tables() + end + after
	if string(data) == want {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the catalogue: run go test ./pkg/doctor -run TestDocs -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func tables() string {
	var b strings.Builder
	for _, part := range []struct {
		title  string
		checks []Check
	}{
		{"This machine", nodeChecks()},
		{"The server, and the way to it", serverChecks()},
		{"The share", shareChecks()},
		{"Any of these", []Check{{Problems: commonProblems()}}},
	} {
		fmt.Fprintf(&b, "\n### %s\n\n| Check | Finding | What it is | What to do |\n|---|---|---|---|\n", part.title)
		for _, c := range part.checks {
			if c.ID != "" {
				fmt.Fprintf(&b, "| **%s** (`%s`) | | %s. %s | |\n", c.Title, c.ID, upper(c.How), c.Why)
			}
			for _, problem := range c.Problems {
				fmt.Fprintf(&b, "| | %s `%s` | %s | %s%s |\n", mark(problem.Status), problem.Cause, problem.Summary, problem.Remedy, code(problem.Command))
			}
		}
	}
	b.WriteString("\n")
	return strings.ReplaceAll(b.String(), "||", `\|\|`)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func mark(s Status) string {
	if s == Warn {
		return "!"
	}
	return "✗"
}

func code(command string) string {
	command, onServer := strings.CutPrefix(command, "@")
	switch {
	case command == "":
		return ""
	case onServer:
		return " On the server: `" + strings.ReplaceAll(command, " | ", ` \| `) + "`"
	}
	return " `" + strings.ReplaceAll(command, " | ", ` \| `) + "`"
}
