// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// maxDependencies is the number of modules that go.mod may require directly.
const maxDependencies = 17

// direct is a line of go.mod that requires a module, without "// indirect".
var direct = regexp.MustCompile(`(?m)^(?:require |\t)\S+ v\S+$`)

func TestDependencies(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(direct.FindAll(data, -1)); n != maxDependencies {
		t.Errorf("go.mod requires %d modules directly, and test/arch allows %d: do without a new one, or change the number", n, maxDependencies)
	}
}
