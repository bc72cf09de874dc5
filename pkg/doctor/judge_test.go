// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// wellFacts returns the facts of a trial as root of a share without problems.
func wellFacts() *Facts {
	return &Facts{
		Done: []string{stepOpen, stepFormat, stepSpace, stepLatency, stepWrite, stepOwner, stepCopies, stepAttribute, stepACL, stepLink,
			stepHole, stepTimes, stepLock, stepOwn, stepRenames, stepSweep, stepClose},
		Failures: map[string]Failure{},
		ID:       "an-id", LaidOut: true,
		Space:   volume.Space{Total: 1000, Free: 500, Inodes: 1000, InodesFree: 500},
		Latency: time.Millisecond, NewOwner: [2]uint32{testUID, testGID}, ACL: "system.nfs4_acl", HoleFound: true,
	}
}

func by(version string) mountResult {
	return mountResult{Super: []string{"rw", "vers=" + version, "local_lock=none"}}
}

func withKerberos() mountResult { return mountResult{Super: []string{"rw", "vers=4.2", "sec=krb5p"}} }

// outcome returns "status cause" of all findings that are not OK, by check.
func outcome(all []Finding) map[string]string {
	m := map[string]string{}
	for _, f := range all {
		if f.Status != OK {
			m[f.Check] = strings.TrimSpace(string(f.Status) + " " + f.Cause)
		}
	}
	return m
}

func fails(step string, err error) func(*Facts) {
	return func(f *Facts) { f.addFailure(step, err) }
}

func late(step string) func(*Facts) {
	return func(f *Facts) { f.Failures[step] = Failure{Message: "no answer", TimedOut: true} }
}

func TestJudge(t *testing.T) {
	skips := func(first string, more ...string) map[string]string { // all checks that need the probe file
		m := map[string]string{"writable": first}
		for _, id := range []string{"root", "owners", "clone", "copy", "xattr", "acl", "links", "renames", "holes", "locks", "clock", "times"} {
			m[id] = "skip"
		}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	old := map[string]string{"clone": "skip", "copy": "skip", "xattr": "skip", "holes": "skip"}
	for _, c := range []struct {
		name   string
		change func(*Facts)
		mount  mountResult
		want   map[string]string
	}{
		{"well", func(*Facts) {}, by("4.2"), nil},
		{"well by 4.1", func(f *Facts) { f.addFailure(stepAttribute, unix.EOPNOTSUPP); f.HoleFound = false }, by("4.1"), old},
		{"the right one", func(f *Facts) { f.Expected = f.ID }, by("4.2"), nil},
		{"not laid out", func(f *Facts) { f.ID, f.LaidOut = "", false }, by("4.2"), nil},
		{"not laid out any more", func(f *Facts) { f.ID, f.LaidOut, f.Expected = "", false, "id" }, by("4.2"), map[string]string{"identity": "fail not-laid-out"}},
		{"another share", func(f *Facts) { f.Expected = "id" }, by("4.2"), map[string]string{"identity": "fail another-share"}},
		{"no id", func(f *Facts) { f.ID = "" }, by("4.2"), map[string]string{"identity": "warn no-id"}},
		{"no id, and one is expected", func(f *Facts) { f.ID, f.Expected = "", "id" }, by("4.2"), map[string]string{"identity": "fail another-share"}},
		{"damaged format", fails(stepFormat, errors.New("damaged")), by("4.2"), map[string]string{"identity": "fail failed"}},
		{"read-only", fails(stepWrite, unix.EROFS), by("4.2"), skips("fail read-only")},
		{"closed", fails(stepWrite, unix.EACCES), by("4.2"), skips("fail not-allowed")},
		{"stale at once", fails(stepOpen, unix.ESTALE), by("4.2"), skips("fail failed", "identity", "skip", "latency", "skip", "space", "skip", "inodes", "skip")},
		{"full", func(f *Facts) { f.addFailure(stepWrite, unix.ENOSPC); f.Space.Free = 0 }, by("4.2"), skips("fail full", "space", "fail full")},
		{"no inodes", func(f *Facts) { f.addFailure(stepWrite, unix.ENOSPC); f.Space.InodesFree = 0 }, by("4.2"), skips("fail no-inodes", "inodes", "fail none")},
		{"quota", fails(stepWrite, unix.EDQUOT), by("4.2"), skips("fail quota")},
		{"no disk", fails(stepWrite, unix.EIO), by("4.2"), skips("fail disk-failed")},
		{"no disk to ask", fails(stepSpace, unix.EIO), by("4.2"), map[string]string{"space": "fail disk-failed", "inodes": "skip"}},
		{"an error that the client does not know", fails(stepWrite, unix.EREMOTEIO), by("4.2"), skips("fail unknown-error")},
		{"the same at once", fails(stepOpen, unix.EREMOTEIO), by("4.2"), skips("fail unknown-error", "identity", "skip", "latency", "skip", "space", "skip", "inodes", "skip")},
		{"grace", late(stepWrite), by("4.2"), skips("fail late")},
		{"not removed", fails(stepClose, unix.EACCES), by("4.2"), map[string]string{"writable": "fail failed"}},
		{"squashed", func(f *Facts) { f.Owner = [2]uint32{65534, 65534}; f.addFailure(stepOwn, unix.EPERM) }, by("4.2"), map[string]string{"root": "warn squashed", "owners": "skip"}},
		{"everybody squashed", func(f *Facts) {
			f.Owner, f.Squashed = [2]uint32{1000, 1000}, true
			f.addFailure(stepOwn, unix.EPERM)
		}, by("4.2"), map[string]string{"root": "warn all-squashed", "owners": "skip"}},
		{"as another user", func(f *Facts) { f.UID, f.Owner[0] = 1000, 1000; f.addFailure(stepOwn, unix.EPERM) }, by("4.2"), map[string]string{"owners": "warn refused"}},
		{"other domain", func(f *Facts) { f.NewOwner = [2]uint32{65534, 65534} }, by("4.2"), map[string]string{"owners": "warn mapped"}},
		{"other domain, for root too", func(f *Facts) { f.Owner, f.NewOwner = [2]uint32{65534, 65534}, [2]uint32{65534, 65534} }, by("4.2"), map[string]string{"root": "skip", "owners": "warn mapped"}},
		{"bad owner", fails(stepOwn, unix.EINVAL), by("4.2"), map[string]string{"owners": "warn mapped"}},
		{"by name", func(f *Facts) {
			f.addFailure(stepOwn, unix.EINVAL)
			f.Done, f.NamedOwner = append(f.Done, stepNamed), [2]uint32{namedID, namedID}
		}, withKerberos(), nil},
		{"other domain, with Kerberos", func(f *Facts) { f.addFailure(stepOwn, unix.EINVAL); f.addFailure(stepNamed, unix.EINVAL) }, withKerberos(), map[string]string{"owners": "warn unnamed"}},
		{"nobody, with Kerberos", func(f *Facts) { f.Owner = [2]uint32{65534, 65534}; f.addFailure(stepOwn, unix.EINVAL) }, withKerberos(), map[string]string{"root": "warn not-root-by-name", "owners": "skip"}},
		{"no idmapper", func(f *Facts) { f.Owner = [2]uint32{unmappedID, unmappedID}; f.addFailure(stepOwn, unix.EINVAL) }, withKerberos(), map[string]string{"root": "skip", "owners": "warn no-idmapper"}},
		{"no clone", fails(stepClone, unix.EOPNOTSUPP), by("4.2"), map[string]string{"clone": "warn no-clone"}},
		{"clone, and no copy", fails(stepCopy, unix.EOPNOTSUPP), by("4.2"), nil},
		{"neither", func(f *Facts) { f.addFailure(stepClone, unix.ENOTTY); f.addFailure(stepCopy, unix.EXDEV) }, by("4.2"), map[string]string{"clone": "warn no-clone", "copy": "warn no-copy"}},
		{"no file to copy to", fails(stepCopies, unix.ENOSPC), by("4.2"), map[string]string{"clone": "fail failed", "copy": "fail failed"}},
		{"bare", func(f *Facts) {
			for _, step := range []string{stepAttribute, stepACL, stepLink} {
				f.addFailure(step, unix.EOPNOTSUPP)
			}
			f.HoleFound = false
		}, by("4.2"), map[string]string{"xattr": "warn no-xattr", "acl": "warn no-acl", "links": "warn no-links", "holes": "warn no-holes"}},
		{"links fail, and nothing else", fails(stepLink, unix.EIO), by("4.2"), map[string]string{"links": "warn no-links"}},
		{"links fail, and all else", func(f *Facts) { f.addFailure(stepLink, unix.EIO); f.addFailure(stepOwn, unix.EIO) }, by("4.2"), map[string]string{"links": "fail disk-failed", "owners": "fail disk-failed"}},
		{"a late rename", func(f *Facts) { f.Violations = []string{"a directory was renamed over a file"} }, by("4.2"), map[string]string{"renames": "fail wrong"}},
		{"mounted once", func(f *Facts) { f.NoRenames = "it is mounted already" }, by("4.2"), map[string]string{"renames": "skip"}},
		{"renames late", late(stepRenames), by("4.2"), map[string]string{"renames": "fail late"}},
		{"odd attributes", fails(stepAttribute, errors.New(`"x" came back`)), by("4.2"), map[string]string{"xattr": "fail failed"}},
		{"no locks", fails(stepLock, unix.ENOLCK), by("3"), with(old, "locks", "fail no-locks")},
		{"locks late", late(stepLock), by("3"), with(old, "locks", "warn grace")},
		{"no lock service", func(f *Facts) { late(stepLock)(f); f.LockdError = "connection refused" }, by("3"), with(old, "locks", "fail no-locks")},
		{"local locks", func(*Facts) {}, mountResult{Super: []string{"vers=3", "local_lock=all"}}, with(old, "locks", "warn local")},
		{"ahead", func(f *Facts) { f.Skew = 29 * time.Second }, by("4.2"), nil},
		{"more ahead", func(f *Facts) { f.Skew = 31 * time.Second }, by("4.2"), map[string]string{"clock": "warn off"}},
		{"behind", func(f *Facts) { f.Skew = -31 * time.Second }, by("4.2"), map[string]string{"clock": "warn off"}},
		{"far behind", func(f *Facts) { f.Skew = -time.Hour }, by("4.2"), map[string]string{"clock": "fail far-off"}},
		{"times of the server's own", func(f *Facts) { f.Times.Offset = 600 }, by("3"), with(old, "times", "warn not-kept")},
		{"times that are lost with a delegation", func(f *Facts) { f.Times = Times{DelegatedOffset: 601, OtherClient: true} }, by("4.2"), map[string]string{"times": "warn delegated"}},
		{"times that may not be set", fails(stepTimes, unix.EPERM), by("4.2"), map[string]string{"times": "fail failed"}},
		{"slow", func(f *Facts) { f.Latency = 21 * time.Millisecond }, by("4.2"), map[string]string{"latency": "warn slow"}},
		{"filling", func(f *Facts) { f.Space.Free, f.Space.InodesFree = 99, 99 }, by("4.2"), map[string]string{"space": "warn low", "inodes": "warn low"}},
		{"just enough", func(f *Facts) { f.Space.Free, f.Space.InodesFree = 100, 100 }, by("4.2"), nil},
		{"nearly full", func(f *Facts) { f.Space.Free, f.Space.InodesFree = 9, 9 }, by("4.2"), map[string]string{"space": "fail full", "inodes": "fail none"}},
		{"space without number", func(f *Facts) { f.Space.Total, f.Space.Free = 0, 0 }, by("4.2"), map[string]string{"space": "skip"}},
		{"inodes without number", func(f *Facts) { f.Space.Inodes, f.Space.InodesFree = 0, 0 }, by("4.2"), nil},
		{"too slow for all", func(f *Facts) { f.Done = []string{stepOpen, stepSpace, stepWrite, stepOwner, stepClose} }, by("4.2"),
			map[string]string{"owners": "skip", "clone": "skip", "copy": "skip", "xattr": "skip", "acl": "skip", "links": "skip", "renames": "skip", "holes": "skip", "locks": "skip", "times": "skip", "latency": "skip", "identity": "skip"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := wellFacts()
			c.change(f)
			var s reportBuilder
			s.judgeOverlap(volume.Share{}, func(volume.Share) error { return nil })
			s.judgeFacts(f, c.mount)
			if got, want := outcome(s.all), with(c.want); !maps.Equal(got, want) {
				t.Errorf("got\n%v, want\n%v", got, want)
			}
			if len(s.all) != len(shareChecks()) {
				t.Errorf("got %d findings for %d checks", len(s.all), len(shareChecks()))
			}
			for i, f := range s.all {
				if f.Check != shareChecks()[i].ID || f.Detail == "" {
					t.Errorf("finding %d is %+v", i, f)
				}
			}
		})
	}
}

// with returns a copy of m with more pairs.
func with(m map[string]string, more ...string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, m)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

func TestJudgeMount(t *testing.T) {
	all := []probe.Export{{Path: "/", Clients: nil}}
	ours := []probe.Export{{Path: "/export", Clients: []string{"10.0.0.0/24"}}, {Path: "/other"}}
	theirs := []probe.Export{{Path: "/exports"}, {Path: "/other"}}
	failed := func(cause mount.Cause) mountResult { return mountResult{Cause: cause, Error: "as mount says"} }
	works := map[string]mountResult{"3": by("3"), "4.0": by("4.0"), "4.1": by("4.1"), "4.2": by("4.2")}
	pathBy3 := map[string]mountResult{"3": by("3"), "4.0": failed(mount.NoVersion), "4.1": failed(mount.NoPath), "4.2": failed(mount.NoPath)}
	for _, c := range []struct {
		name      string
		exports   []probe.Export
		unlisted  bool
		options   []string
		mount     mountResult
		byVersion map[string]mountResult
		want      map[string]string
		says      string
		v4path    string
	}{
		{"well", ours, false, nil, by("4.2"), works, nil, "3, 4.0, 4.1 and 4.2", ""},
		{"beneath an export", all, false, nil, by("4.2"), works, nil, "it is inside /, which is exported to all clients", ""},
		{"beneath a root of fsid=0", theirs, false, nil, by("4.2"), works, nil, "but it can be mounted", ""},
		{"by less", ours, false, []string{"nfsvers=3"}, by("3"), works, nil, "it is mounted with 3", ""},
		{"only 3", ours, false, nil, by("3"), map[string]mountResult{"3": by("3"), "4.0": failed(mount.NoVersion), "4.1": failed(mount.NoVersion), "4.2": failed(mount.NoVersion)}, map[string]string{"versions": "warn only-3"}, "3, not 4.0, 4.1 and 4.2", ""},
		{"another root for NFS 4", ours, false, nil, by("3"), pathBy3, map[string]string{"path": "fail other-root"}, "with NFS 4 it is /kubernetes: the server's NFSv4 root is /export", "/kubernetes"},
		{"the path is the root for NFS 4", ours, false, nil, by("3"), pathBy3, map[string]string{"path": "fail other-root"}, "with NFS 4 it is /: the server's NFSv4 root is /export/kubernetes", "/"},
		{"another root, and asked for 4.2", ours, false, []string{"nfsvers=4.2"}, failed(mount.NoPath), pathBy3, map[string]string{"path": "fail other-root", "mounts": "skip"}, "with NFS 4 it is /:", "/"},
		{"another root, and asked for 3", ours, false, []string{"nfsvers=3"}, by("3"), pathBy3, nil, "3; with 4.1 and 4.2 the path is /kubernetes", "/kubernetes"},
		{"another path for NFS 4", ours, false, nil, by("3"), pathBy3, map[string]string{"path": "fail other-path"}, "NFS 3 finds /export/kubernetes, NFS 4 does not", ""},
		{"no 4.2", ours, false, nil, by("4.1"), map[string]mountResult{"4.0": by("4.0"), "4.1": by("4.1"), "4.2": failed(mount.NoVersion)}, map[string]string{"versions": "warn no-4.2"}, "not 4.2; 3 was not tried", ""},
		{"not exported", theirs, false, nil, failed(mount.NoPath), nil, map[string]string{"exported": "fail not-exported", "path": "skip", "mounts": "skip", "versions": "skip"}, "/exports, /other", ""},
		{"not exported, by 3", theirs, false, nil, failed(mount.Denied), nil, map[string]string{"exported": "fail not-exported", "path": "skip", "mounts": "skip", "versions": "skip"}, "/exports, /other", ""},
		{"nothing exported", nil, false, nil, failed(mount.Denied), nil, map[string]string{"exported": "fail not-exported", "path": "skip", "mounts": "skip", "versions": "skip"}, "exports nothing", ""},
		{"to others", ours, false, nil, failed(mount.Denied), nil, map[string]string{"exported": "fail not-to-us", "path": "skip", "mounts": "skip", "versions": "skip"}, "10.0.0.0/24", ""},
		{"wrong path", ours, false, nil, failed(mount.NoPath), nil, map[string]string{"path": "fail no-path", "mounts": "skip", "versions": "skip"}, "no /export/kubernetes", ""},
		{"a file", ours, false, nil, failed(mount.NotDirectory), nil, map[string]string{"path": "fail not-directory", "mounts": "skip", "versions": "skip"}, "is not a directory", ""},
		{"no list, wrong path", nil, true, nil, failed(mount.NoPath), nil, map[string]string{"exported": "skip", "path": "fail no-path", "mounts": "skip", "versions": "skip"}, "", ""},
		{"no list, denied", nil, true, nil, failed(mount.Denied), nil, map[string]string{"exported": "skip", "path": "skip", "mounts": "fail denied", "versions": "skip"}, "", ""},
		{"no statd", ours, false, []string{"nfsvers=3"}, failed(mount.NoStatd), works, map[string]string{"path": "skip", "mounts": "fail no-statd"}, "", ""},
		{"no statd, for a path that is wrong by 4.2", ours, false, nil, failed(mount.NoStatd), map[string]mountResult{"4.2": failed(mount.NoPath)}, map[string]string{"path": "fail no-path", "mounts": "skip", "versions": "skip"}, "", ""},
		{"asked for 4.2", ours, false, []string{"vers=4.2"}, failed(mount.NoVersion), map[string]mountResult{"3": by("3")}, map[string]string{"path": "skip", "mounts": "fail no-version", "versions": "warn only-3"}, "", ""},
		{"odd", ours, false, nil, failed(""), works, map[string]string{"path": "skip", "mounts": "fail failed"}, "as mount says", ""},
		{"died just now", ours, false, nil, failed(mount.Refused), works, map[string]string{"path": "skip", "mounts": "fail failed"}, "as mount says", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &shareCheck{d: &Doctor{}, def: volume.Share{Name: "nas1", Servers: []string{"nas"}, Path: "/export/kubernetes", MountOptions: c.options}}
			sc := &serverCheck{share: v, host: "nas", exports: c.exports, exportsKnown: !c.unlisted, mount: c.mount}
			for _, id := range []string{"resolves", "answers", "rpcbind"} {
				sc.ok(id, "well")
			}
			sc.judgeMount(answer{Versions: c.byVersion, V4Path: c.v4path})
			sc.judgeVersions(answer{Versions: c.byVersion, V4Path: c.v4path})
			sc.skipRemaining(serverChecks(), "not known")
			if got, want := outcome(sc.all), with(c.want); !maps.Equal(got, want) {
				t.Errorf("got\n%v, want\n%v", got, want)
			}
			text := ""
			for _, f := range sc.all {
				text += f.Detail + "\n"
			}
			if !strings.Contains(text, c.says) || len(sc.all) != len(serverChecks()) {
				t.Errorf("the details do not have %q:\n%s", c.says, text)
			}
		})
	}
}

func TestNode(t *testing.T) {
	refused := errors.New("connection refused")
	for _, c := range []struct {
		name        string
		filesystems string
		mounted     bool
		causes      []mount.Cause
		locks       bool
		statd       error
		want        map[string]string
	}{
		{"well", "nodev\tnfs\nnodev\tnfs4\n", true, nil, true, nil, nil},
		{"no NFSv3", "nodev\tnfs4\n", true, nil, false, refused, map[string]string{"statd": "skip"}},
		{"a container", "nodev\tnfsd\n\text4\n", true, nil, false, nil, map[string]string{"statd": "skip"}},
		{"no module so far", "\text4\n", false, nil, false, nil, map[string]string{"kernel": "warn not-loaded", "statd": "skip"}},
		{"no module", "\text4\n", false, []mount.Cause{mount.NoKernel}, false, nil, map[string]string{"kernel": "fail no-kernel", "statd": "skip"}},
		{"no rpcbind", "nodev\tnfs\n", true, nil, true, refused, map[string]string{"statd": "fail no-statd"}},
		{"no statd", "nodev\tnfs\n", true, nil, true, probe.ErrNotRegistered, map[string]string{"statd": "fail no-statd"}},
	} {
		var s reportBuilder
		s.judgeKernel(c.filesystems, c.mounted, c.causes)
		s.judgeStatd(c.locks, func() error { return c.statd })
		if got := outcome(s.all); !maps.Equal(got, with(c.want)) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	var s reportBuilder
	s.judgeClient([]string{"/nowhere", t.TempDir()})
	if got := outcome(s.all); !maps.Equal(got, map[string]string{"client": "fail no-program"}) {
		t.Errorf("without mount.nfs: got %v", got)
	}
}

func TestNeedsStatd(t *testing.T) {
	for _, c := range []struct {
		options []string
		mounts  []mountResult
		causes  []mount.Cause
		want    bool
	}{
		{nil, []mountResult{by("4.2")}, nil, false},
		{nil, []mountResult{by("3")}, nil, true},
		{[]string{"nolock"}, []mountResult{by("3")}, nil, false},
		{[]string{"vers=3"}, nil, nil, true},
		{nil, nil, []mount.Cause{mount.NoStatd}, true},
		{nil, nil, []mount.Cause{mount.Denied}, false},
	} {
		v := &shareCheck{def: volume.Share{MountOptions: c.options}, mounts: c.mounts, causes: c.causes}
		if got := v.needsStatd(); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

// TestStepTimeout runs a step that does not end: later steps must not run, and the step must not
// change the facts when it ends.
func TestStepTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits as long as a step may take")
	}
	r := &trial{until: time.Now().Add(time.Hour), facts: &Facts{Failures: map[string]Failure{}}}
	release, done := make(chan struct{}), make(chan struct{})
	r.step("first", func(f *Facts) error { f.Swept = 1; return unix.EIO })
	r.step("second", func(f *Facts) error { defer close(done); <-release; f.Swept = 2; return nil })
	r.step("third", func(f *Facts) error { f.Swept = 3; return nil })
	close(release)
	<-done
	f := r.facts
	if f.Swept != 1 || !f.Failures["second"].TimedOut || f.succeeded("third") || f.Failures["first"].Errno != unix.EIO {
		t.Errorf("the facts are %+v", f)
	}
}

func TestShellQuote(t *testing.T) {
	for path, want := range map[string]string{"/a/b-1_2.x": "/a/b-1_2.x", "/a b": "'/a b'", "/it's": `'/it'\''s'`, "/$(x)": "'/$(x)'", "/ä": "'/ä'"} {
		if got := shellQuote(path); got != want {
			t.Errorf("shellQuote(%s) is %s, want %s", path, got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{31234 * time.Nanosecond: "30µs", 1234567 * time.Nanosecond: "1.2ms", 3049 * time.Millisecond: "3.05s", time.Hour: "1h0m0s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestJudgeOverlap uses a share without an overlap, one with an overlap, and one without a
// configuration.
func TestJudgeOverlap(t *testing.T) {
	r := &volume.Registry{Shares: []volume.Share{{Name: "nas1", Servers: []string{"nas"}, Path: "/a"}}}
	inner := volume.Share{Name: "nas:/a/b", Servers: []string{"nas"}, Path: "/a/b"}
	for _, c := range []struct {
		def    volume.Share
		nested func(volume.Share) error
		want   string
	}{
		{r.Shares[0], r.CheckNested, "ok "}, {inner, r.CheckNested, "warn nested"}, {inner, nil, "skip "},
	} {
		var s reportBuilder
		s.judgeOverlap(c.def, c.nested)
		if got := string(s.all[0].Status) + " " + s.all[0].Cause; len(s.all) != 1 || got != c.want {
			t.Errorf("%s: got %+v, want %q", c.def, s.all, c.want)
		}
	}
}

// TestReportDuplicateIDs uses two shares with the same id, one with another id, and two without an
// id.
func TestReportDuplicateIDs(t *testing.T) {
	var checks []*shareCheck
	for name, id := range map[string]string{"a": "1", "b": "1", "c": "2", "d": "", "e": ""} {
		v := &shareCheck{def: volume.Share{Name: name}, id: id}
		v.findings = []Finding{{Check: "root", Status: OK}, {Check: "identity", Status: OK}}
		checks = append(checks, v)
	}
	reportDuplicateIDs(checks)
	for _, v := range checks {
		got, want := v.findings[1], map[string]string{"a": "the id 1, which b also has", "b": "the id 1, which a also has"}[v.def.Name]
		if got.Check != "identity" || (got.Status == Warn) != (want != "") || got.Detail != want {
			t.Errorf("share %s: %+v", v.def.Name, got)
		}
		if want != "" && (got.Cause != "same-share" || got.Command != "mooringctl share reidentify "+v.def.Name) {
			t.Errorf("share %s: %+v", v.def.Name, got)
		}
	}
}
