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

// NFS 4's paths begin at the server's NFSv4 root (RFC 8881, section 7.3), which need not be the root
// of its file system: for Linux it is the export with fsid=0 (exports(5)), and NFS-Ganesha has a
// Pseudo path for each export. mount.nfs does not find the path of the server's file system there, and
// goes on to NFSv3, where that is right: it says nothing, and the mount has no CLONE and no COPY.

// dirIdentity is what a directory is known by, whatever version it is mounted by.
type dirIdentity struct {
	ino          uint64
	mtime, ctime unix.StatxTimestamp
}

// statDir asks for the directory that is mounted at a path.
func statDir(path string) (d dirIdentity, ok bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_INO|unix.STATX_MTIME|unix.STATX_CTIME, &st)
	return dirIdentity{st.Ino, st.Mtime, st.Ctime}, err == nil
}

// onlyV3HasPath reports whether by NFS 3 the path is there, and by no newer version.
func onlyV3HasPath(byVersion map[string]mountResult) bool {
	m, tried := byVersion["3"]
	if !tried || m.Error != "" {
		return false
	}
	newer := false
	for _, v := range versions()[1:] {
		switch m, tried := byVersion[v]; {
		case !tried || m.Cause == mount.NoVersion: // it need not speak each
		case m.Cause != mount.NoPath:
			return false
		default:
			newer = true
		}
	}
	return newer
}

// pathSuffixes are what is left of a path if its first parts are taken away, one after the other; "/" at last.
func pathSuffixes(p string) (all []string) {
	for p = path.Clean(p); p != "/"; {
		_, rest, _ := strings.Cut(p[1:], "/")
		p = "/" + rest
		all = append(all, p)
	}
	return all
}

// findV4Path finds by which path NFS 4 has a directory: the end of the path that NFS 3 has. "": by none.
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

// judgeRoot says what to register where NFS 4 does not have the path, and NFS 3 does. It reports
// whether that is so.
func (c *serverCheck) judgeRoot(a answer) bool {
	if !onlyV3HasPath(a.Versions) || c.share.wantsV3() { // on purpose
		return false
	}
	c.fill = append(c.fill, "{v4path}", shellQuote(a.V4Path))
	if a.V4Path == "" {
		c.problem("path", "other-path", "NFS 3 finds %s, and NFS 4 does not", c.share.def.Path)
		return true
	}
	root := path.Clean("/" + strings.TrimSuffix(c.share.def.Path, strings.TrimSuffix(a.V4Path, "/")))
	c.problem("path", "other-root", "NFS 3 finds %s, and by NFS 4 it is %s: the server's NFSv4 root is its %s", c.share.def.Path, a.V4Path, root)
	return true
}

// versionsWithoutPath lists the versions by which the path is not there.
func versionsWithoutPath(byVersion map[string]mountResult) []string {
	return slices.DeleteFunc(versions(), func(v string) bool { return byVersion[v].Cause != mount.NoPath })
}
