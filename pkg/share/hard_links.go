// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// errNoLinks is the error of hardLink where the server has no hard links.
var errNoLinks = errors.New("the server has no hard links")

// hardLink gives the file name in from another name, create-once (EEXIST), or returns errNoLinks. Once a
// server was found to have none, it is not asked any more.
//
// Two processes may find different things. That is safe: what each makes in place of a link has the
// link's name, which only one of them gets, and is read whichever made it.
func hardLink(d *disk, from beneath.Dir, name string, to beneath.Dir, as string) error {
	if d.noLinks.Load() {
		return errNoLinks
	}
	err := link(d, from, name, to, as)
	if !isNoLinks(err) && !(mayBeNoLinks(err) && probeNoLinks(d)) {
		return err
	}
	if !d.noLinks.Swap(true) {
		klog.Background().Info("The share's server has no hard links. Mooring makes files with O_EXCL instead", "share", d.def.Name, "err", err)
	}
	return errNoLinks
}

// isNoLinks reports whether an error says that there are no hard links. EPERM is what some servers
// say; a client with fs.protected_hardlinks says it too, to one who is not the owner.
func isNoLinks(err error) bool {
	return is(err, unix.EOPNOTSUPP, unix.ENOTSUP, unix.EPERM, unix.ENOSYS, unix.EMLINK)
}

// mayBeNoLinks reports whether an error may be that of a server which knows no links, and does not say so, or
// that of a disk. EREMOTEIO is what Linux makes of NFS3ERR_SERVERFAULT and NFS4ERR_SERVERFAULT.
func mayBeNoLinks(err error) bool { return is(err, unix.EIO, unix.EREMOTEIO, unix.EINVAL) }

// probeNoLinks tries whether the server makes a new file, and fails to link it.
func probeNoLinks(d *disk) bool {
	dir, aside := d.staging, d.stagingName()
	if dir == beneath.None { // not laid out yet
		dir, aside = d.state, formatTempPrefix+aside
	}
	if createFile(dir, aside, []byte{'\n'}) != nil {
		return false
	}
	linked := aside + ".link"
	err := link(d, dir, aside, dir, linked)
	if err == nil {
		_ = dir.Unlink(linked)
	}
	_ = dir.Unlink(aside)
	return mayBeNoLinks(err)
}

func link(d *disk, from beneath.Dir, name string, to beneath.Dir, as string) error {
	if d.opt.linkErr != nil {
		return d.opt.linkErr
	}
	return from.Link(name, to, as)
}
