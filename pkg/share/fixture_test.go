// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// fixtureFile is a share as the first version of the format left it. It never changes: every later Mooring
// must read it the same way.
const fixtureFile = "testdata/v1/share.txtar"

var update = flag.Bool("update", false, "write "+fixtureFile+", if it does not exist")

// A share is packed as a txtar archive. The names in it say what each file is:
//
//	d MODE MTIME PATH      a directory
//	f MODE MTIME PATH      a file, and its content
//	l PATH -> FIRST        another name of an earlier file
//
// It has no owners: unpacked files belong to the user who unpacks them.

// pack writes everything on the share to an archive.
func pack(g *testShare, comment string) []byte {
	g.Helper()
	a := &txtar.Archive{Comment: []byte(comment)}
	first := map[uint64]string{} // names of files by inode number
	for _, p := range g.tree() {
		p = strings.TrimSuffix(p, "/")
		info, err := os.Lstat(g.at(p))
		g.must(err)
		kind, data := "d", ""
		if !info.IsDir() {
			ino := info.Sys().(*syscall.Stat_t).Ino
			if of := first[ino]; of != "" {
				a.Files = append(a.Files, txtar.File{Name: "l " + p + " -> " + of})
				continue
			}
			first[ino] = p
			kind, data = "f", g.text(p)
		}
		if data != "" && !strings.HasSuffix(data, "\n") || strings.HasPrefix(data, "-- ") || strings.Contains(data, "\n-- ") {
			g.Fatalf("%s cannot be packed: %q", p, data)
		}
		mode := info.Sys().(*syscall.Stat_t).Mode & 0o7777
		name := fmt.Sprintf("%s %04o %s %s", kind, mode, info.ModTime().UTC().Format(time.RFC3339Nano), p)
		a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
	}
	return txtar.Format(a)
}

// fixtureAge is how much older a share is when it is unpacked, so that no process seems to work there.
const fixtureAge = 24 * time.Hour

// unpack makes a share from such an archive.
func unpack(t *testing.T, data []byte, dir string) *testShare {
	t.Helper()
	g := &testShare{files: files{T: t, view: localView(dir)}}
	times := map[string]time.Time{}
	for _, f := range txtar.Parse(data).Files {
		kind, rest, _ := strings.Cut(f.Name, " ")
		if kind == "l" {
			path, of, _ := strings.Cut(rest, " -> ")
			g.must(os.Link(g.at(of), g.at(path)))
			continue
		}
		part := strings.SplitN(rest, " ", 3)
		if len(part) != 3 {
			t.Fatalf("a share has no name like %q", f.Name)
		}
		mode, err := strconv.ParseUint(part[0], 8, 32)
		g.must(err)
		changed, err := time.Parse(time.RFC3339Nano, part[1])
		g.must(err)
		times[part[2]] = changed.Add(-fixtureAge)
		if kind == "d" {
			g.must(os.Mkdir(g.at(part[2]), 0o700))
		} else {
			g.must(os.WriteFile(g.at(part[2]), f.Data, 0o600))
		}
		g.must(syscall.Chmod(g.at(part[2]), uint32(mode)))
	}
	for path, changed := range times { // after all files of a directory exist
		g.must(os.Chtimes(g.at(path), changed, changed))
	}
	return g
}

// unlink makes the share look as on a server without hard links. The times of directories do not change.
func unlink(g *testShare) {
	g.Helper()
	times := map[string]time.Time{}
	for _, p := range g.tree() {
		info, err := os.Lstat(g.at(p))
		g.must(err)
		if info.IsDir() {
			times[p] = info.ModTime()
			continue
		}
		in, name := filepath.Split(p)
		hold := filepath.Base(in) == deletionName && (strings.HasPrefix(name, copyHold) || strings.HasPrefix(name, userHold))
		if name != takenName && !hold && in != ".mooring/jobs/" {
			continue
		}
		key, nonce := decodeIdentity([]byte(g.text(p)))
		g.must(os.Remove(g.at(p)))
		g.put(p, "")
		g.must(os.Chtimes(g.at(p), info.ModTime(), info.ModTime()))
		if name == takenName && key != "" {
			g.put(in+key+"."+nonce, "")
		}
	}
	for path, changed := range times {
		g.must(os.Chtimes(g.at(path), changed, changed))
	}
}

// fixtures runs a test on every share of the format: the kept one, the same on a server without hard links,
// with unknown fields, without an id, and a share that the current program makes.
func fixtures(t *testing.T, do func(t *testing.T, g *testShare)) {
	kept, err := os.ReadFile(fixtureFile)
	if errors.Is(err, fs.ErrNotExist) && *update {
		kept = pack(makeFixture(t), fixtureComment)
		err = errors.Join(os.MkdirAll(filepath.Dir(fixtureFile), 0o755), os.WriteFile(fixtureFile, kept, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Run("kept", func(t *testing.T) { do(t, unpack(t, kept, scratchDir(t))) })
	t.Run("kept, without hard links", func(t *testing.T) {
		g := unpack(t, kept, scratchDir(t))
		unlink(g)
		do(t, g)
	})
	t.Run("kept, as a next version writes it", func(t *testing.T) {
		g := unpack(t, kept, scratchDir(t))
		rewrite(g, "", nextFields)
		do(t, g)
	})
	t.Run("kept, from before there were ids", func(t *testing.T) {
		g := unpack(t, kept, scratchDir(t))
		withoutID(g)
		do(t, g)
	})
	t.Run("made today", func(t *testing.T) {
		g := makeFixture(t)
		do(t, unpack(t, pack(g, ""), scratchDir(t)))
	})
}

const fixtureComment = `A share as Mooring leaves it that has the first version of the format: volumes of every kind,
snapshots in use, groups, the trash, and what processes have left that died on the way. It was
written by the code of its day, and is read for ever. See pkg/share/fixture_test.go.

`
