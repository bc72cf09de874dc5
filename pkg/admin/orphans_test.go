// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/share"
)

// cluster has these PersistentVolumes and VolumeSnapshotContents.
type cluster struct {
	volumes  []kube.PersistentVolume
	contents []kube.SnapshotContent
	err      error
}

func (c cluster) PersistentVolumes(_ context.Context, _ string, each func(kube.PersistentVolume) error) error {
	for _, v := range c.volumes {
		if err := each(v); err != nil {
			return err
		}
	}
	return c.err
}

func (c cluster) SnapshotContents(_ context.Context, _ string, each func(kube.SnapshotContent) error) error {
	for _, s := range c.contents {
		if err := each(s); err != nil {
			return err
		}
	}
	return nil
}

func TestOrphans(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a", "b")
	p.create("a", "pvc-good", "team/good", "shop/db")
	p.create("a", "pvc-away", "away", "")
	p.create("a", "pvc-unclaimed", "unclaimed", "")
	p.create("a", "pvc-forgotten", "forgotten", "")
	p.create("a", "pvc-deleted", "deep/deleted", "")
	p.create("a", "pvc-unclear", "unclear", "")
	die := func(key, step string) {
		t.Helper()
		p.until("a", share.Options{}, at(step), func(s *share.Share) error {
			_, err := s.Volumes.Delete(ctx, key)
			return err
		})
	}
	die("pvc-deleted", "release the claim")
	for key, done := range map[string]func(*share.Pending) error{
		"pvc-begun": func(*share.Pending) error { return nil }, "pvc-new": func(*share.Pending) error { return nil },
		"pvc-undone": (*share.Pending).Abort,
	} {
		p.until("a", share.Options{}, at("take the directory away"), func(s *share.Share) error {
			m, err := begin(ctx, s, record(key, key, ""))
			if err != nil {
				return err
			}
			return done(m)
		})
	}
	p.create("a", "pvc-ending", "ending", "")
	die("pvc-ending", "move the tree into the trash")
	p.create("a", "pvc-leaving", "leaving", "")
	die("pvc-leaving", "move the tree into the trash")
	p.age("a/.mooring/volumes/pvc-begun/making.json")
	p.age("a/.mooring/volumes/pvc-undone")
	p.age("a/.mooring/volumes/pvc-ending")
	for _, err := range []error{
		os.Remove(p.at("a/away")), os.Mkdir(p.at("a/stray"), 0o755), os.Mkdir(p.at("a/archived-x"), 0o755),
		os.Mkdir(p.at("a/\xff\u009b"), 0o755), os.RemoveAll(p.at("a/.mooring/volumes/pvc-forgotten")),
		os.Remove(p.at("a/.mooring/claims/unclear/taken")), os.WriteFile(p.at("a/.mooring/claims/unclear/taken"), []byte("{"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.lists()
	find := func(in Cluster) (found []string, said string) {
		t.Helper()
		s, reported := p.service()
		err := s.Orphans(ctx, Filter{}, in, "d", func(o Orphan) error {
			if o.Why == "" || o.Remedy == "" {
				t.Errorf("not said is why, or what to do: %+v", o)
			}
			found = append(found, o.Share+" "+o.Kind+" "+o.Name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		return found, reported()
	}
	onShare := []string{
		"a claim deep/deleted", "a claim forgotten", "a claim unclear", "a directory archived-x", "a directory stray", "a directory \xff\u009b",
		"a record a/pvc-away", "a unfinished a/pvc-begun", "a unfinished a/pvc-ending", "a unfinished a/pvc-undone",
	}
	got, said := find(nil)
	same(t, "without a cluster", got, onShare...)
	if said != "" {
		t.Errorf("reported is %q", said)
	}
	got, _ = find(cluster{
		volumes: []kube.PersistentVolume{
			{Name: "pv-good", Handle: "a/pvc-good"}, {Name: "pv-away", Handle: "a/pvc-away"},
			{Name: "pv-lost", Handle: "b/pvc-lost"}, {Name: "static", Handle: "any"}, {Name: "elsewhere", Handle: "z/pvc-1"},
		},
		contents: []kube.SnapshotContent{{Name: "c-lost", Handle: "a/snap-lost"}, {Name: "c-new", Handle: ""}},
	})
	same(t, "in a cluster", got, slices.Sorted(slices.Values(append(slices.Clone(onShare),
		"a VolumeSnapshotContent c-lost", "a volume a/pvc-unclaimed", "a volume a/pvc-unclear", "b PersistentVolume pv-lost")))...)
	got, said = find(cluster{err: errors.New("forbidden")})
	same(t, "in a cluster that does not tell", got, onShare...)
	if said != "forbidden" {
		t.Errorf("reported is %q", said)
	}
}
