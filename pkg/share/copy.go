// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// CopyJob is a copy that is being made, of a volume or a snapshot. It has a hold on its source.
type CopyJob struct {
	job         volume.Copy
	sourceShare *Share
	target      *entry
	hold        *hold
	sourceDir   beneath.Dir // the tree to copy
	targetDir   beneath.Dir // the directory that becomes the copy
	volume      *volume.Record
	snapshot    *volume.SnapshotRecord
	inPlace     bool // it copies the staged copy into the volume's directory
}

func newCopyJob(job volume.Copy, source *Share, target *entry) *CopyJob {
	return &CopyJob{job: job, sourceShare: source, target: target, sourceDir: beneath.None, targetDir: beneath.None}
}

// Volume returns the record of the source volume, or nil if the source is a snapshot.
func (c *CopyJob) Volume() *volume.Record { return c.volume }

// Snapshot returns the record of the source snapshot, or nil if the source is a volume.
func (c *CopyJob) Snapshot() *volume.SnapshotRecord { return c.snapshot }

// Trees returns the descriptors of the source's directory and of the empty directory that becomes its
// copy. They are valid until the creation ends.
func (c *CopyJob) Trees() (source, target int) { return int(c.sourceDir), int(c.targetDir) }

// Renew shows other controllers that this one still works on the copy: it sets the mtime of the
// record making.json and of the hold. Call it several times within the share's Lease. ErrBusy:
// another process has undone the creation; the copy must stop.
func (c *CopyJob) Renew() (err error) {
	t := c.target
	defer t.wrapError(&err, "renew the creation of %s", c.job.Target)
	if c.inPlace {
		err = utimes(t.dir, placingFile)
	} else if err = t.renewRecord(); err == nil {
		err = c.hold.renew()
	}
	if isMissing(err) {
		return busy("the creation of %s was undone by another process", c.job.Target)
	}
	return err
}

// copyHoldName is the name of the hold that a copy has on its source.
func copyHoldName(target volume.Object, nonce string) string {
	return copyHold + target.FileName() + "." + nonce
}

// openSource holds the source and opens it. It takes the hold before it reads the record: from then on
// nobody can delete the source.
func (c *CopyJob) openSource(nonce string) error {
	if c.job.Source.Kind == volume.ObjectSnapshot {
		return c.openSnapshot(nonce)
	}
	return c.openVolume(nonce)
}

func (c *CopyJob) openVolume(nonce string) error {
	volumes := c.sourceShare.Volumes
	if err := volumes.refresh(c.job.Source.Key); err != nil {
		return err
	}
	e, r, err := volumes.lookup(c.job.Source.Key)
	if err != nil {
		return err
	}
	if r.State != Ready {
		e.close()
		return volume.Errorf(volume.ErrNotFound, "volume %s is being created or deleted", r.Key)
	}
	if err := r.CheckRequires(); err != nil {
		e.close()
		return err
	}
	if err := c.holdEntry(e, nonce); err != nil {
		return err
	}
	c.volume = &r.Record
	// This client may still have cached the directory of a volume that another controller has deleted.
	c.sourceDir, err = beneath.ResolveCurrent(c.sourceShare.root, r.Directory)
	if is(err, unix.ENOENT) {
		return volume.Errorf(volume.ErrPrecondition, "the directory %q of volume %s does not exist: somebody removed it: put it back, or delete the volume", r.Directory, r.Key)
	}
	return err
}

func (c *CopyJob) openSnapshot(nonce string) error {
	snapshots := c.sourceShare.Snapshots
	if err := snapshots.refresh(c.job.Source.Key); err != nil {
		return err
	}
	e, r, err := snapshots.lookup(c.job.Source.Key)
	if err != nil {
		return err
	}
	if err := r.CheckRequires(); err != nil {
		e.close()
		return err
	}
	if err := c.holdEntry(e, nonce); err != nil {
		return err
	}
	c.snapshot = r
	c.sourceDir, err = e.dir.Resolve(dataName)
	return err
}

// holdEntry takes the hold on the source's entry. It closes the entry if it does not get the hold.
func (c *CopyJob) holdEntry(e *entry, nonce string) (err error) {
	if c.hold, err = e.holds().take(copyHoldName(c.job.Target, nonce), c.target); err != nil {
		e.close()
		return err
	}
	return e.holds().checkExists()
}

// releaseHold releases the hold, if there is one. An error says that the hold may have been lost.
func (c *CopyJob) releaseHold() error {
	if c.hold == nil {
		return nil
	}
	h := c.hold
	c.hold = nil
	err := h.release()
	h.entry.close()
	return err
}

// close closes the directories. It does not release the hold, which is then found abandoned.
func (c *CopyJob) close() {
	if c.hold != nil {
		c.hold.close()
		c.hold.entry.close()
		c.hold = nil
	}
	closeAll(c.sourceDir, c.targetDir)
	c.sourceDir, c.targetDir = beneath.None, beneath.None
}

func closeAll(dirs ...beneath.Dir) {
	for _, d := range dirs {
		if d != beneath.None {
			d.Close()
		}
	}
}

// makeTargetDir makes the directory for the copy, where nobody sees it yet. It has the source's mode from
// the start, plus the owner's rights that Mooring itself needs.
func (c *CopyJob) makeTargetDir(dir beneath.Dir, name string) error {
	st, err := c.sourceDir.StatSelf()
	if err != nil {
		return err
	}
	c.target.step("make the staging directory")
	if err := dir.Mkdir(name, st.Mode&0o777|0o700); err != nil {
		return c.target.explainUndone(err)
	}
	c.targetDir, err = dir.Resolve(name)
	return err
}

// BeginCopy begins to copy the source that the record names. The volume's directory exists and is
// empty. from is the source's share.
//
//	note the copy       jobs/volume.<key>.<nonce>, a link to the record
//	hold the source     deletion/copy.volume.<key>.<nonce> in its entry: a link, or an empty file on another share
//	make a directory    entry/stage/tree, for the copy
//
// ErrNotFound: there is no such source, or it is being created or deleted. ErrPrecondition: the
// directory of the source volume is missing, or the source's record requires a feature that this
// program does not know.
func (p *Pending) BeginCopy(ctx context.Context, from *Share) (c *CopyJob, err error) {
	job := volume.Copy{Target: volume.Object{Kind: volume.ObjectVolume, Key: p.rec.Key}, Source: *p.rec.Source}
	defer p.v.wrapError(&err, "begin to copy %s", job.Source.String())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.addJob(job); err != nil {
		return nil, err
	}
	p.copy = newCopyJob(job, from, p.e)
	if err := p.copy.openSource(p.rec.Nonce); err != nil {
		from.wrapError(&err, "open %s", job.Source.String())
		return nil, err
	}
	stage, err := p.e.dir.Resolve(stageName)
	if err != nil {
		return nil, p.e.explainUndone(err)
	}
	defer stage.Close()
	if err := p.copy.makeTargetDir(stage, treeName); err != nil {
		return nil, err
	}
	return p.copy, nil
}

// addJob adds the copy to the index. If this process dies, another begins the copy again from there.
func (p *Pending) addJob(job volume.Copy) error {
	p.job = jobName(job.Target, p.rec.Nonce)
	return p.v.jobs.add(p.e, p.job)
}

// CommitCopy puts the complete copy into its place and makes the volume exist:
//
//	release the hold
//	begin to place it    entry/making.json  -> placing.json
//	place it             entry/stage/tree   -> <directory>, which is empty
//	commit               entry/placing.json -> record.json
//	remove the job
//
// If a project quota forbids the second rename, the copy becomes entry/copy, and CommitCopy returns
// a second job, which copies that into the volume's directory. Call CommitCopy again after that.
func (p *Pending) CommitCopy(ctx context.Context) (r *volume.Record, again *CopyJob, err error) {
	defer p.v.wrapError(&err, "put the copy in its place as volume %s", p.rec.Key)
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if p.copy.inPlace {
		r, err = p.commitInPlace(ctx)
		return r, nil, err
	}
	if err := p.setCopyOwner(); err != nil {
		return nil, nil, err
	}
	if err := p.copy.releaseHold(); err != nil {
		return nil, nil, err
	}
	err = p.placeTree()
	if is(err, unix.EXDEV) {
		again, err = p.copyInPlace(err)
		return nil, again, err
	}
	if err != nil {
		return nil, nil, err
	}
	r, err = p.Commit(ctx)
	return r, nil, err
}

// setCopyOwner gives the copy the owner and mode that the class asks for. Without those it keeps the
// source's.
func (p *Pending) setCopyOwner() error {
	if p.rec.Mode == nil && p.rec.UID == nil && p.rec.GID == nil {
		return nil
	}
	st, err := p.copy.targetDir.StatSelf()
	if err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	if p.rec.Mode != nil {
		mode = *p.rec.Mode
	}
	return p.setOwnerAndMode(p.copy.targetDir, mode)
}
