// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Restore brings a deleted volume back: as the directory that it was, or another where one is
// named. The record comes first, create-once, and says what it was brought back from; then the
// claim; then the tree is renamed into its place; the record in the trash goes last. A retry
// finds the record and goes on; so does that of an entry of which nothing but that is left.
//
// The record is ready from the start. Nobody makes the directory of one that is ready, and who
// deletes it meanwhile finds that its directory is not there, and leaves the trash alone.
func (s *Share) Restore(ctx context.Context, e Trashed, directory string) (*volume.Record, error) {
	what := fmt.Sprintf("bring volume %s back", e.Key)
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	r, err := s.restorable(e)
	if err == nil && directory != "" {
		r.Directory, err = directory, volume.CheckDirectory(directory)
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	m, err := s.republish(ctx, *r, directory != "")
	if err != nil {
		return nil, s.fail(what, err)
	}
	defer m.Leave()
	return m.finishRestore(ctx, what)
}

// Restored returns the record of a volume that was brought back, and is there, though nothing of
// it is in the trash any more. ErrNotFound: there is none. What an interrupted Restore has left
// of one that was purged then is taken away.
func (s *Share) Restored(ctx context.Context, key string) (*volume.Record, error) {
	what := fmt.Sprintf("bring volume %s back", key)
	r, err := s.Lookup(ctx, key)
	if err != nil {
		return nil, err
	}
	if r.Restored == nil {
		return nil, volume.Errorf(volume.ErrNotFound, "share %s: volume %s is there, and nothing of it is in the trash", s.def, key)
	}
	m := &Making{s: s, rec: r.Record}
	there, err := m.inPlace()
	if err == nil && !there && r.Restored.Inode == 0 {
		err = volume.Errorf(volume.ErrConflict, "share %s: volume %s was brought back, and its directory %q is not there any more: somebody removed it", s.def, key, r.Directory)
	}
	if err != nil || r.Restored.Inode == 0 {
		return &r.Record, s.fail(what, err)
	}
	m, err = s.resumeRestore(ctx, r.Record)
	if err != nil {
		return nil, s.fail(what, err)
	}
	defer m.Leave()
	return m.finishRestore(ctx, what)
}

// finishRestore does the steps after the record: it takes the claim, puts the tree into its
// place, and notes that it is done. The record in the trash goes last.
func (m *Making) finishRestore(ctx context.Context, what string) (*volume.Record, error) {
	s, entry := m.s, m.rec.Restored.Entry
	err := m.Claim(ctx)
	if err == nil {
		err = m.moveIn(ctx)
	}
	if err != nil {
		return nil, s.fail(what, m.keepInTrash(err))
	}
	err = m.stillWanted()
	if err == nil && m.rec.Restored.Inode != 0 {
		m.rec.Restored = &volume.Restored{Entry: entry}
		err = s.Update(ctx, m.rec)
	}
	if err == nil {
		s.step("remove the record from the trash")
		err = ignore(s.trash.Unlink(jsonName(entry)), unix.ENOENT)
	}
	return &m.rec, s.fail(what, err)
}

func (s *Share) nothingLeft(entry string) error {
	return volume.Errorf(volume.ErrNotFound, "share %s: nothing is left of %s in the trash: it was purged", s.def, entry)
}

// restorable reads the record of an entry that is a whole volume, and makes of it the record
// that the volume is to have.
func (s *Share) restorable(e Trashed) (*volume.Record, error) {
	switch {
	case e.snapshot():
		return nil, volume.Errorf(volume.ErrConflict, "share %s: %s is a snapshot, and only volumes can be brought back", s.def, e.Name)
	case e.passing():
		return nil, volume.Errorf(volume.ErrConflict, "share %s: %s never was a volume of its own", s.def, e.Name)
	case e.purging:
		return nil, volume.Errorf(volume.ErrNotFound, "share %s: %s is just being purged: what is left of it is not whole", s.def, e.Name)
	case !e.recorded:
		return nil, volume.Errorf(volume.ErrConflict, "share %s: %s has no record yet: its deletion was interrupted, and goes on when the PersistentVolume's is tried again", s.def, e.Name)
	}
	if err := s.trash.Refresh(); err != nil {
		return nil, err
	}
	data, _, err := s.trash.Read(jsonName(e.Name), maxRecord)
	if err != nil {
		return nil, err
	}
	r, err := volume.DecodeRecord(e.Key, data)
	if err != nil {
		return nil, err
	}
	r.Ready, r.Maker, r.Nonce = 1, s.opt.Maker, s.nonce()
	r.Restored = &volume.Restored{Entry: e.Name}
	st, err := s.trash.Stat(e.Name)
	if ignore(err, unix.ENOENT) != nil {
		return nil, err
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, pathError("open", e.Name, unix.ENOTDIR)
	}
	if err == nil { // else it has left the trash
		r.Restored.Inode, r.Restored.Mtime = st.Ino, st.Mtim.Nano()
	}
	return r, nil
}

// republish publishes the record of a volume that is brought back, or goes on with the one
// that an earlier attempt has published. moved: the directory was chosen for this attempt.
func (s *Share) republish(ctx context.Context, r volume.Record, moved bool) (*Making, error) {
	for range turns {
		if r.Restored.Inode == 0 { // there is nothing to begin with
			return s.goOn(ctx, r)
		}
		m, err := s.publishRestored(r)
		if !is(err, unix.EEXIST) {
			return m, err
		}
		if err := s.volumes.Refresh(); err != nil {
			return nil, err
		}
		m, err = s.goOn(ctx, r)
		if errors.Is(err, volume.ErrNotFound) { // it was this client's memory, or was just deleted
			continue
		}
		if err != nil || !moved || m.rec.Directory == r.Directory {
			return m, err
		}
		// An earlier attempt was to bring it back elsewhere, and may even have done so.
		there, err := m.inPlace()
		if err == nil && there {
			return m, nil
		}
		if err == nil {
			err = m.withdraw()
		}
		m.Leave()
		if err != nil {
			return nil, err
		}
	}
	return nil, s.confused("publish the record")
}

func (s *Share) publishRestored(r volume.Record) (*Making, error) {
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	m := &Making{s: s, rec: r, until: time.Now().Add(s.opt.Lease / 2)}
	s.step("write the record aside")
	if m.file, err = s.staging.Write(nonceFile(r.Key, r.Nonce), 0, data); err != nil {
		return nil, err
	}
	s.step("link the record")
	err = s.publish(m, data)
	if e := m.close(); err == nil {
		err = e
	}
	return m, err
}

// goOn resumes the record that an earlier attempt has published. ErrNotFound: there is none.
// ErrConflict: the volume is there, and not from this entry.
func (s *Share) goOn(ctx context.Context, r volume.Record) (*Making, error) {
	entry := r.Restored.Entry
	found, err := s.Lookup(ctx, r.Key)
	switch {
	case errors.Is(err, volume.ErrNotFound) && r.Restored.Inode == 0:
		return nil, s.nothingLeft(entry)
	case err != nil:
		return nil, err
	case found.Restored == nil || found.Restored.Entry != entry:
		return nil, volume.Errorf(volume.ErrConflict, "share %s: there is a volume %s, and it is not the one in the trash as %s", s.def, r.Key, entry)
	}
	return s.resumeRestore(ctx, found.Record)
}

// resumeRestore takes the restoring of a record over, unless another may still be at it, and
// keeps others away for as long.
func (s *Share) resumeRestore(ctx context.Context, r volume.Record) (*Making, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.volumes.Open(jsonName(r.Key), unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	m := &Making{s: s, rec: r, file: f, until: time.Now().Add(s.opt.Lease / 2)}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	now := unix.Timespec{}
	if err == nil {
		now, err = s.now()
	}
	if err == nil && r.Maker != s.opt.Maker && since(st.Mtim, now) < s.opt.Lease {
		if there, e := m.inPlace(); e != nil || !there { // with nothing left to be done nobody is in the way
			err = volume.Errorf(volume.ErrBusy, "share %s: volume %s is just being brought back by another: try again", s.def, r.Key)
		}
	}
	if err == nil {
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		err = pathError("utimes", f.Name(), unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), now, 0))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return m, nil
}

// moveIn renames the tree from the trash to the volume's directory, which is claimed. It is
// done where an earlier attempt has done it. ErrNotFound: a purger was first.
func (m *Making) moveIn(ctx context.Context) error {
	parent, name := volume.SplitDirectory(m.rec.Directory)
	for turn := range turns {
		if there, err := m.inPlace(); err != nil || there {
			return err
		}
		if err := m.allowed(ctx); err != nil {
			return err
		}
		d, err := m.s.parent(parent, turn > 0)
		if err == nil {
			err = m.moveInto(d, name)
			d.Close()
		}
		if !gone(err) {
			return err
		}
	}
	return m.s.confused("rename the tree into its place")
}

// moveInto renames the tree to name in parent. ENOENT: parent was just tidied away.
func (m *Making) moveInto(parent beneath.Dir, name string) error {
	s, entry := m.s, m.rec.Restored.Entry
	err := parent.Refresh()
	if err == nil {
		// rename(2) refuses what is not an empty directory, and would replace one that is.
		if _, err = parent.Stat(name); err == nil {
			return m.occupied()
		}
	}
	if err = ignore(err, unix.ENOENT); err == nil {
		s.step("rename the tree into its place")
		err = s.trash.Rename(entry, parent, name)
	}
	switch {
	case err == nil:
		return nil
	case is(err, unix.EEXIST), is(err, unix.ENOTEMPTY), is(err, unix.ENOTDIR):
		return m.occupied()
	case !gone(err):
		return err
	}
	if there, e := m.inPlace(); e != nil || there { // the answer to an earlier try was lost
		return e
	}
	if e := s.trash.Refresh(); e != nil {
		return e
	}
	if _, e := s.trash.Stat(entry); is(e, unix.ENOENT) {
		return s.nothingLeft(entry)
	}
	return err
}

// stillWanted puts the tree back into the trash where its record is gone: who deletes a volume
// before its tree is in its place finds none, and takes the record and the claim alone.
func (m *Making) stillWanted() error {
	s := m.s
	if err := s.volumes.Refresh(); err != nil {
		return err
	}
	r, _, err := s.record(m.rec.Key)
	if err == nil {
		m.rec = *r // it may have been changed
	}
	if !errors.Is(err, volume.ErrNotFound) {
		return err
	}
	parent, name := volume.SplitDirectory(m.rec.Directory)
	d, err := s.root.Resolve(parent)
	if err == nil {
		s.step("rename the tree back into the trash")
		err = d.Rename(name, s.trash, m.rec.Restored.Entry)
		d.Close()
	}
	if err == nil {
		err = volume.Errorf(volume.ErrBusy, "share %s: volume %s was deleted while it was brought back: it is in the trash as before: try again", s.def, m.rec.Key)
	}
	return err
}

func (m *Making) occupied() error {
	return volume.Errorf(volume.ErrConflict, "share %s: at %q, where volume %s was, there is something else that is no volume's: move it away, or bring the volume back to another directory", m.s.def, m.rec.Directory, m.rec.Key)
}

// inPlace reports whether the tree is where it is to be. A directory that somebody made there
// after the tree was purged is not it.
func (m *Making) inPlace() (bool, error) {
	parent, name := volume.SplitDirectory(m.rec.Directory)
	d, err := m.s.root.Resolve(parent)
	if err == nil {
		defer d.Close()
		err = d.Refresh()
	}
	var st unix.Stat_t
	if err == nil {
		st, err = d.Stat(name)
	}
	if gone(err) && !m.s.gone() {
		return false, nil
	}
	is := m.rec.Restored
	return is.Inode == 0 || st.Ino == is.Inode && st.Mtim.Nano() == is.Mtime, err
}

// keepInTrash ends a Restore that cannot be: what was made of the volume is taken away, in the
// opposite order, and the trash is as it was. What may be otherwise at the next try is left, and
// so is the record where the directory may be its volume's: one that was brought back before,
// and that somebody has put in place of the tree since.
func (m *Making) keepInTrash(err error) error {
	if late := m.Late(); late != nil {
		return late
	}
	kind := volume.Kind(m.s.fail("bring it back", err))
	if slices.Contains([]error{volume.ErrUnavailable, volume.ErrTimeout, volume.ErrBusy, nil}, kind) {
		return err
	}
	_, there := m.s.trash.Stat(m.rec.Restored.Entry)
	exists, looked := m.s.Exists(context.Background(), m.rec.Directory)
	if there != nil && (exists || looked != nil) {
		return err
	}
	if undo := m.withdraw(); undo != nil {
		return errors.Join(err, undo)
	}
	return err
}

// withdraw takes away the claim and the record of a volume whose tree is not in its place.
func (m *Making) withdraw() error {
	if err := m.Late(); err != nil {
		return err
	}
	err := m.s.release(m.rec.Directory, m.rec.Key)
	if err == nil {
		_ = m.file.Close() // before the unlink: see close
		m.s.step("undo the record")
		err = ignore(m.s.volumes.Unlink(jsonName(m.rec.Key)), unix.ENOENT)
	}
	return err
}
