// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// errNoLinks is the error of hardLink if the server has no hard links.
var errNoLinks = errors.New("the server has no hard links")

// hardLink gives the file name in from another name, create-once (EEXIST), or returns errNoLinks.
// It does not ask a server again that was found to have none.
//
// Two processes may come to different results. That is safe: the file that replaces a link has the
// link's name, only one of them can create it, and both kinds are read alike.
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

// isNoLinks reports whether an error says that the server has no hard links. Some servers return
// EPERM; so does a client with fs.protected_hardlinks to a user that is not the owner.
func isNoLinks(err error) bool {
	return is(err, unix.EOPNOTSUPP, unix.ENOTSUP, unix.EPERM, unix.ENOSYS, unix.EMLINK)
}

// mayBeNoLinks reports whether an error has two possible causes: a server without hard links that
// does not say so, or a failing disk. Linux returns EREMOTEIO for NFS3ERR_SERVERFAULT and
// NFS4ERR_SERVERFAULT.
func mayBeNoLinks(err error) bool { return is(err, unix.EIO, unix.EREMOTEIO, unix.EINVAL) }

// probeNoLinks reports whether the server creates a new file but fails to link it.
func probeNoLinks(d *disk) bool {
	dir, temp := d.staging, d.stagingName()
	if dir == beneath.None { // the share is not initialized yet
		dir, temp = d.state, formatTempPrefix+temp
	}
	if createFile(dir, temp, []byte{'\n'}) != nil {
		return false
	}
	defer func() { _ = dir.Unlink(temp) }()
	linked := temp + ".link"
	if err := link(d, dir, temp, dir, linked); err != nil {
		return mayBeNoLinks(err) && !d.Interrupted.Load() // that is EIO, too
	}
	_ = dir.Unlink(linked)
	return false
}

func link(d *disk, from beneath.Dir, name string, to beneath.Dir, as string) error {
	if d.opt.linkErr != nil {
		return d.opt.linkErr
	}
	return from.Link(name, to, as)
}
