// SPDX-License-Identifier: Apache-2.0

// Package mount mounts and unmounts, and reads the table of what is mounted. It is the one
// place that runs mount(8) or calls mount(2)'s family.
//
// Two rules keep a dead NFS server from taking the driver with it. What talks to the
// server, which only mount(8) does, runs in a child process that is killed at its deadline.
// Everything else is answered by the local kernel: what is mounted is read from
// /proc/self/mountinfo and never found out by stat(2), which would ask the server; a bind
// mount is made by open_tree(2) and move_mount(2), which look at no attribute of the file
// system; and an unmount is umount2(2) itself, not umount(8), whose helper asks the server.
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

// Spec is one NFS mount to be made.
type Spec struct {
	Source  string   // "server:/path"
	Target  string   // an existing directory
	Options []string // mount(8)'s -o, in order
	// OwnClient has the mount be one of an NFSv4 client that the machine's other mounts have no part in.
	OwnClient bool
	// MultipleAddresses says that the server has other addresses by which it may be mounted, too.
	MultipleAddresses bool
}

// server is whose mount it is.
func (s Spec) server() string {
	server, _, _ := volume.SplitExport(s.Source)
	return server
}

// unmountTimeout is how long a plain unmount may take before the mount is detached: it
// can wait for the server where dirty pages are to be written.
const unmountTimeout = 5 * time.Second

// unmountPoll is how often the mount table is looked at meanwhile.
const unmountPoll = 100 * time.Millisecond

// Kernel mounts on this machine. Its zero value is ready for use.
type Kernel struct {
	children child.Runner
	// Answers, if set, says whether a server answers. It is asked where a server's name has several
	// addresses, so that mount(8) is given one that does.
	Answers func(ctx context.Context, server string, options []string) error
	// table and resolve stand in for the kernel's table and DNS, in tests.
	table   func() (Table, error)
	resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)

	tables    tables
	namespace *os.File // the mount namespace, where it is one of its own: see NewIsolated
}

// Mount runs mount(8) for the spec and waits for it until ctx ends, when the child is
// killed. What is mounted then has what the options ask for, or nothing is. The error is of the
// kind that the server's answer means, and says what to do.
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
	args := mountutils.MakeMountArgs(a.source, s.Target, "nfs", a.options)
	if a.address != "" {
		args = append([]string{"-i"}, mountutils.MakeMountArgs(a.source, s.Target, "nfs4", a.options)...)
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
		// The kernel may have finished at the last moment, with nobody left to tell.
		_ = unix.Unmount(s.Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return TimeoutError("mount "+s.Source, a.options, ctx.Err())
	}
	return nameWrongOptions(s.Source, a.options, explain(s.Source, annotate(stderr, a.options, Privileged()), err), openContext)
}

// Children counts the mount(8)s that are under way or stuck, and all there have been.
func (k *Kernel) Children() *child.Runner { return &k.children }

// Unmount takes away every mount at target, the topmost first. A mount that is in use, or
// whose server does not take its last pages in time, is detached: it is gone from here at
// once, and from the kernel when its last user is. Nothing mounted there is success.
//
// MNT_FORCE is never used: it fails the I/O of all who share the superblock (umount(2)).
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

// umount waits until the topmost of so many mounts is gone from the table, or gives up after
// unmountPatience. The call itself may take longer, as long as the server takes to hear that
// nobody uses its files any more: its thread stays, and holds no lock of ours.
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
