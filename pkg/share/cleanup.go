// SPDX-License-Identifier: Apache-2.0

package share

import "github.com/mooring-csi/mooring/pkg/volume"

// cleanup removes what is left of an incarnation of a volume whose entry ends: trees in the entry,
// and references to it elsewhere.
type cleanup struct {
	*Volumes
	rec *volume.Record
}

func (v *Volumes) cleanup(r *volume.Record) cleanup { return cleanup{v, r} }

// treeHandler returns what is done with a tree in the entry of a volume that ends: one that came
// from the trash goes back there, an unfinished copy is purged.
func (m cleanup) treeHandler(e *entry) func(name string) error {
	return func(name string) error {
		switch {
		case name == treeName: // another process or user made it in the volume's place
			return e.leftovers().removeTree(name)
		case m.rec.Restored != nil:
			_, err := m.trash.moveTree(e, name, volume.TrashID(volume.TrashVolume, m.rec.Key, m.rec.Nonce))
			return err
		}
		return e.leftovers().discard(name)
	}
}

// releaseReferences removes the references to an incarnation whose entry is dead: its claim, its
// hold on the snapshot that it was, its job.
func (m cleanup) releaseReferences() error {
	if m.rec.Shallow {
		return m.snapshots.removeHold(m.rec.Source.Key, userHoldName(m.rec))
	}
	if m.rec.Source != nil {
		if err := m.releaseCopy(); err != nil {
			return err
		}
	}
	return m.claims.release(m.rec.Directory, owner{m.rec.Key, m.rec.Nonce})
}

// releaseCopy removes the job and the hold of an unfinished copy.
func (m cleanup) releaseCopy() error {
	target := volume.Object{Kind: volume.ObjectVolume, Key: m.rec.Key}
	m.jobs.remove(jobName(target, m.rec.Nonce))
	if !m.def.Matches(m.rec.Source.Share) {
		return nil // the hold is on another share, where it expires
	}
	from := m.table
	if m.rec.Source.Kind == volume.ObjectSnapshot {
		from = m.snapshots.table
	}
	return from.removeHold(m.rec.Source.Key, copyHoldName(target, m.rec.Nonce))
}

// releaseArchiveClaims releases the claims on archived names. The entry must be dead.
func (m cleanup) releaseArchiveClaims() error {
	for _, as := range archiveNames(m.rec) {
		if err := m.claims.release(siblingPath(m.rec, as), owner{m.rec.Key, m.rec.Nonce}); err != nil {
			return err
		}
	}
	return nil
}
