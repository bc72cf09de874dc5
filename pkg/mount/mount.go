// SPDX-License-Identifier: Apache-2.0

// Package mount mounts and unmounts, and reads the mount table. It is the only package that runs
// mount(8) or calls mount(2) and its relatives.
//
// Two rules protect the driver from a dead NFS server. Only mount(8) talks to the server, in a child
// process that is killed at its deadline. The local kernel does everything else: the mount table
// comes from /proc/self/mountinfo and never from stat(2), which would ask the server; bind mounts use
// open_tree(2) and move_mount(2), which read no attribute of the file system; and unmounts use
// umount2(2) itself, not umount(8), whose helper asks the server.
package mount

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	mountutils "k8s.io/mount-utils"
)

// Spec describes one NFS mount.
type Spec struct {
	Source  string   // "server:/path"
	Target  string   // an existing directory
	Options []string // mount(8)'s -o, in order
	// OwnClient makes the mount use a separate NFSv4 client, which no other mount of the machine
	// uses.
	OwnClient bool
	// MultipleAddresses says that the share can also be mounted from other addresses.
	MultipleAddresses bool
}

// server returns the server of the source.
func (s Spec) server() string {
	server, _, _ := volume.SplitExport(s.Source)
	return server
}

// unmountTimeout is how long a plain unmount may take before the mount is detached: it waits for
// the server if there are dirty pages to write.
const unmountTimeout = 5 * time.Second

// unmountPoll is the interval of checks of the mount table meanwhile.
const unmountPoll = 100 * time.Millisecond

// Kernel mounts on this machine. Its zero value is ready to use.
type Kernel struct {
	children child.Runner
	// Answers, if set, returns nil if a server answers. Kernel calls it for a server's name with
	// several addresses, to pass one to mount(8) that answers.
	Answers func(ctx context.Context, server string, options []string) error
	// table and resolve replace the kernel's table and DNS in tests.
	table   func() (Table, error)
	resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)

	tables    tables
	namespace *os.File // the private mount namespace, if any: see NewIsolated
}

// Mount runs mount(8) for the spec. It waits for it until ctx ends, and then kills it. Afterwards
// the mount has what the options request, or there is no mount. The kind of the error depends on
// the message of mount(8), and its text says what to do. ErrRefused: access is denied.
// ErrPrecondition: for example, the path does not exist on the server, or the mount lacks a
// requested option. ErrInvalid: an option is wrong. ErrUnavailable: the server does not answer, or
// the reason is not known.
func (k *Kernel) Mount(ctx context.Context, s Spec) error {
	if s.OwnClient {
		return k.mountOwnClient(ctx, s)
	}
	err := k.mountShared(ctx, s)
	if cause, _ := CauseOf(err); cause == NoStatd && k.namespace != nil && startStatdOutside(ctx, &k.children) == nil {
		err = k.mountShared(ctx, s)
	}
	return err
}

func (k *Kernel) mountAttempt(ctx context.Context, s Spec, a attempt) error {
	if a = k.withAddress(ctx, a); a.address != "" {
		return k.mountByName(ctx, s, a)
	}
	return k.run(ctx, s, a)
}

// run runs mount(8) for an attempt.
func (k *Kernel) run(ctx context.Context, s Spec, a attempt) (err error) {
	if a.host == "" {
		if a.host, err = s.hostname(a.options); err != nil {
			return fmt.Errorf("mount %s: %w", s.Source, err)
		}
	}
	target := targetInTable(s.Target)
	before := mountID(target)
	// -n: otherwise libmount adds a line for each mount to /run/mount/utab, reads all of them at each mount, and
	// only umount(8), which is not used here, removes one.
	args := append([]string{"-n"}, mountutils.MakeMountArgs(a.source, s.Target, "nfs", a.options)...)
	if a.address != "" {
		args = append([]string{"-n", "-i"}, mountutils.MakeMountArgs(a.source, s.Target, "nfs4", a.options)...)
	}
	_, stderr, err := k.children.Run(ctx, child.Command{Name: "mount", Args: args, Server: s.server(), SameProcessGroup: k.namespace != nil, MountNamespace: k.namespace, Hostname: a.host})
	stderr = strings.ReplaceAll(stderr, a.source, s.Source)
	if a.address != "" {
		stderr = mountNFSWording.Replace(stderr)
	}
	switch {
	case err == nil:
		return k.verify(s, target, before, a.options)
	case errors.Is(err, child.ErrStuck):
		return volume.Errorf(volume.ErrUnavailable, "mount %s: not tried: %w: they go when the server answers, or with a restart of this node", s.Source, err)
	case ctx.Err() != nil:
		// The kernel may have finished the mount at the last moment.
		_ = unix.Unmount(s.Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return TimeoutError("mount "+s.Source, a.options, ctx.Err())
	}
	return nameWrongOptions(s.Source, a.options, explain(s.Source, annotate(stderr, a.options, Privileged()), err), openContext)
}

// Children returns the runner of mount(8), which counts its processes.
func (k *Kernel) Children() *child.Runner { return &k.children }

// Unmount unmounts every mount at target, the topmost first. It detaches a mount that is in use, or
// whose server does not accept its last pages in time: such a mount disappears from the mount table
// at once, and from the kernel with its last user. It succeeds if nothing is mounted there.
//
// It never uses MNT_FORCE, which fails the I/O of all users of the superblock (umount(2)).
func (k *Kernel) Unmount(ctx context.Context, target string) error {
	for range 16 { // mounts may be stacked
		table, err := k.Table()
		if err != nil {
			return err
		}
		before := table.stacked(target)
		if before == 0 {
			return nil
		}
		err = k.umount(ctx, target, 0, before)
		if err != nil {
			err = k.umount(ctx, target, unix.MNT_DETACH, before)
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return fmt.Errorf("unmount %s: something mounts it again and again", target)
}

// Interrupt ends, with EIO, the calls that wait for the server of the NFS mount at target: it is
// umount2(2) with MNT_FORCE, which in the kernel is nfs_umount_begin. It asks the server nothing.
// A mount that is in use stays. It fails the calls of all mounts that share the superblock, so the
// mount must have nosharecache.
func (k *Kernel) Interrupt(target string) error {
	err := unix.Unmount(target, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
	switch {
	case errors.Is(err, unix.EBUSY): // in use
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // no mount there, or no mount point (any more)
		return nil
	}
	return os.NewSyscallError("umount2", err)
}

// umount waits until the topmost of so many mounts is gone from the table, or until unmountTimeout.
// The call itself may take longer, until the server knows that its files are closed: its thread
// stays, and holds no lock.
func (k *Kernel) umount(ctx context.Context, target string, flags, before int) error {
	done := make(chan error, 1)
	go func() {
		err := unix.Unmount(target, flags|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) { // no mount there (any more)
			err = nil
		}
		done <- os.NewSyscallError("umount2", err)
	}()
	ctx, cancel := context.WithTimeout(ctx, unmountTimeout)
	defer cancel()
	look := time.NewTicker(unmountPoll)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if table, err := k.Table(); err == nil && table.stacked(target) < before {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
