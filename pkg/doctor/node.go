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

// checkNode examines this machine. It comes last: the first mount loads the kernel's modules, and
// starts rpc.statd.
func (d *Doctor) checkNode(ctx context.Context, visits []*shareCheck) []Finding {
	var s reportBuilder
	given := ""
	if d.SharesDir != "" {
		given = "not needed: the shares are mounted already"
	}
	switch {
	case given != "":
		s.skip("privilege", "%s", given)
		s.skip("client", "%s", given)
	default:
		s.judgePrivilege()
		s.judgeClient(programDirs())
	}
	filesystems, _ := os.ReadFile("/proc/filesystems")
	var causes []mount.Cause
	var mounts []mountResult
	locks := false
	for _, v := range visits {
		causes = append(causes, v.causes...)
		mounts = append(mounts, v.mounts...)
		locks = locks || v.needsStatd()
	}
	s.judgeKernel(string(filesystems), len(mounts) > 0, causes)
	s.judgeStatd(locks, func() error {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		return probe.PingStatd(ctx, "127.0.0.1")
	})
	d.checkEncryption(ctx, &s, visits)
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

// programDirs returns where mount(8) looks for mount.nfs, and where else it may be.
func programDirs() []string {
	return append([]string{"/sbin", "/usr/sbin"}, filepath.SplitList(os.Getenv("PATH"))...)
}

func (s *reportBuilder) judgeClient(dirs []string) {
	for _, dir := range dirs {
		path := filepath.Join(dir, "mount.nfs")
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			s.ok("client", "%s", path)
			return
		}
	}
	s.problem("client", "no-program", "it is not in %s", strings.Join(slices.Compact(dirs), ":"))
}

// judgeKernel judges what /proc/filesystems says.
func (s *reportBuilder) judgeKernel(filesystems string, mounted bool, causes []mount.Cause) {
	var known []string
	for line := range strings.Lines(filesystems) {
		if name := strings.TrimSpace(strings.TrimPrefix(line, "nodev")); name == "nfs" || name == "nfs4" {
			known = append(known, name)
		}
	}
	switch {
	case known != nil:
		s.ok("kernel", "it knows %s", strings.Join(known, " and "))
	case mounted:
		s.ok("kernel", "it mounts NFS")
	case slices.Contains(causes, mount.NoKernel):
		s.problem("kernel", "no-kernel", "/proc/filesystems has no nfs, and a mount failed for that")
	default:
		s.problem("kernel", "not-loaded", "/proc/filesystems has no nfs")
	}
}

// wantsV3 reports whether the share's options ask for NFSv3.
func (v *shareCheck) wantsV3() bool {
	return slices.ContainsFunc(v.def.MountOptions, func(o string) bool {
		return o == "v3" || o == "vers=3" || o == "nfsvers=3"
	})
}

// hasFixedPorts reports whether the options of an NFSv3 share say where the server's NFS and mountd are, so
// that mount.nfs does not ask rpcbind. It needs each of these (nfs-utils: nfs_probe_bothports).
func (v *shareCheck) hasFixedPorts() bool {
	given := func(name string) bool {
		value := mount.ValueOf(v.def.MountOptions, name)
		return value != "" && value != "0"
	}
	transport := given("proto") || slices.Contains(v.def.MountOptions, "tcp") || slices.Contains(v.def.MountOptions, "udp")
	return v.wantsV3() && transport && given("port") && given("mountport")
}

// needsNoRpcbind reports whether nothing about an NFSv3 share needs the server's rpcbind. Locks do.
func (v *shareCheck) needsNoRpcbind() bool {
	return v.hasFixedPorts() && slices.Contains(v.def.MountOptions, "nolock")
}

// needsStatd reports whether the share is, or was to be, mounted by NFSv3 with locks.
func (v *shareCheck) needsStatd() bool {
	if slices.Contains(v.def.MountOptions, "nolock") {
		return false
	}
	return v.wantsV3() || slices.Contains(v.causes, mount.NoStatd) ||
		slices.ContainsFunc(v.mounts, func(m mountResult) bool { return m.version() == "3" })
}

func (s *reportBuilder) judgeStatd(wanted bool, ask func() error) {
	if !wanted {
		s.skip("statd", "not needed: no share is NFSv3's")
		return
	}
	err := ask()
	switch {
	case err == nil:
		s.ok("statd", "it answers")
	case errors.Is(err, probe.ErrNotRegistered):
		s.problem("statd", "no-statd", "rpcbind here does not know of it")
	default:
		s.problem("statd", "no-statd", "%s", fmt.Sprint(err))
	}
}
