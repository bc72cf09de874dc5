// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
)

// checkNode examines this machine. It runs after the shares, because their first mount loads the
// kernel's modules and starts rpc.statd.
func (d *Doctor) checkNode(ctx context.Context, checks []*shareCheck) []Finding {
	var s reportBuilder
	if d.SharesDir != "" {
		const premounted = "not needed: the shares are already mounted"
		s.skip("privilege", premounted)
		s.skip("client", premounted)
	} else {
		s.judgePrivilege()
		s.judgeClient(programDirs())
	}
	filesystems, _ := os.ReadFile("/proc/filesystems")
	var causes []mount.Cause
	var mounts []mountResult
	locks := false
	for _, sc := range checks {
		causes = append(causes, sc.causes...)
		mounts = append(mounts, sc.mounts...)
		locks = locks || sc.needsStatd()
	}
	s.judgeKernel(string(filesystems), len(mounts) > 0, causes)
	s.judgeStatd(locks, func() error {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		return probe.PingStatd(ctx, "127.0.0.1")
	})
	d.checkEncryption(ctx, &s, checks)
	s.skipRemaining(nodeChecks(), "")
	return s.all
}

func (s *reportBuilder) judgePrivilege() {
	if mount.Privileged() {
		s.ok("privilege", "CAP_SYS_ADMIN")
		return
	}
	s.problem("privilege", "no-privilege", "user %d has no CAP_SYS_ADMIN", os.Geteuid())
}

// programDirs returns the directories in which mount(8) looks for mount.nfs, and those of PATH.
func programDirs() []string {
	return append([]string{"/sbin", "/usr/sbin"}, filepath.SplitList(os.Getenv("PATH"))...)
}

func (s *reportBuilder) judgeClient(dirs []string) {
	for _, dir := range dirs {
		path := filepath.Join(dir, "mount.nfs")
		st, err := os.Stat(path)
		if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			continue
		}
		s.ok("client", "%s", path)
		return
	}
	s.problem("client", "no-program", "it is not in %s", strings.Join(slices.Compact(dirs), ":"))
}

// judgeKernel judges the contents of /proc/filesystems.
func (s *reportBuilder) judgeKernel(filesystems string, mounted bool, causes []mount.Cause) {
	var known []string
	for line := range strings.Lines(filesystems) {
		if name := strings.TrimSpace(strings.TrimPrefix(line, "nodev")); name == "nfs" || name == "nfs4" {
			known = append(known, name)
		}
	}
	switch {
	case known != nil:
		s.ok("kernel", "it supports %s", strings.Join(known, " and "))
	case mounted:
		s.ok("kernel", "a mount succeeded")
	case slices.Contains(causes, mount.NoKernel):
		s.problem("kernel", "no-kernel", "/proc/filesystems has no nfs, and a mount failed for this reason")
	default:
		s.problem("kernel", "not-loaded", "/proc/filesystems has no nfs")
	}
}

// wantsV3 reports whether the share's options request NFSv3.
func (sc *shareCheck) wantsV3() bool {
	return slices.ContainsFunc(sc.def.MountOptions, func(o string) bool {
		return o == "v3" || o == "vers=3" || o == "nfsvers=3"
	})
}

// hasFixedPorts reports whether the options of an NFSv3 share set the ports of NFS and mountd, so that
// mount.nfs does not query rpcbind. It needs all of these options (nfs-utils: nfs_probe_bothports).
func (sc *shareCheck) hasFixedPorts() bool {
	isSet := func(name string) bool {
		value := mount.ValueOf(sc.def.MountOptions, name)
		return value != "" && value != "0"
	}
	transport := isSet("proto") || slices.Contains(sc.def.MountOptions, "tcp") || slices.Contains(sc.def.MountOptions, "udp")
	return sc.wantsV3() && transport && isSet("port") && isSet("mountport")
}

// needsNoRpcbind reports whether nothing about an NFSv3 share needs rpcbind on the server; locks need it.
func (sc *shareCheck) needsNoRpcbind() bool {
	return sc.hasFixedPorts() && slices.Contains(sc.def.MountOptions, "nolock")
}

// needsStatd reports whether the share uses, or tried to use, NFSv3 with locks.
func (sc *shareCheck) needsStatd() bool {
	if slices.Contains(sc.def.MountOptions, "nolock") {
		return false
	}
	return sc.wantsV3() || slices.Contains(sc.causes, mount.NoStatd) ||
		slices.ContainsFunc(sc.mounts, func(m mountResult) bool { return m.version() == "3" })
}

func (s *reportBuilder) judgeStatd(wanted bool, ping func() error) {
	if !wanted {
		s.skip("statd", "not needed: no share uses NFSv3")
		return
	}
	switch err := ping(); {
	case err == nil:
		s.ok("statd", "it answers")
	case errors.Is(err, probe.ErrNotRegistered):
		s.problem("statd", "no-statd", "it is not registered with rpcbind here")
	default:
		s.problem("statd", "no-statd", "%s", fmt.Sprint(err))
	}
}
