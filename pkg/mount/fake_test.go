// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestFake checks what tests of other packages rely on.
func TestFake(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"root/export/v", "stage", "pod", "pod2"} {
		if err := os.MkdirAll(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f := &Fake{Root: at("root")}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Mount(ctx, Spec{Source: "nas:/export/none", Target: at("stage")}); volume.Kind(err) != volume.ErrPrecondition {
		t.Errorf("a directory that does not exist: %v", err)
	}
	if err := f.Mount(ctx, Spec{Source: "nas:/export/v", Target: at("none")}); err == nil {
		t.Error("Mount succeeded at a mount point that does not exist")
	}
	if err := f.Bind(ctx, Entry{Target: at("stage")}, at("pod"), false); err == nil {
		t.Error("Bind succeeded without a mount")
	}
	must(f.Mount(ctx, Spec{Source: "nas:/export/v", Target: at("stage"), Options: []string{"hard"}}))
	table, err := f.Table()
	must(err)
	stage := table[0]
	must(f.Bind(ctx, stage, at("pod"), true))
	must(f.Bind(ctx, stage, at("pod2"), false))
	if err := f.Bind(ctx, Entry{Target: stage.Target, Device: "0:7"}, at("pod3"), false); err == nil {
		t.Error("Bind succeeded with another device")
	}
	must(os.WriteFile(at("pod/file"), nil, 0o644))
	for _, file := range []string{"root/export/v/file", "stage/file", "pod2/file"} {
		if _, err := os.Stat(at(file)); err != nil {
			t.Errorf("a file written in one place is not visible in another: %v", err)
		}
	}
	table, err = f.Table()
	must(err)
	for name, readOnly := range map[string]bool{"stage": false, "pod": true, "pod2": false} {
		if e, ok := table.At(at(name)); !ok || e.Source != "nas:/export/v" || e.ReadOnly() != readOnly {
			t.Errorf("at %s there is %+v, %v", name, e, ok)
		}
	}
	if len(table) != 3 || table[1].Device != table[0].Device || table[2].Device != table[0].Device {
		t.Errorf("the table is %v", table)
	}
	must(f.Unmount(ctx, at("pod")))
	must(f.Unmount(ctx, at("pod"))) // nothing is there
	if info, err := os.Lstat(at("pod")); err != nil || !info.IsDir() {
		t.Errorf("the former mount point is %v, %v", info, err)
	}
	if table, _ := f.Table(); len(table) != 2 || f.Mounts != 1 || f.Binds != 2 {
		t.Errorf("after %d mounts and %d binds the table is %v", f.Mounts, f.Binds, table)
	}

	wrong, calls := errors.New("no"), 0
	f.Fail = func(call, target string) error {
		if calls++; call == "unmount" && target == at("stage") {
			return wrong
		}
		return nil
	}
	if err := f.Unmount(ctx, at("stage")); !errors.Is(err, wrong) || calls != 1 {
		t.Errorf("after %d calls the error is %v", calls, err)
	}
	if table, _ := f.Table(); len(table) != 2 {
		t.Errorf("a failed call changed the table: %v", table)
	}
}
