// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// frozenExport is an export of the healthy server on a disk that can be frozen: requests for its files
// wait, and those for the server's other exports and NULL calls do not.
const frozenExport = "/frozen"

// shell runs a script.
func shell(script string) error {
	cmd := exec.Command("sh", "-ec", script)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// makeFreezable makes the disk and exports it. Each request that waits for the disk blocks one thread of
// the server, which needs more threads than the plugin has requests in progress.
func makeFreezable() error {
	at := lab.View + frozenExport
	return shell("modprobe -a loop dm-mod; truncate -s 256M /run/frozen.img; mkfs.ext4 -q /run/frozen.img; " +
		"loop=$(losetup -f --show /run/frozen.img); dmsetup create frozen --table \"0 524288 linear $loop 0\"; dmsetup mknodes; " +
		"mkdir " + at + "; mount /dev/mapper/frozen " + at + "; " +
		"echo '" + frozenExport + " *(rw,no_root_squash,sync,no_subtree_check,insecure)' >>/etc/exports; exportfs -ra; rpc.nfsd 64")
}

// freeze suspends the disk. The new mount before that empties the server's cache of it. One mount of the
// export makes mountd cache it: otherwise mountd would wait for the disk, and block all exports.
func freeze(*node) (over func() error, err error) {
	at := lab.View + frozenExport
	err = shell("exportfs -f; umount " + at + "; mount /dev/mapper/frozen " + at + "; " +
		"mount -t nfs -o nfsvers=4.2 " + lab.Server + ":" + frozenExport + " /mnt; umount /mnt; dmsetup suspend --noflush --nolockfs frozen")
	return func() error { return shell("dmsetup resume frozen") }, err
}

// stopWorkers stops the processes that query mounts.
func stopWorkers(n *node) error {
	workers := lab.Descendants(n.PID())
	if len(workers) == 0 {
		return errors.New("there is no worker to stop")
	}
	for _, pid := range workers {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
