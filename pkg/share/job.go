// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Job is a copy under way, as its file on the share tells of it. The file's time is the last
// sign of life of the one who makes the copy.
type Job struct {
	Version int `json:"version"`
	volume.Copy
	Share string `json:"share"` // the target's
	Maker string `json:"maker"`
	Nonce string `json:"nonce"` // of the attempt; its staging has it in its name
	// Began is when the attempt did, by its maker's clock.
	Began time.Time `json:"began,omitzero"`

	// Quiet is how long ago the last sign of life was.
	Quiet time.Duration `json:"-"`
	// Dead: whoever made the copy makes it no more.
	Dead bool `json:"-"`
	name string
}

// heldBy begins the name of a job's second file, where the source is on another share.
const heldBy = "held."

// jobName is the name of the file that says both what is made and what has to stay for it.
func jobName(target, source volume.Object) string {
	return target.FileName() + "@" + source.FileName() + ".json"
}

// targetOf returns what the job of a file's name makes. ok is false where it is another's
// hold, or nothing.
func targetOf(name string) (volume.Object, bool) {
	target, _, ok := strings.Cut(name, "@")
	if !ok {
		return volume.Object{}, false
	}
	return volume.ParseObject(target)
}

// right is that of one process to make a copy: its files on the share, for as long as they
// are kept fresh and nobody has replaced them.
type right struct {
	job   Job
	files []held
	fresh time.Time // when they were last
}

type held struct {
	dir  beneath.Dir
	name string
	file *os.File
}

// seize takes the job over from one who is dead. ErrBusy: he is not. ErrNotFound: there is no
// such job any more.
func (s *Share) seize(job Job) (*right, error) {
	data, err := job.encode()
	if err != nil {
		return nil, err
	}
	aside := nonceFile(job.Target.FileName(), job.Nonce)
	f, err := s.staging.Write(aside, unix.O_EXCL, data)
	if err != nil {
		return nil, err
	}
	old, err := s.readJobBy(job.name, f)
	if err == nil && !old.Dead {
		err = volume.Errorf(volume.ErrBusy, "share %s: %s is being made by another controller (%s): try again", s.def, old.Target, old.Maker)
	}
	if err == nil {
		s.step("take the job over")
		err = s.staging.Rename(aside, s.jobs, job.name)
	}
	if err != nil {
		_ = f.Close()
		_ = s.staging.Unlink(aside)
		return nil, err
	}
	// Not his any more: should he live after all, he finds out at his next sign of life.
	s.discard(stageName(old.Target, old.Nonce))
	return &right{job: job, files: []held{{s.jobs, job.name, f}}, fresh: time.Now()}, nil
}

func (j Job) encode() ([]byte, error) {
	j.Version = volume.RecordVersion
	data, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the job of %s: %w", j.Target, err)
	}
	return append(data, '\n'), nil
}

// begin publishes a job, create-once, or takes over that of one who is dead.
func (s *Share) begin(job Job) (r *right, seized bool, err error) {
	data, err := job.encode()
	if err != nil {
		return nil, false, err
	}
	for range turns {
		s.step("publish the job")
		f, err := s.jobs.Write(job.name, unix.O_EXCL, data)
		if err == nil {
			return &right{job: job, files: []held{{s.jobs, job.name, f}}, fresh: time.Now()}, false, nil
		}
		if !is(err, unix.EEXIST) {
			return nil, false, err
		}
		r, err := s.seize(job)
		if !is(err, unix.ENOENT) {
			return r, true, err
		}
		// That it exists was this client's memory.
	}
	return nil, false, s.confused("begin the copy")
}

// readJobBy is readJob at the time of a file that was just written on the same server.
func (s *Share) readJobBy(name string, written *os.File) (*Job, error) {
	var at unix.Stat_t
	if err := unix.Fstat(int(written.Fd()), &at); err != nil {
		return nil, err
	}
	return s.readJob(name, at.Ctim)
}

// readJob reads a job's file and finds out whether its maker lives. ENOENT: there is none.
func (s *Share) readJob(name string, now unix.Timespec) (*Job, error) {
	if err := s.jobs.Refresh(); err != nil {
		return nil, err
	}
	data, st, err := s.jobs.Read(name, maxRecord)
	if gone(err) && !s.gone() {
		return nil, pathError("open", name, unix.ENOENT)
	}
	if err != nil {
		return nil, err
	}
	j := &Job{name: name}
	// Not by the time of the last write: an exclusive create keeps its verifier there until
	// the client has set the time (RFC 8881, section 18.16.3), which a dead one never has.
	quiet := since(st.Ctim, now)
	if json.Unmarshal(data, j) != nil || j.Nonce == "" {
		// It was being written when its maker, or the server, stopped.
		target, _ := targetOf(name)
		return &Job{name: name, Copy: volume.Copy{Target: target}, Quiet: quiet, Dead: quiet > s.opt.Lease}, nil
	}
	j.name, j.Quiet = name, quiet
	j.Dead = quiet > s.opt.Lease || s.earlierRun(j.Nonce)
	return j, nil
}

// earlierRun reports whether a nonce is that of an earlier run of this instance.
func (s *Share) earlierRun(nonce string) bool {
	run, ours := strings.CutPrefix(nonce, s.opt.Maker+"-")
	return ours && !strings.HasPrefix(run, s.opt.Run+"-")
}

// beat gives a sign of life. ErrBusy: another has taken the job over.
func (r *right) beat() error {
	for _, h := range r.files {
		fd := int(h.file.Fd())
		if err := beneath.Dir(fd).Refresh(); is(err, unix.ESTALE) {
			return volume.Errorf(volume.ErrBusy, "making %s took too long without a sign of life, and another controller has taken it over: try again", r.job.Target)
		} else if err != nil {
			return err
		}
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), now, 0); err != nil {
			return pathError("utimes", h.name, err)
		}
	}
	r.fresh = time.Now()
	return nil
}

// end gives the right up.
func (r *right) end(s *Share) error {
	var first error
	for _, h := range r.files {
		// What is another's by now is left to him.
		lost := time.Since(r.fresh) > s.opt.Lease/2 && beneath.Dir(h.file.Fd()).Refresh() != nil
		err := h.file.Close()
		if !lost {
			s.step("remove the job")
			if e := ignore(h.dir.Unlink(h.name), unix.ENOENT); err == nil {
				err = e
			}
		}
		if first == nil {
			first = err
		}
	}
	r.files = nil
	return first
}

// Jobs lists the copies that are under way on the share, or were when their makers died.
func (s *Share) Jobs(ctx context.Context) ([]Job, error) {
	const what = "list the jobs"
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	jobs, err := s.findJobs(func(name string) bool {
		_, ok := targetOf(name)
		return ok
	})
	return jobs, s.fail(what, err)
}

// findJobs reads those of the jobs whose file names are chosen.
func (s *Share) findJobs(chosen func(name string) bool) ([]Job, error) {
	var names []string
	err := s.jobs.Names(func(name string) error {
		if chosen(name) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil || names == nil {
		return nil, err
	}
	now, err := s.now()
	if err != nil {
		return nil, err
	}
	var jobs []Job
	for _, name := range names {
		j, err := s.readJob(name, now)
		if is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, *j)
	}
	return jobs, nil
}

// now returns the time by the server's clock, by which alone a job's age can be told. Who only
// looks, and decides nothing on it, takes its own.
func (s *Share) now() (unix.Timespec, error) {
	if s.opt.ReadOnly {
		return unix.NsecToTimespec(time.Now().UnixNano()), nil
	}
	aside := nonceFile("now", s.nonce())
	f, err := s.staging.Write(aside, unix.O_EXCL, nil)
	if err != nil {
		return unix.Timespec{}, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	_ = f.Close()
	_ = s.staging.Unlink(aside)
	return st.Ctim, err
}

// held returns ErrBusy while o is being copied by anyone who lives.
func (s *Share) held(o volume.Object) error {
	suffix := "@" + o.FileName() + ".json"
	jobs, err := s.findJobs(func(name string) bool { return strings.HasSuffix(name, suffix) })
	for _, j := range jobs {
		if !j.Dead && (j.Nonce == "" || j.Source.Share == s.def.Name) {
			return volume.Errorf(volume.ErrBusy, "share %s: %s is just being copied, for %s: try again when that is done", s.def, o, j.Target)
		}
		if strings.HasPrefix(j.name, heldBy) && j.Dead {
			_ = s.jobs.Unlink(j.name)
		}
	}
	return err
}
