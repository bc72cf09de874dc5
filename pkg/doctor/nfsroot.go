// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"path"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// NFS 4 paths are relative to the server's NFSv4 root (RFC 8881, section 7.3), which can differ from
// the root of its file system: on Linux it is the export with fsid=0 (exports(5)), and NFS-Ganesha has
// a Pseudo path for each export. With NFS 4 mount.nfs then does not find the path of the server's file
// system, and silently falls back to NFSv3, which does: the mount has no CLONE and no COPY.

// dirIdentity identifies a directory, independent of the NFS version of the mount.
type dirIdentity struct {
	ino          uint64
	mtime, ctime unix.StatxTimestamp
}

// statDir returns the identity of the directory at a path, as the server has it.
func statDir(path string) (d dirIdentity, ok bool) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_INO|unix.STATX_MTIME|unix.STATX_CTIME, &st) != nil {
		return dirIdentity{}, false
	}
	return dirIdentity{st.Ino, st.Mtime, st.Ctime}, true
}

// onlyV3HasPath reports whether the path exists with NFS 3 and with no newer version.
func onlyV3HasPath(byVersion map[string]mountResult) bool {
	m, tried := byVersion["3"]
	if !tried || m.Error != "" {
		return false
	}
	newer := false
	for _, v := range versions()[1:] {
		switch m, tried := byVersion[v]; {
		case !tried || m.Cause == mount.NoVersion: // the server need not support all versions
		case m.Cause != mount.NoPath:
			return false
		default:
			newer = true
		}
	}
	return newer
}

// pathSuffixes returns what is left of a path without its first element, its first two, and so on, down to "/".
func pathSuffixes(p string) (all []string) {
	for p = path.Clean(p); p != "/"; {
		_, rest, _ := strings.Cut(p[1:], "/")
		p = "/" + rest
		all = append(all, p)
	}
	return all
}

// findV4Path returns the suffix of the NFS 3 path at which NFS 4 has the same directory; "" if there is none.
func (r request) findV4Path(kernel *mount.Kernel, want dirIdentity) string {
	server, p, ok := volume.SplitExport(r.Source)
	if !ok {
		return ""
	}
	for _, end := range pathSuffixes(p) {
		s := r.specForVersion("4")
		s.Source = volume.ExportName(server, end)
		if tryMount(kernel, s).Error != "" {
			continue
		}
		got, ok := statDir(s.Target)
		_ = mount.Detach(s.Target)
		if ok && got == want {
			return end
		}
	}
	return ""
}

// judgeRoot reports the path to register if NFS 3 has the path and NFS 4 does not. It returns whether
// this is the case.
func (c *serverCheck) judgeRoot(a answer) bool {
	if !onlyV3HasPath(a.Versions) || c.share.wantsV3() { // on purpose
		return false
	}
	c.fill = append(c.fill, "{v4path}", shellQuote(a.V4Path))
	if a.V4Path == "" {
		c.problem("path", "other-path", "NFS 3 finds %s, NFS 4 does not", c.share.def.Path)
		return true
	}
	root := path.Clean("/" + strings.TrimSuffix(c.share.def.Path, strings.TrimSuffix(a.V4Path, "/")))
	c.problem("path", "other-root", "with NFS 3 the path is %s, with NFS 4 it is %s: the server's NFSv4 root is %s", c.share.def.Path, a.V4Path, root)
	return true
}

// versionsWithoutPath lists the versions with which the path does not exist.
func versionsWithoutPath(byVersion map[string]mountResult) []string {
	return slices.DeleteFunc(versions(), func(v string) bool { return byVersion[v].Cause != mount.NoPath })
}
