// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/test/lab"
)

// fidelity clones a tree with entries of all kinds, and compares them one by one. It distinguishes what the
// server refuses and what it accepts but does not keep from what the clone lacks: the tree is read again
// after an unmount.
func fidelity(s *site) {
	v := s.create(request("source", nil, nil))
	var written, kept map[string]string
	s.pod("the tree", v, lab.RWX(), func(dir string) error {
		s.out.Refused = fill(dir)
		written = describe(dir)
		return nil
	})
	s.pod("the tree again", v, lab.RWX(), func(dir string) error {
		kept = describe(dir)
		return nil
	})
	s.out.Changed = differences(written, kept)
	if v == nil {
		return
	}
	cloned := s.create(request("cloned", nil, fromVolume(v.VolumeId)))
	s.pod("the clone", cloned, lab.RWX(), func(dir string) error {
		after := describe(dir)
		s.out.Lost = differences(kept, after)
		for name, was := range kept { // what is different, in full
			if is := after[name]; is != was {
				s.t.Logf("%q was %.300s, and is %.300s", name, was, is)
			}
		}
		return nil
	})
	s.out.Method = copyMethod(s)
	if s.out.Method == "" {
		s.broken("method", errors.New("the log does not say how files were copied"))
	}
	s.delete(cloned, v)
}

var copied = regexp.MustCompile(`(cloned|copiedByServer|readAndWritten)=(\d+)`)

// copyMethod returns the methods by which files were copied, from the program's log.
func copyMethod(s *site) string {
	var ways []string
	for line := range strings.Lines(s.Log()) {
		if !strings.Contains(line, "Copy made") {
			continue
		}
		for _, m := range copied.FindAllStringSubmatch(line, -1) {
			way := map[string]string{"cloned": clone, "copiedByServer": serverCopy, "readAndWritten": readAndWrite}[m[1]]
			if m[2] != "0" && !slices.Contains(ways, way) {
				ways = append(ways, way)
			}
		}
	}
	slices.Sort(ways)
	return strings.Join(ways, ", ")
}

// differences lists the attributes that differ between two trees: "mtime: future, old".
func differences(before, after map[string]string) []string {
	by := map[string][]string{}
	note := func(what, name string) {
		if !slices.Contains(by[what], name) {
			by[what] = append(by[what], name)
		}
	}
	for name, was := range before {
		is, there := after[name]
		if !there {
			note("missing", name)
			continue
		}
		had, has := strings.Split(was, " | "), strings.Split(is, " | ")
		for _, field := range slices.Concat(without(had, has), without(has, had)) {
			what, _, _ := strings.Cut(field, " ")
			note(what, name)
		}
	}
	for name := range after {
		if _, there := before[name]; !there {
			note("new", name)
		}
	}
	lines := []string{}
	for what, names := range by {
		slices.Sort(names)
		text := strings.Join(names, ", ")
		if len(names) > 8 { // the number depends on when the client returned which delegation
			text = "many entries"
		}
		lines = append(lines, what+": "+text)
	}
	slices.Sort(lines)
	return lines
}

// without returns the fields that are not in others.
func without(fields, others []string) []string {
	return slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return slices.Contains(others, f) })
}
