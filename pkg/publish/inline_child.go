// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// InlineCommand is the hidden subcommand by which the driver runs itself for an InlineRequest.
const InlineCommand = "inline"

// namespaceFD is where the child has the mount namespace of the driver.
const namespaceFD = 3

// Children runs InlineRequests, each as a child in a mount namespace of its own.
type Children struct {
	child.Children
}

// failure is what a child says of its failure.
type failure struct {
	Kind    int    `json:"kind"` // index in volume.Kinds, or -1
	Message string `json:"message"`
}

// Do does what r says. A server that does not answer is ErrUnavailable when ctx ends.
func (c *Children) Do(ctx context.Context, r InlineRequest) error {
	namespace, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	defer namespace.Close()
	var failed *failure
	err = c.Children.Do(ctx, child.Command{
		Name: "/proc/self/exe", Args: []string{InlineCommand}, Server: r.Server, Files: []*os.File{namespace},
	}, r, &failed)
	switch {
	case ctx.Err() != nil:
		return volume.Errorf(volume.ErrUnavailable, "share %s: the server did not answer in time (%w): check that it runs and that port 2049 is reachable from here", r.Share, ctx.Err())
	case errors.Is(err, child.ErrStuck):
		return volume.Errorf(volume.ErrUnavailable, "share %s: not tried: %w", r.Share, err)
	case err != nil:
		return fmt.Errorf("share %s: %w", r.Share, err)
	case failed == nil:
		return nil
	}
	kinds := volume.Kinds()
	if failed.Kind < 0 || failed.Kind >= len(kinds) {
		return errors.New(failed.Message)
	}
	return volume.Errorf(kinds[failed.Kind], "%s", failed.Message)
}

// InlineChild is what the child does: it does what an InlineRequest says, and tells what failed. It
// is not to do anything else afterwards.
func InlineChild(in io.Reader, out io.Writer) error {
	return child.ServeOne(in, out, func(r InlineRequest) (any, error) {
		if err := r.do(); err != nil {
			return failure{slices.Index(volume.Kinds(), volume.Kind(err)), err.Error()}, nil
		}
		return nil, nil
	})
}

func (r InlineRequest) do() error {
	unix.Umask(0)
	kernel, err := mount.Apart(probe.NewServers(probe.Null).Answers)
	if err != nil {
		return err
	}
	if err := kernel.Mount(context.Background(), r.spec()); err != nil {
		return fmt.Errorf("share %s: %w", r.Share, err)
	}
	tree, err := r.onShare()
	if err != nil || tree == nil {
		return err
	}
	if err := mount.Enter(os.NewFile(namespaceFD, "the driver's mount namespace")); err != nil {
		return err
	}
	return tree.Attach(r.Target)
}

// onShare does what is to be done on the mounted share, and returns what is to be shown, if
// anything is.
func (r InlineRequest) onShare() (*mount.Tree, error) {
	on, err := share.OpenInline(r.At, r.Share, r.Target != "" && r.Key != "")
	if err != nil {
		return nil, err
	}
	defer on.Close()
	dir := -1
	switch {
	case r.Target == "":
		return nil, on.Trash(r.Key)
	case r.Key != "":
		dir, err = on.Make(r.Key)
	default:
		dir, err = on.Open(r.Directory)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	return mount.Clone(dir, r.ReadOnly)
}
