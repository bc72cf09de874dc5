// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// maxIndented is the part of a package's error checks, in percent, that may be "if err == nil".
const maxIndented = 8

// TestErrorChecks checks that packages return errors early: "if err == nil" indents the normal case.
// A check with more conditions, and the only one of a package, may be anything.
func TestErrorChecks(t *testing.T) {
	type count struct{ equal, all int }
	counts := map[string]count{}
	each(t, func(p pkg, _ string, _ *token.FileSet, f *ast.File) {
		c := counts[p.name()]
		ast.Inspect(f, func(n ast.Node) bool {
			i, ok := n.(*ast.IfStmt)
			if !ok {
				return true
			}
			switch op := errorCheck(i.Cond); op {
			case token.EQL:
				c.equal++
				c.all++
			case token.NEQ:
				c.all++
			}
			return true
		})
		counts[p.name()] = c
	})
	total := 0
	for name, c := range counts {
		total += c.all
		if c.equal > 1 && 100*c.equal >= maxIndented*c.all {
			t.Errorf("%s has %d times \"if err == nil\" among %d error checks, and less than %d %% are allowed: return errors early", name, c.equal, c.all, maxIndented)
		}
	}
	if total < 1000 {
		t.Errorf("found only %d error checks", total)
	}
}

// errorCheck returns the operator of a condition that only compares an error with nil.
func errorCheck(cond ast.Expr) token.Token {
	b, ok := cond.(*ast.BinaryExpr)
	if !ok {
		return token.ILLEGAL
	}
	if y, ok := b.Y.(*ast.Ident); !ok || y.Name != "nil" {
		return token.ILLEGAL
	}
	x := b.X
	if s, ok := x.(*ast.SelectorExpr); ok {
		x = s.Sel
	}
	if name, ok := x.(*ast.Ident); ok && strings.HasSuffix(strings.ToLower(name.Name), "err") {
		return b.Op
	}
	return token.ILLEGAL
}
