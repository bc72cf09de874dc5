// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// Premounted replaces a Kernel if someone else mounts and unmounts, for example kubelet for a pod's
// own volumes. It needs no privilege, and verifies the existing mounts.
type Premounted struct {
	Table func() (Table, error)
}

// Mount returns ErrPrecondition if the source is not mounted at the target.
func (g *Premounted) Mount(ctx context.Context, s Spec) error {
	table, err := g.Table()
	if err != nil {
		return err
	}
	e, ok := table.At(s.Target)
	less := VerifyOptions(e, securityOptions(s.Options))
	switch {
	case !ok:
		return volume.Errorf(volume.ErrPrecondition, "nothing is mounted at %s: %s must be mounted there before the driver starts", s.Target, s.Source)
	case strings.TrimRight(e.Source, "/") != strings.TrimRight(s.Source, "/"):
		return volume.Errorf(volume.ErrPrecondition, "the mount at %s is %s, not %s: restart the driver if the share has moved", s.Target, e.Source, s.Source)
	case less != nil:
		return less
	case !slices.Contains(e.Super, "softerr") && !slices.Contains(e.Super, "soft"):
		klog.FromContext(ctx).Info("This mount waits forever for a dead server: mount it with softerr,timeo=50,retrans=2", "source", s.Source, "target", s.Target)
	case isSameClient(s.Options, e):
		klog.FromContext(ctx).Info("This mount and the mounts of pods on this node are one NFS client, so a snapshot or clone may lack what a pod has just written: mount it with nfsvers=4.1, or another version that pods do not use", "source", s.Source, "target", s.Target)
	}
	return nil
}

// securityOptions returns the options of the share that an existing mount must have. It leaves out
// the version, which differs from that of pods.
func securityOptions(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		return !strings.HasPrefix(o, "sec=") && !strings.HasPrefix(o, "xprtsec=")
	})
}

// isSameClient reports whether a mount has the NFSv4 minor version of the pods' mounts of the
// share, which have the options asked. If the options leave the version open, it is most likely
// 4.2.
func isSameClient(asked []string, e Entry) bool {
	return slices.Contains(e.Super, "vers="+cmp.Or(versionOf(asked), "4.2")) && !slices.Contains(e.Super, "vers=3")
}

// Unmount does nothing: the mount is not the driver's.
func (g *Premounted) Unmount(context.Context, string) error { return nil }

// Interrupt does nothing: the mount is not the driver's.
func (g *Premounted) Interrupt(string) error { return nil }
