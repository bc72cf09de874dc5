// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// ChildCommand is the hidden subcommand with which the driver runs itself for a ChildRequest.
const ChildCommand = "show"

// namespaceFD is the child's file descriptor of the driver's mount namespace.
const namespaceFD = 3

// ChildRunner runs ChildRequests, each as a child in a mount namespace of its own.
type ChildRunner struct {
	child.Runner
}

// ChildRequest is work on a server that a child process does in a mount namespace of its own: no
// other process sees its mounts, and they end with it. The child moves a directory that was made for
// a pod into the trash (share.Inline.Trash), or mounts one directory for a pod:
//
//	make the mount namespace        mount.NewIsolated
//	mount at MountPoint             the volume's directory or, for an inline volume, the share:
//	                                mount.MountFresh, or Kernel.Mount to make a directory in it
//	open the directory              in the share, for an inline volume: share.Inline.Make or Open
//	clone the mount                 mount.Clone: a mount of that directory only
//	enter the driver's namespace    mount.Enter
//	attach the clone at Target      mount.Tree.Attach
//
// Of the two mounts of MountFresh it clones the one that shares the superblock of other mounts, if
// that shows the directory that the server has now. An attached clone stays when the child ends.
type ChildRequest struct {
	Share      volume.Share `json:"share"`
	Server     string       `json:"server"` // one of the share's servers
	Options    []string     `json:"options"`
	MountPoint string       `json:"at"` // a local directory to mount at in the child: the node's state directory
	// Volume is true for the directory of a PersistentVolume, false for that of an inline volume.
	Volume bool `json:"volume,omitempty"`
	// Key is the key of a directory to make or to remove; "": Directory exists.
	Key       string `json:"key,omitempty"`
	Directory string `json:"directory,omitempty"`
	Target    string `json:"target,omitempty"` // the pod's mount point, which exists; "": remove
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// outcome is the answer of a child.
type outcome struct {
	Failed  bool   `json:"failed,omitempty"`
	Kind    int    `json:"kind,omitempty"` // of the failure: index in volume.Kinds, or -1
	Message string `json:"message,omitempty"`
	// OwnSuperblock reports that the directory has a superblock of its own.
	OwnSuperblock bool `json:"apart,omitempty"`
}

// Do executes r in a child. It returns ErrUnavailable if the server does not answer before ctx ends.
func (c *ChildRunner) Do(ctx context.Context, r ChildRequest) error {
	namespace, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	defer namespace.Close()
	var o outcome
	err = c.Runner.Do(ctx, child.Command{
		Name: "/proc/self/exe", Args: []string{ChildCommand}, Server: r.Server, Files: []*os.File{namespace},
	}, r, &o)
	switch {
	case ctx.Err() != nil:
		return mount.TimeoutError("share "+r.Share.String(), r.Options, ctx.Err())
	case errors.Is(err, child.ErrStuck):
		return volume.Errorf(volume.ErrUnavailable, "share %s: not tried: %w", r.Share, err)
	case err != nil:
		return fmt.Errorf("share %s: %w", r.Share, err)
	case o.OwnSuperblock:
		klog.FromContext(ctx).Info("The kernel has cached another directory of that name: the pod gets the server's current directory, with a superblock of its own", "share", r.Share, "directory", r.Directory, "path", r.Target)
	}
	kinds := volume.Kinds()
	switch {
	case !o.Failed:
		return nil
	case o.Kind < 0 || o.Kind >= len(kinds):
		return errors.New(o.Message)
	}
	return volume.Errorf(kinds[o.Kind], "%s", o.Message)
}

// Child is the main function of the child: it reads a ChildRequest from in, executes it, and writes the
// outcome to out. The process must do nothing else afterwards.
func Child(in io.Reader, out io.Writer) error {
	return child.ServeOne(in, out, func(r ChildRequest) (any, error) {
		ownSuperblock, err := r.do()
		if err != nil {
			return outcome{Failed: true, Kind: slices.Index(volume.Kinds(), volume.Kind(err)), Message: err.Error()}, nil
		}
		return outcome{OwnSuperblock: ownSuperblock}, nil
	})
}

// do executes the request. ownSuperblock reports whether the directory has a superblock of its own.
func (r ChildRequest) do() (ownSuperblock bool, err error) {
	unix.Umask(0)
	kernel, err := mount.NewIsolated(probe.NewServers(probe.Ping).Answers)
	if err != nil {
		return false, err
	}
	views, err := r.mount(kernel)
	if err != nil {
		return false, fmt.Errorf("share %s: %w", r.Share, err)
	}
	dir, err := r.directory(views)
	if err != nil || r.Target == "" {
		return false, err
	}
	if views.Fresh != views.Shared {
		dir, ownSuperblock = r.preferShared(views, dir)
	}
	tree, err := mount.Clone(int(dir), r.ReadOnly)
	if err != nil {
		return false, err
	}
	if err := mount.Enter(os.NewFile(namespaceFD, "the driver's mount namespace")); err != nil {
		return false, err
	}
	return ownSuperblock, tree.Attach(r.Target)
}

// mount mounts a volume's directory, or the share. A directory that is made for one pod is used by no
// other, so the kernel has no cached entry for its name.
func (r ChildRequest) mount(kernel *mount.Kernel) (mount.Views, error) {
	spec := mount.Spec{Source: r.Share.Source(r.Server, ""), Target: r.MountPoint, Options: r.Options, MultipleAddresses: len(r.Share.Servers) > 1}
	if r.Volume {
		spec.Source = r.Share.Source(r.Server, r.Directory)
	}
	if r.Key == "" {
		return mount.MountFresh(context.Background(), kernel, spec)
	}
	return mount.Views{Shared: -1, Fresh: -1, Path: r.MountPoint}, kernel.Mount(context.Background(), spec)
}

// directory makes, opens or removes the directory on the share. It returns the directory to mount, as
// the server has it now.
func (r ChildRequest) directory(views mount.Views) (beneath.Dir, error) {
	if r.Volume {
		// Not opened as ".", which makes the server check whether root can read it: with root_squash
		// root cannot, and the volume's pods can.
		return beneath.Dir(views.Fresh), nil
	}
	inline, err := share.OpenInline(views.Path, r.Share, r.Target != "" && r.Key != "")
	if err != nil {
		return beneath.None, err
	}
	defer inline.Close()
	switch {
	case r.Target == "":
		return beneath.None, inline.Trash(r.Key)
	case r.Key != "":
		return inline.Make(r.Key)
	}
	return inline.Open(r.Directory)
}

// preferShared returns the directory in the superblock that other mounts share, if the kernel resolves
// it to the same directory as the server; else it returns fresh, which has a superblock of its own.
func (r ChildRequest) preferShared(views mount.Views, fresh beneath.Dir) (dir beneath.Dir, ownSuperblock bool) {
	if views.Shared < 0 {
		return fresh, true
	}
	dir = beneath.Dir(views.Shared)
	if !r.Volume {
		var err error
		if dir, err = dir.Resolve(r.Directory); err != nil {
			return fresh, true
		}
	}
	same, err := mount.SameDirectory(int(dir), int(fresh))
	if err != nil || !same {
		return fresh, true
	}
	return dir, false
}
