// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxMethods  = 20
	maxExported = 12
)

// large are the types that may have more methods than others, each with the reason.
var large = map[string]string{}

// TestMethods limits the methods of each type, in tests too. A promoted method counts for the
// embedded type only.
func TestMethods(t *testing.T) {
	type count struct{ all, exported int }
	counts := map[string]count{}
	eachMethod(t, func(of string, name *ast.Ident) {
		c := counts[of]
		c.all++
		if name.IsExported() {
			c.exported++
		}
		counts[of] = c
	})
	if len(counts) < len(floors) {
		t.Fatalf("found only %d types", len(counts))
	}
	for _, of := range slices.Sorted(maps.Keys(counts)) {
		c := counts[of]
		over := c.all > maxMethods || c.exported > maxExported
		_, may := large[of]
		switch {
		case over && !may:
			t.Errorf("%s has %d methods, %d of them exported, and %d and %d are allowed: split the type", of, c.all, c.exported, maxMethods, maxExported)
		case may && !over:
			t.Errorf("%s has %d methods, %d of them exported: remove it from the list of large types", of, c.all, c.exported)
		}
	}
	for of := range large {
		if counts[of].all == 0 {
			t.Errorf("there is no type %s any more: remove it from the list of large types", of)
		}
	}
}

// eachMethod calls found for each method in the repository, with its type: "pkg/share.Share".
func eachMethod(t *testing.T, found func(of string, name *ast.Ident)) {
	t.Helper()
	root := filepath.Join("..", "..")
	for _, top := range []string{"cmd", "pkg", "test"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
					found(dir+"."+receiver(fn.Recv.List[0].Type), fn.Name)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// receiver returns the name of a receiver's type, without * and type parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
