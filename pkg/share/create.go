// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Pending is a volume that this process creates: no other works on the same one. Another may
// undo it; then every step fails from there on, and nothing that comes after is touched.
// Commit or Abort ends it. Where neither does, a retry undoes it and begins anew.
type Pending struct {
	v             *Volumes
	e             *entry
	rec           volume.Record
	job           string
	madeDirectory bool // the directory, by us
	placing       bool // what was staged is in its place, or about to be
	copy          *CopyJob
}

// Begin begins the creation of a volume: it makes the entry of the key, create-once, and
// writes the record there. Where there is an entry already its record is returned instead, and
// nothing is changed.
//
// It does not look first: mkdir(2) says both whether there is one and who was first.
func (v *Volumes) Begin(ctx context.Context, r volume.Record) (p *Pending, found *StoredRecord, err error) {
	defer v.wrapError(&err, "begin to create volume %s", r.Key)
	if err := v.checkUsable(ctx); err != nil {
		return nil, nil, err
	}
	r.Maker, r.Run, r.Nonce = v.opt.Maker, v.opt.Run, volume.NewNonce()
	data, err := r.Encode()
	if err != nil {
		return nil, nil, err
	}
	prepare := func(e *entry) error {
		if r.Shallow {
			return nil
		}
		if r.Source != nil || r.Restored != nil {
			if err := e.stagedTree().prepare(); err != nil {
				return err
			}
		}
		return v.claims.prepare(e, makingFile, owner{r.Key, r.Nonce})
	}
	for range retries {
		e, err := v.createEntry(r.Key, data, prepare)
		if err == nil {
			return &Pending{v: v, e: e, rec: r}, nil, nil
		}
		if !is(err, unix.EEXIST) {
			return nil, nil, err
		}
		found, err := v.existing(r.Key)
		if found != nil || err != nil {
			return nil, found, err
		}
	}
	return nil, nil, busy("volume %s is created and deleted again and again", r.Key)
}

// existing reads the record of a key that is taken. It returns nil where it was only just.
func (v *Volumes) existing(key string) (*StoredRecord, error) {
	if err := v.refresh(key); err != nil { // that it is taken may be this client's memory
		return nil, err
	}
	e, s, err := v.read(key)
	if is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer e.close()
	if s.state == Empty {
		return nil, e.removeRecordlessEntry(nil)
	}
	r, err := volume.DecodeRecord(key, s.data)
	if err != nil {
		return nil, err
	}
	return &StoredRecord{Record: *r, State: s.state, mtime: s.mtime, ino: s.ino}, nil
}

// AbortAbandoned undoes a creation that was found (see Begin), unless its maker may still be
// at it: that is ErrBusy.
func (v *Volumes) AbortAbandoned(ctx context.Context, r *StoredRecord) (err error) {
	defer v.wrapError(&err, "undo the creation of volume %s", r.Key)
	if err := ctx.Err(); err != nil {
		return err
	}
	e, s, err := v.read(r.Key)
	if is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.close()
	if _, nonce := decodeIdentity(s.data); nonce != r.Nonce {
		return nil
	}
	// What this very process has begun it has given up: a key is worked on by one call at a time.
	mine := r.Maker == v.opt.Maker && r.Run == v.opt.Run
	_, err = v.abortAbandoned(e, s, mine)
	return err
}

// Record returns the volume's record.
func (p *Pending) Record() volume.Record { return p.rec }

// MakeDirectory claims the volume's directory, and makes it, with the owner and mode that the
// record asks for. ErrPrecondition: it is another volume's, or exists already, unless the record
// says that it is adopted: then it is left exactly as it is.
func (p *Pending) MakeDirectory(ctx context.Context) (err error) {
	defer p.v.wrapError(&err, "make the directory %q of volume %s", p.rec.Directory, p.rec.Key)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.v.claims.take(p.e, makingFile, owner{p.rec.Key, p.rec.Nonce}, p.rec.Directory); err != nil {
		return err
	}
	parent, name := volume.SplitDirectory(p.rec.Directory)
	for turn := range retries {
		if err := ctx.Err(); err != nil {
			return err
		}
		at, err := p.v.claims.parents.openDirectory(parent, turn > 0)
		if err == nil {
			err = p.makeDirectoryIn(at, name)
			at.Close()
		}
		if p.adopts() && is(err, unix.ENOENT) {
			return volume.Errorf(volume.ErrPrecondition, "the directory %q, which volume %s was to adopt, does not exist any more: try again", p.rec.Directory, p.rec.Key)
		}
		// The parent may just have been tidied away.
		if !isMissing(err) || parent == "" {
			return err
		}
	}
	return busy("make the directory %q: its parent is removed again and again", p.rec.Directory)
}

func (p *Pending) makeDirectoryIn(at beneath.Dir, name string) error {
	if p.adopts() {
		return checkAdoptable(p.v.disk, at, p.rec.Directory)
	}
	mode := uint32(volume.DefaultMode)
	if p.rec.Mode != nil {
		mode = *p.rec.Mode
	}
	p.v.step("make the directory")
	err := at.Mkdir(name, mode)
	if is(err, unix.EEXIST) {
		// That may be this client's memory of a directory which another controller has removed.
		if err := ignore(refreshPath(at, name), unix.ENOENT, unix.ENOTDIR, unix.ELOOP); err != nil {
			return err
		}
		err = at.Mkdir(name, mode)
	}
	if err != nil && !is(err, unix.EEXIST) {
		return err
	}
	d, e := at.Resolve(name)
	if e != nil {
		return e
	}
	defer d.Close()
	if err != nil {
		ours, err := p.v.claims.isUnused(d, p.rec.Directory, owner{p.rec.Key, p.rec.Nonce})
		if err != nil {
			return err
		}
		if !ours {
			p.v.requestRemount()
			if p.rec.Restored != nil {
				return volume.Errorf(volume.ErrPrecondition, "the directory %q, where volume %s was, exists again and is no volume's: move it away, or bring the volume back to another directory", p.rec.Directory, p.rec.Key)
			}
			return volume.Errorf(volume.ErrPrecondition, "the directory %q exists already and is no volume's: remove or rename it, choose another subDir, or say existingDirectory: adopt in the class to use it as it is", p.rec.Directory)
		}
	}
	p.madeDirectory = true
	if err == nil {
		return p.setOwnerAndMode(d, mode)
	}
	fresh, err := replaceLateDirectory(p, at, name, mode)
	if err != nil {
		return err
	}
	defer fresh.Close()
	return p.setOwnerAndMode(fresh, mode)
}

// replaceLateDirectory replaces the empty directory that a late process has made in the volume's place, and
// returns the new one. The late one may still have a handle of its own, and would give it its owner.
func replaceLateDirectory(p *Pending, at beneath.Dir, name string, mode uint32) (beneath.Dir, error) {
	p.v.step("prepare an empty directory")
	if err := ignore(p.e.dir.Mkdir(emptyName, mode), unix.EEXIST); err != nil {
		return beneath.None, p.e.explainUndone(err)
	}
	p.v.step("replace the directory by the empty one")
	err := renameDir(p.v.disk, p.e.dir, emptyName, at, name)
	if isNameTaken(err) {
		return beneath.None, occupiedError(&p.rec)
	}
	if err != nil && !is(err, unix.EXDEV) { // a project forbids it: the directory that was found serves
		return beneath.None, p.e.explainUndone(err)
	}
	return at.Resolve(name)
}

// adopts reports whether the volume takes a directory that exists. One that is brought back
// gets a new one, whatever it once was.
func (p *Pending) adopts() bool { return p.rec.Adopted && p.rec.Restored == nil }

// isUnused reports whether a directory that exists is empty and was made after its claim was: by
// the one who has the claim, or by a late process that once had it. Both times are the
// server's: they are of directories, whose times no client keeps.
func (c *claims) isUnused(d beneath.Dir, directory string, of owner) (bool, error) {
	found, err := c.find(directory, inode{})
	defer found.close()
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.EISDIR)
	}
	if found.owner != of {
		return false, nil
	}
	claimed, err := found.dir.StatSelf()
	if err != nil {
		return false, err
	}
	if err := d.Refresh(); err != nil {
		return false, err
	}
	st, err := d.StatSelf()
	if err != nil {
		return false, err
	}
	if st.Mtim.Nano() < claimed.Mtim.Nano() {
		return false, nil
	}
	return beneath.IsEmpty(d)
}

// setOwnerAndMode gives the directory its owner, and its mode where mkdir did not: the umask, a setgid
// parent and the special bits all have a say there. The attributes came with mkdir's answer.
//
// d was opened by its name. That the entry stands after that proves that the name was ours then.
func (p *Pending) setOwnerAndMode(d beneath.Dir, mode uint32) error {
	st, err := d.StatSelf()
	if err != nil {
		return err
	}
	uid, gid := -1, -1
	if p.rec.UID != nil && *p.rec.UID != st.Uid {
		uid = int(*p.rec.UID)
	}
	if p.rec.GID != nil && *p.rec.GID != st.Gid {
		gid = int(*p.rec.GID)
	}
	if uid < 0 && gid < 0 && p.hasMode(st.Mode, mode) {
		return nil
	}
	if !p.e.exists() {
		return busy("the creation of volume %s was undone by another", p.rec.Key)
	}
	if uid >= 0 || gid >= 0 {
		p.v.step("set the owner")
		st, err = setOwner(d, uid, gid)
		if volume.Kind(err) != nil { // what is being done is not said of it any more
			return fmt.Errorf("volume %s: %w", p.rec.Key, err)
		}
		if err != nil {
			return err
		}
	}
	if p.hasMode(st.Mode, mode) {
		return nil
	}
	p.v.step("set the mode")
	if err := chmod(d, mode); err != nil {
		return fmt.Errorf("give it the mode %04o: %w", mode, err)
	}
	return nil
}

func (p *Pending) hasMode(has, mode uint32) bool {
	return has&0o7777 == mode || p.rec.Mode == nil && has&0o777 == mode
}

// UseSnapshot makes the volume the snapshot itself, which cannot be deleted from then on.
func (p *Pending) UseSnapshot(ctx context.Context) (err error) {
	key := p.rec.Source.Key
	defer p.v.wrapError(&err, "make volume %s of snapshot %s itself", p.rec.Key, key)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.v.snapshots.refresh(key); err != nil {
		return err
	}
	e, r, err := p.v.snapshots.lookup(key)
	if err != nil {
		return err
	}
	defer e.close()
	if err := r.CheckRequires(); err != nil {
		return err
	}
	h, err := e.holds().take(userHoldName(&p.rec), p.e)
	if err != nil {
		return err
	}
	h.close()
	return e.holds().checkExists()
}

// userHoldName is the name of the hold that a volume has on the snapshot that it is.
func userHoldName(r *volume.Record) string { return userHold + r.Key + "." + r.Nonce }

// Commit makes the volume exist. If it succeeds nobody has undone the creation, and the
// directory is in its place.
func (p *Pending) Commit(ctx context.Context) (r *volume.Record, err error) {
	defer p.v.wrapError(&err, "commit volume %s", p.rec.Key)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from := makingFile
	if p.placing {
		from = placingFile
	}
	if err := p.e.commit(from); err != nil {
		return nil, err
	}
	p.removeJob()
	p.Close()
	return &p.rec, nil
}

// Fail ends a creation that has failed with err, and returns the error to report. What the
// server refuses for good is undone, so that nothing stays behind; anything else is left for
// a retry, which undoes it first.
func (p *Pending) Fail(ctx context.Context, err error) error {
	if !IsTransient(err) {
		if undo := p.Abort(); undo != nil {
			klog.FromContext(ctx).Error(undo, "What was begun of a volume stays for a retry to undo")
		}
	}
	p.Close()
	return err
}

// Abort takes away what was made of the volume. A creation that was committed, or undone by
// another, is left alone.
func (p *Pending) Abort() (err error) {
	defer p.v.wrapError(&err, "undo the creation of volume %s", p.rec.Key)
	defer p.Close()
	if p.copy != nil {
		_ = p.copy.releaseHold()
	}
	_, err = undo{p.v, p.e, &p.rec, p.madeDirectory}.run()
	return err
}

// Close lets go of the creation and leaves what there is.
func (p *Pending) Close() {
	if p.copy != nil {
		p.copy.close()
	}
	if p.e != nil && p.e.dir != beneath.None {
		p.e.close()
		p.e.dir = beneath.None
	}
}

// removeJob removes the creation from the index of copies.
func (p *Pending) removeJob() {
	if p.job != "" {
		p.v.jobs.remove(p.job)
	}
}
