// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"golang.org/x/sys/unix"
)

// judgeFeatures reports features that not every server has. It skips those that need NFS 4.2 if the
// share is mounted with an older version: the check "versions" covers that.
func (s *reportBuilder) judgeFeatures(f *Facts, m mountResult) {
	newest := m.version() == "4.2"
	older := fmt.Sprintf("this needs NFS 4.2, and the share is mounted with %s", m.version())
	feature := func(id, step, cause, yes, no string) {
		switch {
		case f.succeeded(step):
			s.ok(id, "%s", yes)
		case f.Failures[step].TimedOut || !isUnsupported(f.Failures[step]):
			s.failure(id, step, f)
		default:
			s.problem(id, cause, "%s", no)
		}
	}
	if newest {
		f.copyOutcome(stepCopies, stepClone, stepCopy)
		feature("clone", stepClone, "no-clone", "files can share their blocks", "the server does not clone")
		if f.succeeded(stepClone) && !f.succeeded(stepCopy) {
			s.ok("copy", "not supported, and not needed with CLONE")
		} else {
			feature("copy", stepCopy, "no-copy", "the server copies data itself", "the server does not copy data itself")
		}
		feature("xattr", stepAttribute, "no-xattr", "they can be set and read", "the server does not support them")
	} else {
		for _, id := range []string{"clone", "copy", "xattr"} {
			s.skip(id, "%s", older)
		}
	}
	feature("acl", stepACL, "no-acl", f.ACL, "the server does not support them")
	if f.succeeded(stepOwn) && slices.Contains([]unix.Errno{unix.EIO, unix.EREMOTEIO}, f.Failures[stepLink].Errno) {
		// A later change of the file succeeded, so the error is about the link only.
		s.problem("links", "no-links", "a file cannot have two names, and the server returns a wrong error for it: %s", f.Failures[stepLink].Message)
	} else {
		feature("links", stepLink, "no-links", "a file can have two names", "a file cannot have two names")
	}
	judgeRenames(s, f)
	switch {
	case !newest:
		s.skip("holes", "%s", older)
	case f.succeeded(stepHole) && !f.HoleFound:
		s.problem("holes", "no-holes", "the probe file has one, and the server does not report it")
	default:
		feature("holes", stepHole, "no-holes", "the server reports them", "the server does not report them")
	}
	s.judgeLocks(f, m)
}

func judgeRenames(s *reportBuilder, f *Facts) {
	switch {
	case len(f.Violations) > 0:
		s.problem("renames", "wrong", "%s", strings.Join(f.Violations, "; "))
	case f.NoRenames != "":
		s.skip("renames", "%s", f.NoRenames)
	case f.succeeded(stepRenames):
		s.ok("renames", "the server refuses all that it must refuse")
	default:
		s.failure("renames", stepRenames, f)
	}
}

func (s *reportBuilder) judgeLocks(f *Facts, m mountResult) {
	local := mount.ValueOf(m.Super, "local_lock")
	switch {
	case f.Failures[stepLock].TimedOut && f.LockdError != "":
		s.problem("locks", "no-locks", "the server did not grant a lock within %s, and its lock service does not answer: %s", stepTimeout, f.LockdError)
	case f.Failures[stepLock].TimedOut:
		s.problem("locks", "grace", "the server did not grant a lock within %s, but answers all other calls", stepTimeout)
	case f.Failures[stepLock].Message != "":
		s.problem("locks", "no-locks", "%s", f.Failures[stepLock].Message)
	case !f.succeeded(stepLock):
		s.failure("locks", stepLock, f)
	case local == "all" || local == "posix":
		s.problem("locks", "local", "locks are not sent to the server (nolock)")
	default:
		s.ok("locks", "a lock was taken and released")
	}
}

// copyOutcome gives the outcome of a step to the steps that it includes.
func (f *Facts) copyOutcome(step string, included ...string) {
	for _, other := range included {
		if f.succeeded(step) {
			f.Done = append(f.Done, other)
		} else if failure, failed := f.Failures[step]; failed {
			f.Failures[other] = failure
		}
	}
}

// isUnsupported reports whether a failure only means that the server does not support something.
func isUnsupported(f Failure) bool {
	switch f.Errno {
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EINVAL, unix.EBADF, unix.EPERM, unix.EACCES, unix.ENODATA:
		return true
	}
	return false
}

// formatDuration formats a duration with about three digits.
func formatDuration(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
