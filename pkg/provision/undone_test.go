// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab/ground"
)

// looker is a Purger that notes whose trash it is to look at, and what is there then.
type looker struct {
	*one
	t     *testing.T
	found []string
}

func (l *looker) Rescan(name string) {
	entries, err := l.share.Trash.List(context.Background())
	if err != nil || name != "nas1" {
		l.t.Errorf("the trash of %s: %v", name, err)
	}
	for _, e := range entries {
		l.found = append(l.found, e.Kind())
	}
}

// TestPurgesUndone has a clone be given up half way. Who asks for it again undoes it, and has
// the purger see at once to what was copied.
func TestPurgesUndone(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		ctx := context.Background()
		dir := prepareCopies(t, g)
		s, o := controller(t, dir, share.Options{})
		w := wish(t, "pvc-2", nil)
		w.Source = &volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: "pvc-1"}, Share: "nas1"}
		directory, err := s.Volumes.directory(w)
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := o.share.Volumes.Begin(ctx, record(w, "pvc-2", directory))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.MakeDirectory(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := p.BeginCopy(ctx, o.share); err != nil {
			t.Fatal(err)
		}
		half := filepath.Join(dir, volume.StateDir, "volumes/pvc-2/stage/tree/half")
		if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Close()

		l := &looker{one: o, t: t}
		s.Volumes.purger = l
		if _, err := s.Volumes.Create(ctx, w); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(l.found, []string{string(volume.TrashLeftover)}) {
			t.Errorf("when the purger is to look, in the trash are %q", l.found)
		}
	})
}
