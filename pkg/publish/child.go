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

// ChildCommand is the hidden subcommand by which the driver runs itself for a ChildRequest.
const ChildCommand = "show"

// namespaceFD is where the child has the mount namespace of the driver.
const namespaceFD = 3

// ChildRunner runs ChildRequests, each as a child in a mount namespace of its own.
type ChildRunner struct {
	child.Runner
}

// ChildRequest is work with a server that a process of its own does, in a mount namespace of its own:
// what it mounts nobody else sees, and it goes with the process. One directory is shown to a pod, or
// one that was made for a pod is removed.
type ChildRequest struct {
	Share   volume.Share `json:"share"`
	Server  string       `json:"server"` // one of the share's
	Options []string     `json:"options"`
	At      string       `json:"at"` // a local directory to mount at
	// Volume: the directory is a PersistentVolume's, and not an inline volume's.
	Volume bool `json:"volume,omitempty"`
	// Key is that of a directory to be made, or removed; "": Directory is there.
	Key       string `json:"key,omitempty"`
	Directory string `json:"directory,omitempty"`
	Target    string `json:"target,omitempty"` // "": remove
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// outcome is what a child says.
type outcome struct {
	Failed  bool   `json:"failed,omitempty"`
	Kind    int    `json:"kind,omitempty"` // of the failure: index in volume.Kinds, or -1
	Message string `json:"message,omitempty"`
	// Apart: the directory is shown by a superblock of its own.
	Apart bool `json:"apart,omitempty"`
}

// Do does what r says. A server that does not answer is ErrUnavailable when ctx ends.
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
	case o.Apart:
		klog.FromContext(ctx).Info("The kernel remembers another directory of that name, and the pod gets what the server has there now, by a superblock of its own", "share", r.Share, "directory", r.Directory, "path", r.Target)
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

// Child is what the child does: it does what a ChildRequest says, and tells how that went. It is not to
// do anything else afterwards.
func Child(in io.Reader, out io.Writer) error {
	return child.ServeOne(in, out, func(r ChildRequest) (any, error) {
		apart, err := r.do()
		if err != nil {
			return outcome{Failed: true, Kind: slices.Index(volume.Kinds(), volume.Kind(err)), Message: err.Error()}, nil
		}
		return outcome{Apart: apart}, nil
	})
}

// do returns whether the directory is shown by a superblock of its own.
func (r ChildRequest) do() (apart bool, err error) {
	unix.Umask(0)
	kernel, err := mount.NewIsolated(probe.NewServers(probe.Ping).Answers)
	if err != nil {
		return false, err
	}
	views, err := r.mount(kernel)
	if err != nil {
		return false, fmt.Errorf("share %s: %w", r.Share, err)
	}
	dir, err := r.find(views)
	if err != nil || r.Target == "" {
		return false, err
	}
	if views.Fresh != views.Shared {
		dir, apart = r.shared(views, dir)
	}
	tree, err := mount.Clone(int(dir), r.ReadOnly)
	if err != nil {
		return false, err
	}
	if err := mount.Enter(os.NewFile(namespaceFD, "the driver's mount namespace")); err != nil {
		return false, err
	}
	return apart, tree.Attach(r.Target)
}

// mount mounts a volume's directory, or the share. A directory that is made for one pod is nobody
// else's, so that nothing is remembered of its name.
func (r ChildRequest) mount(kernel *mount.Kernel) (mount.Views, error) {
	spec := mount.Spec{Source: r.Share.Source(r.Server, ""), Target: r.At, Options: r.Options, MultipleAddresses: len(r.Share.Servers) > 1}
	if r.Volume {
		spec.Source = r.Share.Source(r.Server, r.Directory)
	}
	if r.Key == "" {
		return mount.MountFresh(context.Background(), kernel, spec)
	}
	return mount.Views{Shared: -1, Fresh: -1, Path: r.At}, kernel.Mount(context.Background(), spec)
}

// find does what is to be done on the share, and returns the directory that is to be shown, as the
// server has it.
func (r ChildRequest) find(views mount.Views) (beneath.Dir, error) {
	if r.Volume {
		// Not opened by ".", which asks the server whether root may look into it: where root is squashed it
		// may not, and the volume's pods may.
		return beneath.Dir(views.Fresh), nil
	}
	on, err := share.OpenInline(views.Path, r.Share, r.Target != "" && r.Key != "")
	if err != nil {
		return beneath.None, err
	}
	defer on.Close()
	switch {
	case r.Target == "":
		return beneath.None, on.Trash(r.Key)
	case r.Key != "":
		return on.Make(r.Key)
	}
	return on.Open(r.Directory)
}

// shared returns the directory by the superblock that other mounts share, if the kernel has the one
// that the server has; else fresh, and apart.
func (r ChildRequest) shared(views mount.Views, fresh beneath.Dir) (dir beneath.Dir, apart bool) {
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
