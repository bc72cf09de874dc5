// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"golang.org/x/sys/unix"
)

// TestTableKept changes the mount table in every way: the kept table is equal to the current one.
func TestTableKept(t *testing.T) {
	s := newSite(t)
	a, b, c := filepath.Join(s.dir, "a"), filepath.Join(s.dir, "b"), filepath.Join(s.dir, "c")
	for _, dir := range []string{a, b, c} {
		mkdir(t, dir)
	}
	var kept mount.Kernel
	table := func() mount.Table {
		t.Helper()
		now, err := kept.Table()
		if err != nil {
			t.Fatal(err)
		}
		current, err := new(mount.Kernel).Table()
		if err != nil || !reflect.DeepEqual(now, current) {
			t.Errorf("the kept table is\n%v\nand the current one\n%v (%v)", now, current, err)
		}
		if again, _ := kept.Table(); &again[0] != &now[0] {
			t.Error("it is read again, and has not changed")
		}
		return now
	}
	at := func(target string) mount.Entry {
		t.Helper()
		e, ok := table().At(target)
		if !ok {
			t.Errorf("nothing is mounted at %s", target)
		}
		return e
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	table()
	s.mount(a, "nfsvers=4.2")
	if e := at(a); e.Type != "nfs4" || e.ReadOnly() {
		t.Errorf("it is %+v", e)
	}
	must(unix.Mount(a, b, "", unix.MS_BIND, ""))
	at(b)
	must(unix.Mount("", b, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if !at(b).ReadOnly() {
		t.Error("that it is read-only now is not known")
	}
	must(unix.MountSetattr(unix.AT_FDCWD, b, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
	if at(b).ReadOnly() {
		t.Error("that it is not read-only any more is not known")
	}
	must(unix.Mount(b, c, "", unix.MS_MOVE, ""))
	at(c)
	must(unix.Mount("lab", b, "tmpfs", 0, "size=1m"))
	must(unix.Mount("", b, "", unix.MS_REMOUNT, "size=2m"))
	if e := at(b); !slices.Contains(e.Super, "size=2048k") {
		t.Errorf("of another size, it is %+v", e)
	}
	must(unix.Mount("", b, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=2m"))
	at(b)
	for _, dir := range []string{c, b, a} {
		must(unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
		if _, ok := table().At(dir); ok {
			t.Errorf("%s is gone, and that is not known", dir)
		}
	}
}
