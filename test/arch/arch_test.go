// SPDX-License-Identifier: Apache-2.0

// Package arch checks the layout of the program: which package may import which, and may use which
// dependency and system call, the length of files and functions, the number of methods of a type and
// of dependencies, and the form of error checks.
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

// floors is the layer of each package. Imports run downwards.
var floors = map[string]int{
	"volume": 0, "config": 0, "keylock": 0, "bounded": 0, "child": 0, "beneath": 0,
	"mount": 1, "share": 1, "copytree": 1, "probe": 1, "kube": 1,
	"pool":      2,
	"provision": 3, "publish": 3, "jobs": 3,
	"driver": 4, "metrics": 4, "doctor": 4, "admin": 4,
}

// edges are the allowed imports between packages. cmd may import each of them.
var edges = map[string][]string{
	"volume": {}, "keylock": {}, "bounded": {}, "child": {}, "beneath": {}, "kube": {},
	"config":    {"volume"},
	"mount":     {"child", "volume"},
	"probe":     {"child", "volume"},
	"copytree":  {"beneath"},
	"share":     {"beneath", "volume"},
	"pool":      {"bounded", "mount", "probe", "share", "volume"},
	"jobs":      {"bounded", "copytree", "pool", "share", "volume"},
	"provision": {"bounded", "keylock", "share", "volume"},
	"publish":   {"beneath", "child", "keylock", "mount", "probe", "share", "volume"},
	"driver":    {"volume"},
	"admin":     {"bounded", "copytree", "kube", "share", "volume"},
	"metrics":   {"jobs", "mount", "probe"},
	"doctor":    {"beneath", "bounded", "child", "copytree", "mount", "pool", "probe", "volume"},
}

// sideways are the allowed edges within a floor.
var sideways = []string{"config->volume"}

// doors are the dependencies that only some packages may import, with those packages.
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

// drawers are package names that invite unrelated code.
var drawers = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base", "types"}

type pkg struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports         []string
}

// name returns the path of a package in the module: "pkg/share", "cmd/mooring".
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// packages lists the packages of cmd and pkg, without their tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < len(floors) {
		t.Fatalf("go list finds only %d packages", len(all))
	}
	return all
}

var list = sync.OnceValues(func() ([]pkg, error) {
	root := filepath.Join("..", "..")
	// A test that reads the directories is not cached when a file is added to them.
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

// TestFloors checks the table itself: edges run downwards, or are listed in sideways.
func TestFloors(t *testing.T) {
	for from, tos := range edges {
		for _, to := range tos {
			side := floors[from] == floors[to] && slices.Contains(sideways, from+"->"+to)
			if floors[from] <= floors[to] && !side {
				t.Errorf("the edge %s -> %s does not run downwards (L%d to L%d)", from, to, floors[from], floors[to])
			}
		}
	}
	for _, edge := range sideways {
		from, to, _ := strings.Cut(edge, "->")
		if !slices.Contains(edges[from], to) {
			t.Errorf("there is no edge %s: remove it from sideways", edge)
		}
	}
}

// TestEdges checks that packages import each other as the table allows, and that each of its edges is used.
func TestEdges(t *testing.T) {
	used := map[string][]string{}
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
				t.Errorf("%s imports %s: cmd and pkg may import only pkg", p.name(), path)
			case inPkg && !slices.Contains(edges[from], to):
				t.Errorf("pkg/%s (L%d) imports pkg/%s (L%d), and may import only %q: declare the interface that it needs, or argue for the edge in test/arch",
					from, floors[from], to, floors[to], edges[from])
			}
			used[from] = append(used[from], to)
		}
	}
	for from, tos := range edges {
		for _, to := range tos {
			if !slices.Contains(used[from], to) {
				t.Errorf("pkg/%s does not import pkg/%s: remove the edge", from, to)
			}
		}
	}
}

// TestDoors checks that only the listed packages import a dependency, and that each of them does.
func TestDoors(t *testing.T) {
	used := map[string][]string{}
	for _, p := range packages(t) {
		for _, path := range p.Imports {
			door := doorOf(path)
			used[door] = append(used[door], p.name())
			if door != "" && !slices.Contains(doors[door], p.name()) {
				t.Errorf("%s imports %s: only %s may", p.name(), path, strings.Join(doors[door], " and "))
			}
		}
		for part := range strings.SplitSeq(p.name(), "/") {
			if slices.Contains(drawers, part) {
				t.Errorf("package %s: the name %q does not say what the package contains", p.name(), part)
			}
		}
	}
	for door, allowed := range doors {
		for _, name := range allowed {
			if !slices.Contains(used[door], name) {
				t.Errorf("%s does not import %s: remove it from the list", name, door)
			}
		}
	}
}

// doorOf returns the longest prefix of an import among doors, or "".
func doorOf(path string) string {
	best := ""
	for door := range doors {
		if (path == door || strings.HasPrefix(path, strings.TrimSuffix(door, "/")+"/")) && len(door) > len(best) {
			best = door
		}
	}
	return best
}

// TestMounts checks that only package mount mounts and unmounts, by system call or by program.
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
			t.Errorf("%s/%s has %d lines, and %d are allowed: split it by subject", p.name(), file, n, maxFile)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, and %d are allowed: split it", set.Position(fn.Pos()), fn.Name.Name, n, maxFunction)
			}
		}
	})
}

// each parses every file of cmd and pkg, without tests.
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
