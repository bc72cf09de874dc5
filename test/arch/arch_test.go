// SPDX-License-Identifier: Apache-2.0

// Package arch checks the layout of the program: who may import whom, who may touch what,
// how long a file and a function may be, and how many methods a type may have.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/mooring-csi/mooring"

// floors says on which floor each package lives. An import runs downwards.
var floors = map[string]int{
	"volume": 0, "config": 0, "keylock": 0, "bounded": 0, "child": 0, "beneath": 0,
	"mount": 1, "share": 1, "copytree": 1, "probe": 1, "kube": 1,
	"pool":      2,
	"provision": 3, "publish": 3, "jobs": 3,
	"driver": 4, "metrics": 4, "doctor": 4, "admin": 4,
}

// edges are the imports between packages that are allowed. cmd joins what it likes.
var edges = map[string][]string{
	"volume": {}, "keylock": {}, "bounded": {}, "child": {}, "beneath": {}, "kube": {},
	"config":    {"volume"},
	"mount":     {"child", "volume"},
	"probe":     {"child", "volume"},
	"copytree":  {"beneath"},
	"share":     {"beneath", "volume"},
	"pool":      {"bounded", "mount", "probe", "share", "volume"},
	"jobs":      {"bounded", "copytree", "pool", "share", "volume"},
	"provision": {"bounded", "jobs", "keylock", "share", "volume"},
	"publish":   {"beneath", "child", "keylock", "mount", "probe", "share", "volume"},
	"driver":    {"volume"},
	"admin":     {"bounded", "copytree", "kube", "share", "volume"},
	"metrics":   {"child", "jobs", "mount", "probe"},
	"doctor":    {"beneath", "bounded", "child", "copytree", "mount", "pool", "probe", "volume"},
}

// sideways are the edges within a floor.
var sideways = []string{"config->volume", "provision->jobs"}

// doors are what only some packages may import, and who they are.
var doors = map[string][]string{
	"github.com/container-storage-interface/": {"pkg/driver"},
	"google.golang.org/grpc":                  {"pkg/driver", "cmd/mooring"},
	"google.golang.org/grpc/codes":            {"pkg/driver"},
	"google.golang.org/grpc/status":           {"pkg/driver"},
	"google.golang.org/grpc/credentials/":     {"pkg/driver"},
	"google.golang.org/protobuf/":             {"pkg/driver"},
	"k8s.io/kubelet/":                         {"pkg/driver"},
	"github.com/kubernetes-csi/":              {"pkg/driver", "pkg/metrics"},
	"github.com/prometheus/":                  {"pkg/metrics"},
	"k8s.io/mount-utils":                      {"pkg/mount"},
	"github.com/moby/sys/mountinfo":           {"pkg/mount", "pkg/copytree"},
	"k8s.io/client-go":                        {"pkg/kube"},
	"os/exec":                                 {"pkg/child"},
	"flag":                                    {"cmd/mooring"},
	"github.com/spf13/":                       {"cmd/mooring", "cmd/mooringctl"},
}

// drawers are names of packages in which anything would end up.
var drawers = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base", "types"}

type pkg struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports         []string
}

// name is how the house calls a package: "pkg/share", "cmd/mooring".
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// packages lists what is shipped: cmd and pkg, without their tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < len(floors) {
		t.Fatalf("go list knows of %d packages only", len(all))
	}
	return all
}

var list = sync.OnceValues(func() ([]pkg, error) {
	root := filepath.Join("..", "..")
	// That the directories are read tells go test that a new file makes its cached result old.
	for _, dir := range []string{"cmd", "pkg"} {
		if err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,Imports", "./cmd/...", "./pkg/...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, &stderr)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

// TestFloors checks the table itself: edges run down, or are listed as running sideways.
func TestFloors(t *testing.T) {
	for from, tos := range edges {
		for _, to := range tos {
			side := floors[from] == floors[to] && slices.Contains(sideways, from+"->"+to)
			if floors[from] <= floors[to] && !side {
				t.Errorf("the edge %s -> %s does not run downwards (L%d to L%d)", from, to, floors[from], floors[to])
			}
		}
	}
}

func TestEdges(t *testing.T) {
	for _, p := range packages(t) {
		from, inPkg := strings.CutPrefix(p.name(), "pkg/")
		if _, known := floors[from]; inPkg && !known {
			t.Errorf("pkg/%s has no floor: give it one, and its edges, in test/arch", from)
			continue
		}
		for _, path := range p.Imports {
			to, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			to, isPkg := strings.CutPrefix(to, "pkg/")
			switch {
			case !isPkg:
				t.Errorf("%s imports %s: what is shipped needs nothing but pkg", p.name(), path)
			case inPkg && !slices.Contains(edges[from], to):
				t.Errorf("pkg/%s (L%d) imports pkg/%s (L%d), and may import %q only: declare the interface that it needs, or argue for the edge in test/arch",
					from, floors[from], to, floors[to], edges[from])
			}
		}
	}
}

func TestDoors(t *testing.T) {
	for _, p := range packages(t) {
		for _, path := range p.Imports {
			door := doorOf(path)
			if door != "" && !slices.Contains(doors[door], p.name()) {
				t.Errorf("%s imports %s: that is for %s alone", p.name(), path, strings.Join(doors[door], " and "))
			}
		}
		for part := range strings.SplitSeq(p.name(), "/") {
			if slices.Contains(drawers, part) {
				t.Errorf("package %s: the name %q says nothing of what is in it", p.name(), part)
			}
		}
	}
}

// doorOf returns the longest door that an import goes through, or "".
func doorOf(path string) string {
	best := ""
	for door := range doors {
		if (path == door || strings.HasPrefix(path, strings.TrimSuffix(door, "/")+"/")) && len(door) > len(best) {
			best = door
		}
	}
	return best
}

// TestMounts finds who mounts or unmounts but for package mount: by system call or by program.
func TestMounts(t *testing.T) {
	calls := []string{"Mount", "Unmount", "MoveMount", "OpenTree", "Fsopen", "Fsmount", "MountSetattr", "PivotRoot"}
	each(t, func(p pkg, file string, set *token.FileSet, f *ast.File) {
		if p.name() == "pkg/mount" {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && (x.Name == "unix" || x.Name == "syscall") && slices.Contains(calls, n.Sel.Name) {
					t.Errorf("%s: %s.%s: only pkg/mount mounts", set.Position(n.Pos()), x.Name, n.Sel.Name)
				}
			case *ast.CallExpr:
				for _, arg := range n.Args {
					if program := literal(arg); runs(n) && mounts(program) {
						t.Errorf("%s: runs %s: only pkg/mount does", set.Position(n.Pos()), program)
					}
				}
			}
			return true
		})
	})
}

// runs reports whether a call runs a program: exec.Command, or child.Children's Run.
func runs(c *ast.CallExpr) bool {
	s, ok := c.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains([]string{"Run", "Command", "CommandContext", "StartProcess", "Exec"}, s.Sel.Name)
}

func mounts(program string) bool {
	base := filepath.Base(program)
	return base == "mount" || base == "umount" || strings.HasPrefix(base, "mount.") || strings.HasPrefix(base, "umount.")
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, _ := strconv.Unquote(l.Value)
		return s
	}
	return ""
}

const (
	maxFile     = 400
	maxFunction = 60
)

func TestSizes(t *testing.T) {
	each(t, func(p pkg, file string, set *token.FileSet, f *ast.File) {
		if n := set.File(f.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s/%s has %d lines, and %d are allowed: it has two subjects", p.name(), file, n, maxFile)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, and %d are allowed: it does two things", set.Position(fn.Pos()), fn.Name.Name, n, maxFunction)
			}
		}
	})
}

// each parses every file that is shipped.
func each(t *testing.T, check func(p pkg, file string, set *token.FileSet, f *ast.File)) {
	t.Helper()
	for _, p := range packages(t) {
		for _, file := range p.GoFiles {
			set := token.NewFileSet()
			source, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			f, err := parser.ParseFile(set, p.name()+"/"+file, source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			check(p, file, set, f)
		}
	}
}
