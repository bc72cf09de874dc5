// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// view is the mount of a volume for one pod.
type view struct {
	ID     string `json:"id"`
	Target string `json:"target"`
	// Requested, Options and RequestedReadOnly come from the request, Location is the resolved Requested.
	Requested         volume.Location `json:"asked"`
	Options           []string        `json:"options,omitempty"`
	RequestedReadOnly bool            `json:"askedReadOnly,omitempty"`
	Location          volume.Location `json:"location"`
	ReadOnly          bool            `json:"readOnly,omitempty"`
	Server            string          `json:"server"` // from which it is mounted
	// ExportPath is the path on the server in the mount table.
	ExportPath string `json:"shown"`

	seq int // increases with each view of this process
}

// sameRequest reports whether two views are of one pod's request. It ignores the mount options: a change
// of them, for example in a PersistentVolume, affects only the next pod.
func (v view) sameRequest(w view) bool {
	return v.ID == w.ID && v.Requested == w.Requested && v.RequestedReadOnly == w.RequestedReadOnly
}

// sameOptions reports whether two PVs have the same mount options, except ro and rw.
func (v view) sameOptions(w view) bool {
	return slices.Equal(withoutAccess(volume.MergeMountOptions(v.Options)), withoutAccess(volume.MergeMountOptions(w.Options)))
}

// views are all views of a node, by target. They are also on local disk, for the next process of the
// driver. If one is lost, another pod cannot share its mount, and the volume's health is less complete:
// so a full disk keeps no pod from starting or ending.
type views struct {
	state   state
	mu      sync.Mutex
	all     map[string]view
	lastSeq int
}

// loadViews reads the views of an earlier process, and removes the records of those that are not mounted.
func loadViews(s state, table mount.Table) *views {
	v := &views{state: s, all: map[string]view{}}
	notes, err := readAll[view](s, viewPrefix)
	if err != nil {
		klog.Background().Error(err, "Cannot read all records of mounts: the health of their volumes is incomplete")
	}
	for _, note := range notes {
		v.all[note.Target] = note
		if _, mounted := table.At(note.Target); !mounted {
			v.drop(context.Background(), note.Target)
		}
	}
	return v
}

func (v *views) put(ctx context.Context, one view) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if before, known := v.all[one.Target]; known {
		one.seq = before.seq
	} else {
		v.lastSeq++
		one.seq = v.lastSeq
	}
	v.all[one.Target] = one
	if err := v.state.put(viewPrefix, one.Target, one); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot record a mount: after a restart of the driver no other pod shares it", "volume", one.ID)
	}
}

func (v *views) drop(ctx context.Context, target string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, target)
	if err := v.state.drop(viewPrefix, target); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot remove the record of a mount: the driver removes it at its next start", "path", target)
	}
}

func (v *views) byTarget(target string) (view, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	one, ok := v.all[target]
	return one, ok
}

// byVolume returns the views of a volume, the oldest first: so of several that could be shared, the same
// one is checked each time, and the result is reused for the next pod.
func (v *views) byVolume(id string) []view {
	v.mu.Lock()
	defer v.mu.Unlock()
	own := slices.DeleteFunc(slices.Collect(maps.Values(v.all)), func(one view) bool { return one.ID != id })
	slices.SortFunc(own, func(a, b view) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.Target, b.Target)) })
	return own
}
