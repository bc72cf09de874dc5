// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Thresholds of the findings.
const (
	skewWarn    = 30 * time.Second
	skewFail    = 5 * time.Minute // the skew that package share tolerates
	latencyWarn = 20 * time.Millisecond
	freeWarn    = 0.10
	freeFail    = 0.01
)

// Reasons to skip a check.
const (
	notExported = "it is not exported to this machine"
	notMounted  = "the path cannot be mounted"
)

// findExport returns the innermost export that contains a path.
func findExport(exports []probe.Export, p string) (probe.Export, bool) {
	var best probe.Export
	for _, e := range exports {
		root := path.Clean(e.Path)
		inside := p == root || strings.HasPrefix(p, strings.TrimSuffix(root, "/")+"/")
		if inside && len(e.Path) > len(best.Path) {
			best = e
		}
	}
	return best, best.Path != ""
}

// describeExports lists a server's exports in one line.
func describeExports(exports []probe.Export) string {
	if len(exports) == 0 {
		return "the server exports nothing"
	}
	var paths []string
	for _, e := range exports {
		paths = append(paths, e.Path)
	}
	slices.Sort(paths)
	more := ""
	if n := len(paths) - 10; n > 0 {
		paths, more = paths[:10], fmt.Sprintf(" and %d more", n)
	}
	return "the server exports " + strings.Join(paths, ", ") + more
}

func describeClients(e probe.Export) string {
	if len(e.Clients) == 0 {
		return "all clients"
	}
	return strings.Join(e.Clients, ", ")
}

// judgeExport looks the path up in the server's list of exports, if the list is known. A
// successful mount overrules the list.
func (c *serverCheck) judgeExport() {
	if !c.exportsKnown || c.has("exported") {
		return
	}
	e, covered := findExport(c.exports, c.share.def.Path)
	switch {
	case covered && e.Path == c.share.def.Path:
		c.ok("exported", "to %s", describeClients(e))
	case covered:
		c.ok("exported", "it is inside %s, which is exported to %s", e.Path, describeClients(e))
	case c.mount.Super != nil: // fsid=0, or a server that does not list all exports
		c.ok("exported", "it is not in the server's list, but it can be mounted")
	default:
		c.problem("exported", "not-exported", "%s is not exported: %s", c.share.def.Path, describeExports(c.exports))
	}
}

// judgeMount reports the result of the mount, under the check that its cause belongs to.
func (c *serverCheck) judgeMount(a answer) {
	if c.mount.Error == "" {
		c.judgeExport()
		if !c.judgeRoot(a) {
			c.ok("path", "%s is a directory", c.share.def.Path)
		}
		c.ok("mounts", "with NFS %s, in %s", c.mount.version(), formatDuration(c.mount.Took))
		return
	}
	cause := c.mount.Cause
	// Without a version in the options, mount.nfs falls back to NFSv3 and reports the error of that.
	if newest := a.Versions["4.2"]; cause == mount.NoStatd && !c.share.wantsV3() && newest.Error != "" {
		cause = newest.Cause
	}
	e, covered := findExport(c.exports, c.share.def.Path)
	switch {
	case c.exportsKnown && !covered && slices.Contains([]mount.Cause{mount.Denied, mount.NoPath, mount.NoContext, mount.NoHandshake}, cause):
		c.judgeExport()
		c.skip("path", "%s", notExported)
	case c.exportsKnown && covered && cause == mount.Denied:
		c.problem("exported", "not-to-us", "%s is exported to %s, but the server refuses this machine: %s", e.Path, describeClients(e), c.mount.Error)
		c.skip("path", "%s", notExported)
	case cause == mount.NoPath:
		c.judgeExport()
		if c.judgeRoot(a) {
			break
		}
		c.problem("path", "no-path", "the server has no %s: %s", c.share.def.Path, c.mount.Error)
	case cause == mount.NotDirectory:
		c.judgeExport()
		c.problem("path", "not-directory", "%s is not a directory: %s", c.share.def.Path, c.mount.Error)
	default:
		c.judgeExport()
		id := string(cause)
		if !slices.ContainsFunc(mountProblems(), func(t Problem) bool { return t.Cause == id }) {
			id = "failed"
		}
		c.problem("mounts", id, "%s", c.mount.Error)
		c.skip("path", "unknown until it can be mounted")
		return
	}
	c.skip("mounts", "%s", notMounted)
}

// judgeOverlap reports whether a share overlaps with a registered one.
func (s *reportBuilder) judgeOverlap(def volume.Share, nested func(volume.Share) error) {
	if nested == nil {
		s.skip("apart", "there is no configuration with other shares")
		return
	}
	if err := nested(def); err != nil {
		s.problem("apart", "nested", "%v", err)
		return
	}
	s.ok("apart", "no registered share is inside it or contains it")
}

// judgeVersions reports the versions with which the share can be mounted.
func (c *serverCheck) judgeVersions(a answer) {
	var works, not, untried []string
	for _, v := range versions() {
		switch m, tried := a.Versions[v]; {
		case !tried:
			untried = append(untried, v)
		case m.Error == "":
			works = append(works, v)
		default:
			not = append(not, v)
		}
	}
	switch {
	case works == nil && c.mount.Super != nil:
		c.skip("versions", "the server did not answer a second mount in time")
		return
	case works == nil:
		c.skip("versions", "%s", notMounted)
		return
	}
	detail := joinWords(works)
	if not != nil {
		detail += ", not " + joinWords(not)
	}
	if untried != nil {
		detail += "; " + joinWords(untried) + " was not tried"
	}
	switch {
	case onlyV3HasPath(a.Versions):
		detail := fmt.Sprintf("3; with %s the path does not exist", joinWords(versionsWithoutPath(a.Versions)))
		if a.V4Path != "" {
			detail = fmt.Sprintf("3; with %s the path is %s", joinWords(versionsWithoutPath(a.Versions)), a.V4Path)
		}
		c.ok("versions", "%s", detail)
	case slices.Contains(works, "4.2"):
		if now := c.mount.version(); now != "" && now != "4.2" {
			detail += fmt.Sprintf("; it is mounted with %s, so CLONE, COPY, attributes and holes are not used", now)
		}
		c.ok("versions", "%s", detail)
	case len(works) == 1 && works[0] == "3":
		c.problem("versions", "only-3", "%s", detail)
	default:
		c.problem("versions", "no-4.2", "%s", detail)
	}
}

func joinWords(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// judgeFacts reports the results of a trial of a share with this mount.
func (s *reportBuilder) judgeFacts(f *Facts, m mountResult) {
	if _, failed := f.Failures[stepOpen]; failed {
		s.failure("writable", stepOpen, f)
		s.skipRemaining(shareChecks(), "the root directory of the share cannot be opened")
		return
	}
	s.judgeIdentity(f)
	s.judgeSpace(f)
	if f.succeeded(stepLatency) {
		detail := fmt.Sprintf("%s for a round trip", formatDuration(f.Latency))
		if f.Latency > latencyWarn {
			s.problem("latency", "slow", "%s", detail)
		} else {
			s.ok("latency", "%s", detail)
		}
	} else {
		s.failure("latency", stepLatency, f)
	}
	if !f.succeeded(stepWrite) {
		s.judgeRefusal(f)
		s.skipRemaining(shareChecks(), "nothing can be written")
		return
	}
	detail := "a file was created, written, synced and removed"
	if f.Swept > 0 {
		detail += fmt.Sprintf("; %d files of an earlier doctor were removed", f.Swept)
	}
	if failure, failed := f.Failures[stepClose]; failed {
		s.problem("writable", "failed", "the probe file could not be removed: %s", failure.Message)
	} else {
		s.ok("writable", "%s", detail)
	}
	s.judgeOwners(f, m)
	s.judgeClock(f.Skew)
	judgeTimes(s, f, m)
	s.judgeFeatures(f, m)
	s.skipRemaining(shareChecks(), "no time was left: the server is too slow")
}

// failure reports a step that failed with an error that does not answer the check's question.
func (s *reportBuilder) failure(id, step string, f *Facts) {
	failure, failed := f.Failures[step]
	switch {
	case !failed:
		s.skip(id, "no time was left: the server is too slow")
	case failure.TimedOut:
		s.problem(id, "late", "%s", failure.Message)
	case failure.Errno == unix.EIO:
		s.problem(id, "disk-failed", "%s", failure.Message)
	case failure.Errno == unix.EREMOTEIO:
		s.problem(id, "unknown-error", "%s", failure.Message)
	default:
		s.problem(id, "failed", "%s", failure.Message)
	}
}

// judgeRefusal reports why the probe file could not be written.
func (s *reportBuilder) judgeRefusal(f *Facts) {
	failure := f.Failures[stepWrite]
	cause := ""
	switch failure.Errno {
	case unix.EROFS:
		cause = "read-only"
	case unix.EACCES, unix.EPERM:
		cause = "not-allowed"
	case unix.ENOSPC:
		cause = "full"
		if f.succeeded(stepSpace) && f.Space.InodesKnown() && f.Space.InodesFree == 0 {
			cause = "no-inodes"
		}
	case unix.EDQUOT:
		cause = "quota"
	}
	if cause == "" {
		s.failure("writable", stepWrite, f)
		return
	}
	s.problem("writable", cause, "%s cannot write a file: %v", userName(f.UID), failure.Errno)
}

func (s *reportBuilder) judgeSpace(f *Facts) {
	if !f.succeeded(stepSpace) {
		s.failure("space", stepSpace, f)
		s.skip("inodes", "unknown")
		return
	}
	check := func(id, worst string, free, total int64, detail string) {
		switch part := float64(free) / float64(max(total, 1)); {
		case part < freeFail:
			s.problem(id, worst, "%s", detail)
		case part < freeWarn:
			s.problem(id, "low", "%s", detail)
		default:
			s.ok(id, "%s", detail)
		}
	}
	if f.Space.Known() {
		check("space", "full", f.Space.Free, f.Space.Total, fmt.Sprintf("%s of %s are free", volume.FormatBytes(f.Space.Free), volume.FormatBytes(f.Space.Total)))
	} else {
		s.skip("space", "the server does not report it")
	}
	if !f.Space.InodesKnown() {
		s.ok("inodes", "the server does not report them")
		return
	}
	check("inodes", "none", f.Space.InodesFree, f.Space.Inodes, fmt.Sprintf("%d of %d are free", f.Space.InodesFree, f.Space.Inodes))
}

func (s *reportBuilder) judgeOwners(f *Facts, m mountResult) {
	kerberos := mount.UsesKerberos(m.Super)
	switch {
	case !f.succeeded(stepOwner):
		s.failure("root", stepOwner, f)
		return
	case f.Owner[0] == unmappedID && f.usesNames():
		s.skip("root", "unknown: this machine cannot translate the names of owners")
		s.problem("owners", "no-idmapper", "files that %s creates appear as owned by user %d", userName(f.UID), f.Owner[0])
		return
	case f.Owner[0] != f.UID && kerberos:
		s.problem("root", "not-root-by-name", "files that %s creates belong to user %d", userName(f.UID), f.Owner[0])
		s.skip("owners", "root is mapped to another user")
		return
	case f.Owner[0] != f.UID && f.Squashed:
		s.problem("root", "all-squashed", "files that any user creates belong to user %d", f.Owner[0])
		s.skip("owners", "all users are mapped to that user")
		return
	case f.Owner[0] != f.UID && !f.usesNames():
		s.problem("root", "squashed", "files that %s creates belong to user %d", userName(f.UID), f.Owner[0])
		s.skip("owners", "root is mapped to another user")
		return
	case f.Owner[0] != f.UID:
		s.skip("root", "unknown: owners are not kept")
	default:
		s.ok("root", "files that %s creates belong to %[1]s", userName(f.UID))
	}
	switch {
	case f.usesNames():
		judgeNames(s, f, kerberos)
	case f.succeeded(stepOwn):
		s.ok("owners", "after a chown to %d:%d the owner is %d:%d", testUID, testGID, f.NewOwner[0], f.NewOwner[1])
	case f.Failures[stepOwn].Errno == unix.EPERM || f.Failures[stepOwn].Errno == unix.EACCES:
		s.problem("owners", "refused", "%s", f.Failures[stepOwn].Message)
	default:
		s.failure("owners", stepOwn, f)
	}
}

// judgeNames reports whether a user with a name on both sides keeps its number.
func judgeNames(s *reportBuilder, f *Facts, kerberos bool) {
	detail := fmt.Sprintf("the server rejects the owner %d:%d", testUID, testGID)
	if f.succeeded(stepOwn) {
		detail = fmt.Sprintf("after a chown to %d:%d the owner is %d:%d", testUID, testGID, f.NewOwner[0], f.NewOwner[1])
	}
	named := f.succeeded(stepNamed) && f.NamedOwner == [2]uint32{namedID, namedID}
	switch {
	case !kerberos:
		s.problem("owners", "mapped", "%s", detail)
	case named:
		s.ok("owners", "by name, because of Kerberos: %s, but %d:%[2]d, which has a name, is kept", detail, namedID)
	default:
		s.problem("owners", "unnamed", "%s, and %d:%[2]d, which has a name, is not kept", detail, namedID)
	}
}

// userName returns "root" or "user N".
func userName(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	return fmt.Sprintf("user %d", uid)
}

func (s *reportBuilder) judgeClock(skew time.Duration) {
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}
	detail := fmt.Sprintf("the server's clock is %s %s this machine's", formatDuration(skew.Abs()), direction)
	switch {
	case skew.Abs() > skewFail:
		s.problem("clock", "far-off", "%s", detail)
	case skew.Abs() > skewWarn:
		s.problem("clock", "off", "%s", detail)
	case skew.Abs() < time.Second:
		s.ok("clock", "the same as this machine's")
	default:
		s.ok("clock", "%s", detail)
	}
}
