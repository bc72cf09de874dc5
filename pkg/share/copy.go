// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// copying is what a copy needs of its source: the source is held while it lasts.
type copying struct {
	from     *Share
	target   *entry
	hold     *hold
	source   beneath.Dir // the tree that is copied
	into     beneath.Dir // the directory that is to become its copy
	volume   *volume.Record
	snapshot *volume.SnapshotRecord
	placed   bool // what is copied is the copy, into the volume's directory
}

// CopyJob is a copy that is being made, of a volume or a snapshot.
type CopyJob struct {
	c   *copying
	job volume.Copy
}

// Volume returns the record of the volume that is copied, nil where that is a snapshot.
func (c *CopyJob) Volume() *volume.Record { return c.c.volume }

// Snapshot returns the record of the snapshot that is copied, nil where that is a volume.
func (c *CopyJob) Snapshot() *volume.SnapshotRecord { return c.c.snapshot }

// Trees returns the descriptors of the source's directory and of the empty one that is to
// become its copy. They are good until the creation ends.
func (c *CopyJob) Trees() (source, target int) { return int(c.c.source), int(c.c.into) }

// Renew shows other controllers that this one is at it, and has to be called several times
// within the share's Lease. ErrBusy: another has undone the creation, and the copy has to stop.
func (c *CopyJob) Renew() (err error) {
	t := c.c.target
	defer t.explain(&err, "renew the creation of %s", c.job.Target)
	if c.c.placed {
		err = utimes(t.dir, placingFile)
	} else if err = t.renew(); err == nil {
		err = c.c.hold.renew()
	}
	if missing(err) {
		return busy("the creation of %s was undone by another", c.job.Target)
	}
	return err
}

// holdName is the name of the hold that a copy has on its source.
func holdName(target volume.Object, nonce string) string {
	return copyHold + target.FileName() + "." + nonce
}

// open holds and opens the source, which is on from. The hold comes first, and the record is
// read after it: from then on the source cannot be deleted.
func (c *copying) open(job volume.Copy, nonce string) error {
	if job.Source.Kind == volume.OfSnapshot {
		return c.openSnapshot(job, nonce)
	}
	if err := c.from.Volumes.ask(job.Source.Key); err != nil {
		return err
	}
	e, r, err := c.from.Volumes.lookup(job.Source.Key)
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
	if c.hold, err = e.holds().take(holdName(job.Target, nonce), c.target); err != nil {
		e.close()
		return err
	}
	if err := e.holds().stands(); err != nil {
		return err
	}
	c.volume = &r.Record
	// What this client remembers may be the directory of a volume that another controller has deleted.
	c.source, err = beneath.Current(c.from.root, r.Directory)
	return c.noDirectory(err, r)
}

func (c *copying) noDirectory(err error, r *StoredRecord) error {
	if is(err, unix.ENOENT) {
		return volume.Errorf(volume.ErrPrecondition, "the directory %q of volume %s does not exist: somebody removed it: put it back, or delete the volume", r.Directory, r.Key)
	}
	return err
}

func (c *copying) openSnapshot(job volume.Copy, nonce string) error {
	if err := c.from.Snapshots.ask(job.Source.Key); err != nil {
		return err
	}
	e, r, err := c.from.Snapshots.lookup(job.Source.Key)
	if err != nil {
		return err
	}
	if err := r.CheckRequires(); err != nil {
		e.close()
		return err
	}
	if c.hold, err = e.holds().take(holdName(job.Target, nonce), c.target); err != nil {
		e.close()
		return err
	}
	if err := e.holds().stands(); err != nil {
		return err
	}
	c.snapshot = r
	c.source, err = e.dir.Resolve(dataName)
	return err
}

// end gives the hold up, if there is one. An error says that it may have been lost.
func (c *copying) end() error {
	if c.hold == nil {
		return nil
	}
	h := c.hold
	c.hold = nil
	err := h.release()
	h.of.close()
	return err
}

// close lets go of the directories, and leaves the hold to be found abandoned.
func (c *copying) close() {
	if c.hold != nil {
		c.hold.close()
		c.hold.of.close()
		c.hold = nil
	}
	closeAll(c.source, c.into)
	c.source, c.into = beneath.None, beneath.None
}

func closeAll(dirs ...beneath.Dir) {
	for _, d := range dirs {
		if d != beneath.None {
			d.Close()
		}
	}
}

// stage makes the directory in which the tree grows, unseen. It has the source's mode from the
// start, if that lets us in.
func (c *copying) stage(in beneath.Dir, name string) error {
	st, err := c.source.Self()
	if err != nil {
		return err
	}
	c.target.step("make the staging directory")
	if err := in.Mkdir(name, st.Mode&0o777|0o700); err != nil {
		return c.target.undone(err)
	}
	c.into, err = in.Resolve(name)
	return err
}

// BeginCopy begins to fill the volume, whose directory is made and empty, from the source that
// its record names, which is on from. ErrNotFound: there is no such source.
func (p *Pending) BeginCopy(ctx context.Context, from *Share) (c *CopyJob, err error) {
	job := volume.Copy{Target: volume.Object{Kind: volume.OfVolume, Key: p.rec.Key}, Source: *p.rec.Source}
	defer p.v.explain(&err, "begin to copy %s", job.Source.String())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.note(job); err != nil {
		return nil, err
	}
	p.copy = &copying{from: from, target: p.e, source: beneath.None, into: beneath.None}
	if err := p.copy.open(job, p.rec.Nonce); err != nil {
		from.explain(&err, "open %s", job.Source.String())
		return nil, err
	}
	stage, err := p.e.dir.Resolve(stageName)
	if err != nil {
		return nil, p.e.undone(err)
	}
	defer stage.Close()
	if err := p.copy.stage(stage, treeName); err != nil {
		return nil, err
	}
	return &CopyJob{p.copy, job}, nil
}

// note puts the copy into the index, from which it is begun again where this process dies.
func (p *Pending) note(job volume.Copy) error {
	p.job = jobName(job.Target, p.rec.Nonce)
	return p.v.jobs.add(p.e, p.job)
}

// CommitCopy puts the whole copy in the place of the volume's empty directory and makes the
// volume exist. Where a project forbids that it returns a second copy to be made, after which it is
// called again: of the first, into the volume's directory itself.
func (p *Pending) CommitCopy(ctx context.Context) (r *volume.Record, again *CopyJob, err error) {
	defer p.v.explain(&err, "put the copy in its place as volume %s", p.rec.Key)
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if p.copy.placed {
		r, err = p.commitInPlace(ctx)
		return r, nil, err
	}
	if err := p.ownCopy(); err != nil {
		return nil, nil, err
	}
	if err := p.copy.end(); err != nil {
		return nil, nil, err
	}
	err = p.place()
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

// ownCopy gives the copy the owner and mode that the class asks for, where it asks; else they
// are the source's.
func (p *Pending) ownCopy() error {
	if p.rec.Mode == nil && p.rec.UID == nil && p.rec.GID == nil {
		return nil
	}
	st, err := p.copy.into.Self()
	if err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	if p.rec.Mode != nil {
		mode = *p.rec.Mode
	}
	return p.own(p.copy.into, mode)
}
