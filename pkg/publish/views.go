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

// view is how a pod sees a volume.
type view struct {
	ID     string `json:"id"`
	Target string `json:"target"`
	// Asked, Options and AskedReadOnly are as the request had them, Location is what Asked was then.
	Asked         volume.Location `json:"asked"`
	Options       []string        `json:"options,omitempty"`
	AskedReadOnly bool            `json:"askedReadOnly,omitempty"`
	Location      volume.Location `json:"location"`
	ReadOnly      bool            `json:"readOnly,omitempty"`
	Server        string          `json:"server"` // from which it is mounted
	// Shown is the path on the server that the mount table has.
	Shown string `json:"shown"`

	age int // among those of this run: the oldest has the least
}

// same reports whether two are of one pod's request. The mount options are not looked at: who changes
// them, in a PersistentVolume say, changes them for the next pod.
func (v view) same(w view) bool {
	return v.ID == w.ID && v.Asked == w.Asked && v.AskedReadOnly == w.AskedReadOnly
}

// mountsAs reports whether two PVs ask for the same mount, but for its being read-only.
func (v view) mountsAs(w view) bool {
	return slices.Equal(writable(volume.MergeMountOptions(v.Options)), writable(volume.MergeMountOptions(w.Options)))
}

// views are all of a node, by target. They are on local disk, too, for the next run of the driver.
// Without one nothing is lost but a mount that another pod could have shared, and a word about the
// volume's health: so a disk that is full keeps no pod from coming or going.
type views struct {
	state state
	mu    sync.Mutex
	all   map[string]view
	count int // of those that there have been
}

// loadViews reads the views of an earlier run, and removes the notes of those that are not mounted.
func loadViews(s state, table mount.Table) *views {
	v := &views{state: s, all: map[string]view{}}
	notes, err := all[view](s, viewPrefix)
	if err != nil {
		klog.Background().Error(err, "Not all notes of mounts can be read, and the volumes' health is not compared with them")
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
		one.age = before.age
	} else {
		v.count++
		one.age = v.count
	}
	v.all[one.Target] = one
	if err := v.state.put(viewPrefix, one.Target, one); err != nil {
		klog.FromContext(ctx).Error(err, "A mount is not noted: the next run of the driver will not know of it", "volume", one.ID)
	}
}

func (v *views) drop(ctx context.Context, target string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, target)
	if err := v.state.drop(viewPrefix, target); err != nil {
		klog.FromContext(ctx).Error(err, "The note of a mount stays: the next run of the driver removes it", "path", target)
	}
}

func (v *views) at(target string) (view, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	one, ok := v.all[target]
	return one, ok
}

// of returns those of a volume, the oldest first: so that of several that could be shared one is asked
// how it is, and what it has said is fresh for the next.
func (v *views) of(id string) []view {
	v.mu.Lock()
	defer v.mu.Unlock()
	own := slices.DeleteFunc(slices.Collect(maps.Values(v.all)), func(one view) bool { return one.ID != id })
	slices.SortFunc(own, func(a, b view) int { return cmp.Or(cmp.Compare(a.age, b.age), cmp.Compare(a.Target, b.Target)) })
	return own
}
