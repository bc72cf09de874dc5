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

// Premounted stands in for a Kernel where somebody else mounts and unmounts, kubelet for a pod's
// own volumes say: it needs no privilege, and makes sure of what is there.
type Premounted struct {
	Table func() (Table, error)
}

// Mount is ErrPrecondition where the source is not mounted at the target.
func (g *Premounted) Mount(ctx context.Context, s Spec) error {
	table, err := g.Table()
	if err != nil {
		return err
	}
	e, ok := table.At(s.Target)
	less := VerifyOptions(e, securityOptions(s.Options))
	switch {
	case !ok:
		return volume.Errorf(volume.ErrPrecondition, "nothing is mounted at %s: %s was to be mounted there before the driver started", s.Target, s.Source)
	case strings.TrimRight(e.Source, "/") != strings.TrimRight(s.Source, "/"):
		return volume.Errorf(volume.ErrPrecondition, "at %s is mounted %s, and not %s: start the driver anew where the share has moved", s.Target, e.Source, s.Source)
	case less != nil:
		return less
	case !slices.Contains(e.Super, "softerr") && !slices.Contains(e.Super, "soft"):
		klog.FromContext(ctx).Info("This mount waits for a dead server for ever: mount it with softerr,timeo=50,retrans=2", "source", s.Source, "target", s.Target)
	case isSameClient(s.Options, e):
		klog.FromContext(ctx).Info("This mount and those of pods on this node are one NFS client: a snapshot or clone may lack what a pod has just written: mount it with nfsvers=4.1, or another version that pods do not use", "source", s.Source, "target", s.Target)
	}
	return nil
}

// securityOptions is what the shares' options say that whoever has mounted them has to have heeded. The
// version is another than that of pods.
func securityOptions(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		return !strings.HasPrefix(o, "sec=") && !strings.HasPrefix(o, "xprtsec=")
	})
}

// isSameClient reports whether a mount has the NFSv4 minor version that pods' mounts of the share
// have, whose options are asked. A version that they leave open is most likely 4.2.
func isSameClient(asked []string, e Entry) bool {
	return slices.Contains(e.Super, "vers="+cmp.Or(versionOf(asked), "4.2")) && !slices.Contains(e.Super, "vers=3")
}

// Unmount leaves what is mounted to whoever has mounted it.
func (g *Premounted) Unmount(context.Context, string) error { return nil }
