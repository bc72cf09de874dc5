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

// frozenExport is one of the healthy server's, on a disk that can be frozen: who asks the server
// for what lies there waits, and neither the server's other exports nor a NULL call do.
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

// makeFreezable makes the disk and exports it. Each request that waits for the disk holds one of the
// server's threads, of which there have to be more than the plugin has requests under way.
func makeFreezable() error {
	at := lab.View + frozenExport
	return shell("modprobe -a loop dm-mod; truncate -s 256M /run/frozen.img; mkfs.ext4 -q /run/frozen.img; " +
		"loop=$(losetup -f --show /run/frozen.img); dmsetup create frozen --table \"0 524288 linear $loop 0\"; dmsetup mknodes; " +
		"mkdir " + at + "; mount /dev/mapper/frozen " + at + "; " +
		"echo '" + frozenExport + " *(rw,no_root_squash,sync,no_subtree_check,insecure)' >>/etc/exports; exportfs -ra; rpc.nfsd 64")
}

// freeze has the disk answer no more. What the server had in memory of it is gone with the mount
// before. It is asked for the export once: mountd waits for no disk then, as it would for all exports.
func freeze(*node) (over func() error, err error) {
	at := lab.View + frozenExport
	err = shell("exportfs -f; umount " + at + "; mount /dev/mapper/frozen " + at + "; " +
		"mount -t nfs -o nfsvers=4.2 " + lab.Server + ":" + frozenExport + " /mnt; umount /mnt; dmsetup suspend --noflush --nolockfs frozen")
	return func() error { return shell("dmsetup resume frozen") }, err
}

// stopWorkers stops the processes that ask how mounts are.
func stopWorkers(n *node) error {
	workers := lab.Descendants(n.PID())
	if len(workers) == 0 {
		return errors.New("there is no worker to be stopped")
	}
	for _, pid := range workers {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
