// SPDX-License-Identifier: Apache-2.0

package share

import "github.com/mooring-csi/mooring/pkg/volume"

// cleanup removes what is left of an incarnation of a volume whose entry ends: trees in the entry,
// and references to it elsewhere.
type cleanup struct {
	*Volumes
	r *volume.Record
}

func (v *Volumes) cleanup(r *volume.Record) cleanup { return cleanup{v, r} }

// treeHandler returns what is done with a tree in the entry of a volume that ends: one that came
// from the trash goes back there, an unfinished copy is purged.
func (m cleanup) treeHandler(e *entry) func(name string) error {
	return func(name string) error {
		switch {
		case name == treeName: // another process or user made it in the volume's place
			return e.leftovers().removeTree(name)
		case m.r.Restored != nil:
			_, err := m.trash.moveTree(e, name, volume.TrashID(volume.TrashVolume, m.r.Key, m.r.Nonce))
			return err
		}
		return e.leftovers().discard(name)
	}
}

// releaseReferences removes the references to an incarnation whose entry is dead: its claim, its
// hold on the snapshot that it was, its job.
func (m cleanup) releaseReferences() error {
	if m.r.Shallow {
		return m.snapshots.removeHold(m.r.Source.Key, userHoldName(m.r))
	}
	if m.r.Source != nil {
		if err := m.releaseCopy(); err != nil {
			return err
		}
	}
	return m.claims.release(m.r.Directory, owner{m.r.Key, m.r.Nonce})
}

// releaseCopy removes the job and the hold of an unfinished copy.
func (m cleanup) releaseCopy() error {
	target := volume.Object{Kind: volume.ObjectVolume, Key: m.r.Key}
	m.jobs.remove(jobName(target, m.r.Nonce))
	if !m.def.Matches(m.r.Source.Share) {
		return nil // the hold is on another share, where it expires
	}
	from := m.table
	if m.r.Source.Kind == volume.ObjectSnapshot {
		from = m.snapshots.table
	}
	return from.removeHold(m.r.Source.Key, copyHoldName(target, m.r.Nonce))
}

// releaseArchiveClaims releases the claims on archived names. The entry must be dead.
func (m cleanup) releaseArchiveClaims() error {
	for _, as := range archiveNames(m.r) {
		if err := m.claims.release(siblingPath(m.r, as), owner{m.r.Key, m.r.Nonce}); err != nil {
			return err
		}
	}
	return nil
}
