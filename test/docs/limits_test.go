// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	limitsPage  = "docs/reliability.md"
	limitsBegin = "<!-- go test ./test/docs -run TestTimeLimits -update -->\n"
	limitsEnd   = "<!-- end of time limits -->\n"
)

// limit is a constant of the code that is a duration.
type limit struct {
	name  string // package.constant
	value time.Duration
}

var units = map[string]time.Duration{
	"Nanosecond": time.Nanosecond, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond,
	"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
}

// durations evaluates the constant durations of one package.
type durations struct {
	known map[string]time.Duration // by constant
}

// value evaluates a constant expression. isDuration is false for an expression without a unit of package
// time.
func (d durations) value(e ast.Expr) (value time.Duration, isDuration bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		n, _ := strconv.ParseInt(strings.ReplaceAll(e.Value, "_", ""), 0, 64)
		return time.Duration(n), false
	case *ast.ParenExpr:
		return d.value(e.X)
	case *ast.Ident:
		value, isDuration = d.known[e.Name]
		return value, isDuration
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && x.Name == "time" {
			value, isDuration = units[e.Sel.Name]
		}
		return value, isDuration
	case *ast.BinaryExpr:
		x, isX := d.value(e.X)
		y, isY := d.value(e.Y)
		switch e.Op {
		case token.MUL:
			return x * y, isX || isY
		case token.QUO:
			return x / max(y, 1), isX && !isY
		case token.ADD:
			return x + y, isX && isY
		case token.SUB:
			return x - y, isX && isY
		}
	}
	return 0, false
}

// constants returns the constants of a file that are durations.
func (d durations) constants(f *ast.File) (all []limit) {
	ast.Inspect(f, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			return true
		}
		for _, spec := range decl.Specs {
			v := spec.(*ast.ValueSpec)
			for i, e := range v.Values {
				if value, ok := d.value(e); ok {
					d.known[v.Names[i].Name] = value
					all = append(all, limit{f.Name.Name + "." + v.Names[i].Name, value})
				}
			}
		}
		return true
	})
	return all
}

// timeLimits returns all constants of pkg and cmd that are durations, by package.
func timeLimits(t *testing.T) (all []limit) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(root, "[pc][km][gd]/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		var found []limit
		d := durations{known: map[string]time.Duration{}}
		for range 2 { // a constant can depend on one of a later file
			found = nil
			for _, file := range files {
				if strings.HasSuffix(file, "_test.go") {
					continue
				}
				found = append(found, d.constants(source(t, strings.TrimPrefix(file, root+"/")))...)
			}
		}
		for _, l := range found {
			if name, ok := strings.CutPrefix(l.name, "main."); ok {
				l.name = filepath.Base(dir) + "." + name
			}
			all = append(all, l)
		}
	}
	return all
}

// formatLimit formats a duration without units that are zero: 1m, not 1m0s.
func formatLimit(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

var (
	// limitRow is a row of the table: the constant, its value, what it bounds, and its order.
	limitRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\| (.*?) \\| (.*?) \\|$")
	// comparison is one of a row's order: an operator, and a sum of constants and durations. A sum before the
	// operator stands for the row's constant.
	comparison = regexp.MustCompile("(?:`([^`]+)` )?([<>≤≥=]) `([^`]+)`")
)

func packageOf(constant string) string {
	name, _, _ := strings.Cut(constant, ".")
	return name
}

// renameLimits renames the constants of a table: if the code has a constant that the table does not, and
// the table has exactly one of that package and value that the code does not, it is the same one.
func renameLimits(table string, all []limit, values map[string]time.Duration) string {
	for _, l := range all {
		if strings.Contains(table, "| `"+l.name+"` |") {
			continue
		}
		var old []string
		for _, m := range limitRow.FindAllStringSubmatch(table, -1) {
			if _, exists := values[m[1]]; !exists && m[2] == formatLimit(l.value) && packageOf(m[1]) == packageOf(l.name) {
				old = append(old, m[1])
			}
		}
		if len(old) == 1 {
			table = regexp.MustCompile(`\b`+regexp.QuoteMeta(old[0])+`\b`).ReplaceAllString(table, l.name)
		}
	}
	return table
}

// sum evaluates a sum of constants and durations, each of which can have a factor: 2 × probe.queryTimeout + 1s.
func sum(text string, values map[string]time.Duration) (time.Duration, error) {
	var total time.Duration
	for term := range strings.SplitSeq(text, " + ") {
		factor := 1
		if before, after, ok := strings.Cut(term, " × "); ok {
			n, err := strconv.Atoi(before)
			if err != nil {
				return 0, err
			}
			factor, term = n, after
		}
		value, known := values[term]
		if !known {
			var err error
			if value, err = time.ParseDuration(term); err != nil {
				return 0, fmt.Errorf("%q is neither a constant nor a duration", term)
			}
		}
		total += time.Duration(factor) * value
	}
	return total, nil
}

// checkOrder compares a constant with the order in its row.
func checkOrder(l limit, order string, values map[string]time.Duration) error {
	rest := order
	for _, m := range comparison.FindAllStringSubmatch(order, -1) {
		rest = strings.Replace(rest, m[0], "", 1)
		value, err := sum(cmp.Or(m[1], l.name), values)
		if err != nil {
			return err
		}
		other, err := sum(m[3], values)
		if err != nil {
			return err
		}
		holds := map[string]bool{"<": value < other, ">": value > other, "≤": value <= other, "≥": value >= other, "=": value == other}
		if !holds[m[2]] {
			return fmt.Errorf("%s does not hold: %v and %v", m[0], value, other)
		}
	}
	if strings.Contains(rest, "`") {
		return fmt.Errorf("its order %q has another form", order)
	}
	return nil
}

// TestTimeLimits compares the table of docs/reliability.md with the constants that are durations: each has a
// row, with its value, what it bounds, and which other constants it must be shorter or longer than. With
// -update it writes the table; the cells that people wrote stay.
func TestTimeLimits(t *testing.T) {
	page := text(t, limitsPage)
	before, rest, ok := strings.Cut(page, limitsBegin)
	was, after, ended := strings.Cut(rest, limitsEnd)
	if !ok || !ended {
		t.Fatalf("%s has no marks %q and %q for the table", limitsPage, limitsBegin, limitsEnd)
	}
	all, values := timeLimits(t), map[string]time.Duration{}
	for _, l := range all {
		values[l.name] = l.value
	}
	written := map[string][2]string{}
	for _, m := range limitRow.FindAllStringSubmatch(renameLimits(was, all, values), -1) {
		written[m[1]] = [2]string{m[3], m[4]}
	}
	var now strings.Builder
	now.WriteString("\n| Constant | Value | What it bounds | Must be |\n|---|---|---|---|\n")
	for _, l := range all {
		bounds, order := written[l.name][0], written[l.name][1]
		if bounds == "" || bounds == "?" {
			bounds = "?"
			t.Errorf("%s does not say what %s bounds", limitsPage, l.name)
		}
		if err := checkOrder(l, order, values); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
		fmt.Fprintf(&now, "| `%s` | %s | %s | %s |\n", l.name, formatLimit(l.value), bounds, order)
	}
	now.WriteString("\n")
	if was == now.String() {
		return
	}
	if !*update {
		t.Fatalf("%s does not have the constants of the code: run go test ./test/docs -run TestTimeLimits -update, and fill in each ?", limitsPage)
	}
	if err := os.WriteFile(filepath.Join(root, limitsPage), []byte(before+limitsBegin+now.String()+limitsEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
