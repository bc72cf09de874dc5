// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothing requests a bill of nothing: that is a mistake of the caller, or an image without its list of packages.
func TestNothing(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, debian), 0o755); err != nil {
		t.Fatal(err)
	}
	for root, want := range map[string]string{"": "neither a program nor an image", root: "lists no package"} {
		if err := run("mooring", "0.2.0", "", root, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("root %q: %v, want %q", root, err, want)
		}
	}
}
