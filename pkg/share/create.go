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

// Pending is a volume that this process creates. No other process works on it, but another may undo
// it: then every further step fails and changes nothing. Commit or Abort ends it, or Close, and then a
// retry undoes the creation and begins again. Until then the share's handles stay open.
type Pending struct {
	v             *Volumes
	e             *entry
	rec           volume.Record
	job           string
	madeDirectory bool // by this process
	placing       bool // the staged tree is in its place, or will be soon
	copy          *CopyJob
}

// Begin begins the creation of a volume, create-once. It prepares an entry in staging, with the
// record making.json, the claim (a link to the record) and, for a copy or a restore, an empty
// stage, and renames it to volumes/<key>. The rename decides which process is first. If the key has
// an entry already, Begin returns its record and changes nothing.
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
		e, err := v.create(r.Key, data, prepare)
		if is(err, unix.EEXIST) {
			found, err := v.existing(r.Key)
			if found != nil || err != nil {
				return nil, found, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		v.handles.retain()
		return &Pending{v: v, e: e, rec: r}, nil, nil
	}
	return nil, nil, busy("volume %s is created and deleted again and again", r.Key)
}

// existing reads the record of a key that is taken. It returns nil if the key is free again.
func (v *Volumes) existing(key string) (*StoredRecord, error) {
	if err := v.refresh(key); err != nil { // this client may have cached the entry
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

// AbortAbandoned undoes a creation that Begin has found, or continues an undo:
//
//	mark it           entry/making.json -> abort.json, or placing.json -> unplace.json
//	take it away      <directory>       -> entry/tree, which is removed if it is empty
//	move the record   entry/abort.json  -> trash/<id>.<deleted>.<due>.json, due at once
//	remove the entry, then the job, the hold and the claim, then the record
//
// A copy goes to the trash as a leftover, a restored tree goes back there. ErrBusy: the process
// that began it may still work on it.
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
	// This process itself has abandoned what it began: only one call at a time works on a key.
	isOwn := r.Maker == v.opt.Maker && r.Run == v.opt.Run
	_, err = v.abortAbandoned(e, s, isOwn)
	return err
}

// Record returns the volume's record.
func (p *Pending) Record() volume.Record { return p.rec }

// MakeDirectory claims the volume's directory: it renames entry/claim to claims/<name> or, in a
// parent, to claims/<parent>/taken/<name>. Then it makes the directory, with the owner and mode of
// the record. Missing parents and their claims are made before, each with a note in parents. An
// adopted directory is left as it is. ErrPrecondition: another volume has the directory, one above
// it or one in it, or the directory exists and is not adopted.
func (p *Pending) MakeDirectory(ctx context.Context) (err error) {
	defer p.v.wrapError(&err, "make the directory %q of volume %s", p.rec.Directory, p.rec.Key)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.v.claims.take(p.e, makingFile, owner{p.rec.Key, p.rec.Nonce}, p.rec.Directory); err != nil {
		return err
	}
	parent, name := volume.SplitDirectory(p.rec.Directory)
	for attempt := range retries {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := p.makeDirectoryIn(parent, name, attempt > 0)
		if p.adopts() && is(err, unix.ENOENT) {
			return volume.Errorf(volume.ErrPrecondition, "the directory %q, which volume %s should adopt, does not exist any more: try again", p.rec.Directory, p.rec.Key)
		}
		// The parent may just have been removed as idle.
		if !isMissing(err) || parent == "" {
			return err
		}
	}
	return busy("make the directory %q: its parent is removed again and again", p.rec.Directory)
}

// makeDirectoryIn does one attempt of MakeDirectory. again: an earlier one did not find the parent.
func (p *Pending) makeDirectoryIn(parent, name string, again bool) error {
	dir, err := p.v.claims.parents.openDirectory(parent, again)
	if err != nil {
		return err
	}
	defer dir.Close()
	if p.adopts() {
		return checkAdoptable(p.v.disk, dir, p.rec.Directory)
	}
	mode := uint32(volume.DefaultMode)
	if p.rec.Mode != nil {
		mode = *p.rec.Mode
	}
	p.v.step("make the directory")
	err = dir.Mkdir(name, mode)
	if is(err, unix.EEXIST) {
		// This client may have cached a directory that another controller has removed.
		if err := ignore(refreshPath(dir, name), unix.ENOENT, unix.ENOTDIR, unix.ELOOP); err != nil {
			return err
		}
		err = dir.Mkdir(name, mode)
	}
	existed := is(err, unix.EEXIST)
	if err != nil && !existed {
		return err
	}
	made, err := dir.Resolve(name)
	if err != nil {
		return err
	}
	if existed {
		replaced, err := replaceLateDirectory(p, dir, made, name, mode)
		made.Close()
		if err != nil {
			return err
		}
		made = replaced
	}
	defer made.Close()
	p.madeDirectory = true
	return p.setOwnerAndMode(made, mode)
}

// replaceLateDirectory replaces the directory found if a late process has made it in the volume's place,
// and returns the new one. The late process may still have a handle of its own and would set its owner
// there. Any other directory is refused.
func replaceLateDirectory(p *Pending, dir, found beneath.Dir, name string, mode uint32) (beneath.Dir, error) {
	unused, err := p.v.claims.isUnused(found, p.rec.Directory, owner{p.rec.Key, p.rec.Nonce})
	if err != nil {
		return beneath.None, err
	}
	if !unused {
		p.v.requestRemount()
		if p.rec.Restored != nil {
			return beneath.None, volume.Errorf(volume.ErrPrecondition, "the directory %q, where volume %s was, exists again and belongs to no volume: move it away, or restore the volume to another directory", p.rec.Directory, p.rec.Key)
		}
		return beneath.None, volume.Errorf(volume.ErrPrecondition, "the directory %q exists already and belongs to no volume: remove or rename it, choose another subDir, or set existingDirectory: adopt in the class to use it as it is", p.rec.Directory)
	}
	p.madeDirectory = true
	p.v.step("prepare an empty directory")
	if err := ignore(p.e.dir.Mkdir(emptyName, mode), unix.EEXIST); err != nil {
		return beneath.None, p.e.explainUndone(err)
	}
	p.v.step("replace the directory by the empty one")
	err = renameDir(p.v.disk, p.e.dir, emptyName, dir, name)
	if isNameTaken(err) {
		return beneath.None, occupiedError(&p.rec)
	}
	if err != nil && !is(err, unix.EXDEV) { // a project quota forbids it: use the existing directory
		return beneath.None, p.e.explainUndone(err)
	}
	return dir.Resolve(name)
}

// adopts reports whether the volume takes an existing directory. A restored volume always gets a new one.
func (p *Pending) adopts() bool { return p.rec.Adopted && p.rec.Restored == nil }

// isUnused reports whether an existing directory is empty and was made after its claim: by the claim's
// owner, or by a late process that had the claim before. Both times are the server's: no client keeps the
// times of directories itself.
func (c *claims) isUnused(d beneath.Dir, directory string, want owner) (bool, error) {
	found, err := c.find(directory, inode{})
	defer found.close()
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.EISDIR)
	}
	if found.owner != want {
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

// setOwnerAndMode gives the directory its owner, and its mode if mkdir has not set it: the umask, a setgid
// parent and the special bits can change it. The attributes came with mkdir's answer.
//
// d was opened by its name. The entry still exists after that, so the name was this volume's then.
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
		return busy("the creation of volume %s was undone by another process", p.rec.Key)
	}
	if uid >= 0 || gid >= 0 {
		p.v.step("set the owner")
		st, err = setOwner(d, uid, gid)
		if volume.Kind(err) != nil { // wrapError does not add the operation to it
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

// UseSnapshot makes the volume the snapshot itself, by a hold user.<key>.<nonce> in the entry of
// the snapshot. The volume has no claim and no directory. ErrNotFound: there is no such snapshot.
func (p *Pending) UseSnapshot(ctx context.Context) (err error) {
	key := p.rec.Source.Key
	defer p.v.wrapError(&err, "let volume %s use snapshot %s itself", p.rec.Key, key)
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

// userHoldName is the name of the hold that a volume has on the snapshot that it uses.
func userHoldName(r *volume.Record) string { return userHold + r.Key + "." + r.Nonce }

// Commit makes the volume exist: it renames making.json or placing.json to record.json. If that
// succeeds, no process has undone the creation, and the directory is in its place.
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

// Fail ends a creation that has failed with err, and returns the error to report. It undoes the creation
// after a permanent error. After any other error it leaves everything for a retry, which undoes it first.
func (p *Pending) Fail(ctx context.Context, err error) error {
	if !IsTransient(err) {
		if abortErr := p.Abort(); abortErr != nil {
			klog.FromContext(ctx).Error(abortErr, "An unfinished volume remains until a retry undoes it")
		}
	}
	p.Close()
	return err
}

// Abort undoes the creation, as AbortAbandoned does, unless it was committed or undone by another process.
func (p *Pending) Abort() (err error) {
	defer p.v.wrapError(&err, "undo the creation of volume %s", p.rec.Key)
	defer p.Close()
	if p.copy != nil {
		_ = p.copy.releaseHold()
	}
	_, err = undo{p.v, p.e, &p.rec, p.madeDirectory}.run()
	return err
}

// Close closes the handles of the creation and leaves everything on the share as it is.
func (p *Pending) Close() {
	if p.copy != nil {
		p.copy.close()
	}
	if p.e != nil && p.e.dir != beneath.None {
		p.e.close()
		p.e.dir = beneath.None
		p.v.handles.release()
	}
}

// removeJob removes the creation from the index of copies.
func (p *Pending) removeJob() {
	if p.job != "" {
		p.v.jobs.remove(p.job)
	}
}
