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

// judgeFeatures says what the share has of that which not every server has. What takes NFS 4.2
// is no finding of its own where the share is mounted by less: the check of versions tells.
func (s *reportBuilder) judgeFeatures(f *Facts, m mountResult) {
	newest := m.version() == "4.2"
	older := fmt.Sprintf("it takes NFS 4.2, and the share is mounted by %s", m.version())
	feature := func(id, step, trouble, yes, no string) {
		switch {
		case f.succeeded(step):
			s.ok(id, "%s", yes)
		case f.Failures[step].TimedOut || !isUnsupported(f.Failures[step]):
			s.failure(id, step, f)
		default:
			s.problem(id, trouble, "%s", no)
		}
	}
	if newest {
		f.copyOutcome(stepCopies, stepClone, stepCopy)
		feature("clone", stepClone, "no-clone", "files can share their blocks", "the server does not clone")
		if f.succeeded(stepClone) && !f.succeeded(stepCopy) {
			s.ok("copy", "not there, and not needed beside CLONE")
		} else {
			feature("copy", stepCopy, "no-copy", "the server copies by itself", "the server does not copy by itself")
		}
		feature("xattr", stepAttribute, "no-xattr", "they can be set and read", "the server takes none")
	} else {
		for _, id := range []string{"clone", "copy", "xattr"} {
			s.skip(id, "%s", older)
		}
	}
	feature("acl", stepACL, "no-acl", f.ACL, "the server has none")
	if f.succeeded(stepOwn) && slices.Contains([]unix.Errno{unix.EIO, unix.EREMOTEIO}, f.Failures[stepLink].Errno) {
		// The file could be changed afterwards: it is the link that the server does not know.
		s.problem("links", "no-links", "a file cannot have two names, which the server does not say: %s", f.Failures[stepLink].Message)
	} else {
		feature("links", stepLink, "no-links", "a file can have two names", "a file cannot have two names")
	}
	judgeRenames(s, f)
	switch {
	case !newest:
		s.skip("holes", "%s", older)
	case f.succeeded(stepHole) && !f.HoleFound:
		s.problem("holes", "no-holes", "the probe file has one, and the server does not tell")
	default:
		feature("holes", stepHole, "no-holes", "the server tells where they are", "the server does not tell where they are")
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
		s.ok("renames", "none of them takes what is another's")
	default:
		s.failure("renames", stepRenames, f)
	}
}

func (s *reportBuilder) judgeLocks(f *Facts, m mountResult) {
	local := mount.ValueOf(m.Super, "local_lock")
	switch {
	case f.Failures[stepLock].TimedOut && f.LockdError != "":
		s.problem("locks", "no-locks", "none was given within %s, and the lock service does not answer: %s", stepTimeout, f.LockdError)
	case f.Failures[stepLock].TimedOut:
		s.problem("locks", "grace", "none was given within %s, and the server answers all else", stepTimeout)
	case f.Failures[stepLock].Message != "":
		s.problem("locks", "no-locks", "%s", f.Failures[stepLock].Message)
	case !f.succeeded(stepLock):
		s.failure("locks", stepLock, f)
	case local == "all" || local == "posix":
		s.problem("locks", "local", "the server is not asked for them (nolock)")
	default:
		s.ok("locks", "one was taken and given back")
	}
}

// copyOutcome says of two answers of one step that they are there when it is.
func (f *Facts) copyOutcome(step string, answers ...string) {
	for _, a := range answers {
		if f.succeeded(step) {
			f.Done = append(f.Done, a)
		} else if failure, failed := f.Failures[step]; failed {
			f.Failures[a] = failure
		}
	}
}

// isUnsupported reports whether a failure says that something cannot be had, and nothing else.
func isUnsupported(f Failure) bool {
	switch f.Errno {
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EINVAL, unix.EBADF, unix.EPERM, unix.EACCES, unix.ENODATA:
		return true
	}
	return false
}

// formatDuration writes a duration in three digits or so.
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

// formatSize writes bytes as df -h does.
func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v < 10 && i > 0 {
		return fmt.Sprintf("%.1f %s", v, units[i])
	}
	return fmt.Sprintf("%.0f %s", v, units[i])
}
