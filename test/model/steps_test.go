// SPDX-License-Identifier: Apache-2.0

package model

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// apart are the steps of pkg/share that the model does not have: see the package comment.
var apart = []string{
	"lay out ", "close ", "try the server", "write the format", "link the format", "rename the format over an empty one", "rename the format with the new id into place", "sweep staging", "write the heartbeat", // a share
	"set the mode", "clear the entry", "note the parent as ours", "remove the note of the parent", "note the copy", "remove the note of the copy",
	"close a share that lies in it",                            // which belongs to another controller
	"set the copy aside",                                       // what a parent's project keeps from its place
	"write the snapshot's record", "remove the group's record", // snapshots and groups
}

// TestSteps compares the names of the steps here and in pkg/share.
func TestSteps(t *testing.T) {
	here, there := steps(t, "."), steps(t, filepath.Join("..", "..", "pkg", "share"))
	for _, s := range here {
		if !slices.Contains(there, s) {
			t.Errorf("pkg/share has no step %q", s)
		}
	}
	for _, s := range there {
		if !slices.Contains(here, s) && !slices.Contains(apart, s) {
			t.Errorf("pkg/share has a step %q, and the model has not", s)
		}
	}
	for _, s := range apart {
		if !slices.Contains(there, s) || slices.Contains(here, s) {
			t.Errorf("the step %q is not one of pkg/share alone", s)
		}
	}
}

var step = regexp.MustCompile(`\.step\("([^"]+)"`)

func steps(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range step.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(all, m[1]) {
				all = append(all, m[1])
			}
		}
	}
	return all
}
