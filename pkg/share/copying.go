// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Copying is a copy in the making, and the right to make it. While it is there its source
// cannot be deleted. Its tree grows in the staging directory, unseen, and appears in its
// place by one rename(2), when it is whole.
type Copying struct {
	s, from *Share
	right   *right
	stage   string      // name of the staging directory; "" once it is in its place
	at      beneath.Dir // the staging directory
	source  beneath.Dir // the tree that is copied
	target  beneath.Dir // where to
	// Resumed: another had begun the same copy, and died.
	Resumed bool

	volume   *volume.Record         // that is the source, or nil
	snapshot *volume.SnapshotRecord // that is the source, or nil
}

// stageName is where a target is made by one attempt.
func stageName(target volume.Object, nonce string) string { return target.FileName() + "." + nonce }

// BeginCopy takes the right to make a copy. ErrBusy: another controller is at it.
func (s *Share) BeginCopy(ctx context.Context, copy volume.Copy) (*Copying, error) {
	what := "publish the job of " + copy.Target.String()
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	job := Job{
		Copy: copy, Share: s.def.Name,
		Maker: s.opt.Maker, Nonce: s.nonce(), Began: time.Now().UTC().Truncate(time.Second), name: jobName(copy.Target, copy.Source.Object),
	}
	r, resumed, err := s.begin(job)
	if err != nil {
		return nil, s.fail(what, err)
	}
	return &Copying{s: s, from: s, right: r, at: beneath.None, source: beneath.None, target: beneath.None, Resumed: resumed}, nil
}

// Open opens the source, which is on from, and makes the staging. ErrNotFound: there is no
// such source.
func (c *Copying) Open(ctx context.Context, from *Share) error {
	c.from = from
	err := ctx.Err()
	if err == nil {
		err = c.open()
	}
	return c.s.fail("begin to copy "+c.right.job.Source.String(), err)
}

// open opens the source and makes the staging. The source's own record is read after the job
// is published: who deletes does it the other way round, so that one of the two sees the other.
func (c *Copying) open() error {
	job := &c.right.job
	if c.from != c.s {
		data, err := job.encode()
		if err != nil {
			return err
		}
		name := heldBy + job.Nonce + "@" + job.Source.FileName() + ".json"
		c.from.step("hold the source")
		f, err := c.from.jobs.Write(name, unix.O_EXCL, data)
		if err != nil {
			return c.from.fail("hold "+job.Source.String(), err)
		}
		c.right.files = append(c.right.files, held{c.from.jobs, name, f})
	}
	if err := c.openSource(job.Source); err != nil {
		return c.from.fail("open "+job.Source.String(), err)
	}
	// The tree's mode from the start, if it lets us in: nobody else gets here.
	st, err := c.source.Self()
	if err != nil {
		return err
	}
	mode := st.Mode&0o777 | 0o700
	name := stageName(job.Target, job.Nonce)
	c.s.step("make the staging")
	err = c.s.staging.Mkdir(name, mode)
	if err == nil {
		c.stage = name
		c.at, err = c.s.staging.Resolve(name)
	}
	if err == nil && job.Target.Kind == volume.OfSnapshot {
		c.s.step("make the staging's data")
		if err = c.at.Mkdir("data", mode); err == nil {
			c.target, err = c.at.Resolve("data")
		}
	} else if err == nil {
		c.target, err = c.at.Resolve("")
	}
	return err
}

func (c *Copying) openSource(source volume.Source) (err error) {
	if source.Kind == volume.OfSnapshot {
		var d beneath.Dir
		if c.snapshot, d, err = c.from.snapshot(source.Key); err != nil {
			return err
		}
		defer d.Close()
		c.source, err = d.Resolve("data")
		return err
	}
	r, _, err := c.from.record(source.Key)
	if err != nil {
		return err
	}
	if r.Ready == 0 {
		return volume.Errorf(volume.ErrNotFound, "share %s: volume %s is still being created", c.from.def, r.Key)
	}
	c.volume = r
	parent, name := volume.SplitDirectory(r.Directory)
	at, err := c.from.root.Resolve(parent)
	if err == nil {
		defer at.Close()
		err = at.Refresh()
	}
	if err == nil {
		c.source, err = at.Resolve(name)
	}
	if is(err, unix.ENOENT) {
		return volume.Errorf(volume.ErrConflict, "share %s: the directory %q of volume %s is not there: somebody removed it: put it back, or delete the volume", c.from.def, r.Directory, r.Key)
	}
	return err
}

// Volume returns the record of the volume that is copied, nil where that is a snapshot.
func (c *Copying) Volume() *volume.Record { return c.volume }

// Snapshot returns the record of the snapshot that is copied, nil where that is a volume.
func (c *Copying) Snapshot() *volume.SnapshotRecord { return c.snapshot }

// Trees returns the descriptors of the source's directory and of the empty one that is to
// become its copy. They are good until the Copying ends.
func (c *Copying) Trees() (source, target int) { return int(c.source), int(c.target) }

// Beat tells other controllers that this one lives, and has to be called several times within
// the share's Lease. ErrBusy: one of them has taken over, and the copying has to stop.
func (c *Copying) Beat() error {
	return c.s.fail("give a sign of life of "+c.right.job.Target.String(), c.right.beat())
}

// late returns ErrBusy when the last sign of life is so old that another may have taken over.
func (c *Copying) late() error {
	if time.Since(c.right.fresh) > c.s.opt.Lease/2 {
		return c.Beat()
	}
	return nil
}

// PublishSnapshot puts the whole copy in its place as a snapshot, with its record. Where the
// same snapshot is there already, made by another controller, that is returned.
func (c *Copying) PublishSnapshot(ctx context.Context, r volume.SnapshotRecord) (*volume.SnapshotRecord, error) {
	s := c.s
	what := fmt.Sprintf("put snapshot %s in its place", r.Key)
	r.Maker = s.opt.Maker
	data, err := r.Encode()
	if err == nil {
		s.step("write the snapshot's record")
		var f interface{ Close() error }
		if f, err = c.at.Write(recordFile, 0, data); err == nil {
			err = f.Close()
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.late()
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	s.step("rename the snapshot into its place")
	err = s.staging.Rename(c.stage, s.snapshots, r.Key)
	if is(err, unix.EEXIST) || is(err, unix.ENOTEMPTY) {
		return s.Snapshot(ctx, r.Key)
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	c.stage = ""
	return &r, nil
}

// PublishVolume puts the whole copy in the place of the empty directory that m has made, and
// makes the volume ready.
func (c *Copying) PublishVolume(ctx context.Context, m *Making) (*volume.Record, error) {
	s := c.s
	what := fmt.Sprintf("put the copy in its place as volume %s", m.rec.Key)
	err := m.ownCopy(c.target)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.late()
	}
	if err == nil {
		c.Protect(m)
		err = c.place(m.rec.Directory)
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	return m.Commit(ctx)
}

// Protect keeps m from being too late: whoever makes a volume by copying has the right to do
// so for as long as the job is his.
func (c *Copying) Protect(m *Making) {
	if c.late() == nil {
		m.until = c.right.fresh.Add(c.s.opt.Lease / 2)
	}
}

// place renames the staging over the volume's empty directory. One that is not empty is a
// copy that was put there before: nothing else fills it before the volume is ready.
func (c *Copying) place(directory string) error {
	parent, name := volume.SplitDirectory(directory)
	at, err := c.s.root.Resolve(parent)
	if err != nil {
		return err
	}
	defer at.Close()
	c.s.step("rename the copy into its place")
	err = c.s.staging.Rename(c.stage, at, name)
	if is(err, unix.EEXIST) || is(err, unix.ENOTEMPTY) {
		return nil
	}
	if err == nil {
		c.stage = ""
	}
	return err
}

// ownCopy gives the copy the owner and mode that the class asks for, where it asks; else they
// are the source's.
func (m *Making) ownCopy(d beneath.Dir) error {
	if m.rec.Mode == nil && m.rec.UID == nil && m.rec.GID == nil {
		return nil
	}
	st, err := d.Self()
	if err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	if m.rec.Mode != nil {
		mode = *m.rec.Mode
	}
	return m.own(d, mode)
}

// Placed reports whether the copy that the job was for is in its place already, though the
// volume is not ready: its maker died in between.
func (s *Share) Placed(ctx context.Context, r *volume.Record) (bool, error) {
	what := fmt.Sprintf("look at the directory %q of volume %s", r.Directory, r.Key)
	if err := ctx.Err(); err != nil {
		return false, s.fail(what, err)
	}
	d, err := s.root.Resolve(r.Directory)
	if is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, s.fail(what, err)
	}
	defer d.Close()
	empty, err := d.Empty()
	return !empty && err == nil, s.fail(what, err)
}

// Leave lets go of the copy and leaves its job for this instance's next run, or another
// controller, to take over.
func (c *Copying) Leave() {
	c.close()
	for _, h := range c.right.files {
		_ = h.file.Close()
	}
}

func (c *Copying) close() {
	for _, d := range []beneath.Dir{c.at, c.source, c.target} {
		if d >= 0 {
			d.Close()
		}
	}
	c.at, c.source, c.target = beneath.None, beneath.None, beneath.None
}

// End gives the right up. What was not put in its place goes to the trash.
func (c *Copying) End() {
	c.close()
	if c.stage != "" {
		c.s.discard(c.stage)
	}
	// What fails here is found dead later.
	_ = c.right.end(c.s)
}

// discard moves a staging directory to the trash, from where it is purged at once. What stays
// is found by SweepStaging.
func (s *Share) discard(stage string) {
	s.step("discard a staging")
	_ = s.staging.Rename(stage, s.trash, trashName(stage, time.Now())+stagingSuffix)
}

// Seize takes a copy over whose maker has died, in order to end it. It returns nil where there
// is none, and ErrBusy where it is alive.
func (s *Share) Seize(ctx context.Context, target volume.Object) (*Copying, error) {
	what := "look for the job of " + target.String()
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	jobs, err := s.findJobs(func(name string) bool { return strings.HasPrefix(name, target.FileName()+"@") })
	if err != nil || len(jobs) == 0 {
		return nil, s.fail(what, err)
	}
	j := jobs[0]
	if !j.Dead {
		return nil, volume.Errorf(volume.ErrBusy, "share %s: %s is still being made: try again when that is done", s.def, target)
	}
	j.Maker, j.Nonce, j.Began = s.opt.Maker, s.nonce(), time.Now().UTC().Truncate(time.Second)
	r, err := s.seize(j)
	if is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	return &Copying{s: s, from: s, right: r, at: beneath.None, source: beneath.None, target: beneath.None, Resumed: true}, nil
}

// SweepStaging moves to the trash what copies have left whose jobs are no more.
func (s *Share) SweepStaging(ctx context.Context) error {
	const what = "sweep the staging"
	if err := ctx.Err(); err != nil {
		return s.fail(what, err)
	}
	var stages []string
	err := s.staging.Names(func(name string) error {
		if _, aside := keyOf(name); !aside {
			stages = append(stages, name)
		}
		return nil
	})
	if err != nil || stages == nil {
		return s.fail(what, err)
	}
	// After the stages: a job is there before its stage is.
	jobs, err := s.Jobs(ctx)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, j := range jobs {
		used[stageName(j.Target, j.Nonce)] = true
	}
	for _, name := range stages {
		if !used[name] {
			s.discard(name)
		}
	}
	return nil
}
