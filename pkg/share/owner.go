// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"strconv"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// setOwner sets the owner and group of a directory; -1 leaves one unchanged. A server that maps
// owners by name, as with Kerberos, may have no name for a number: it refuses it, or sets another
// owner.
func setOwner(d beneath.Dir, uid, gid int) (st unix.Stat_t, err error) {
	err = unix.Fchownat(int(d), "", uid, gid, unix.AT_EMPTY_PATH)
	if is(err, unix.EINVAL) {
		return st, volume.Errorf(volume.ErrInvalid, "set its owner to %s:%s: the server does not accept the numbers, as it maps owners by name (Kerberos): choose a uid and gid that have a name on the server, and the same name on each node and on the controller's machine (docs/kerberos.md)", formatID(uid), formatID(gid))
	}
	if is(err, unix.EPERM) { // EACCES means that the server denies all access: see wrapError
		return st, volume.Errorf(volume.ErrRefused, "set its owner to %s:%s: %w: the server maps root to another user (root_squash), or everybody to one (all_squash): leave uid and gid out of the class, and choose that user on the server (anonuid, anongid of the export), or export with no_root_squash and without all_squash", formatID(uid), formatID(gid), err)
	}
	if err != nil {
		return st, fmt.Errorf("set its owner to %s:%s: %w", formatID(uid), formatID(gid), err)
	}
	if st, err = d.StatSelf(); err != nil {
		return st, err
	}
	if uid >= 0 && st.Uid != uint32(uid) || gid >= 0 && st.Gid != uint32(gid) {
		return st, volume.Errorf(volume.ErrPrecondition, "the directory was given the owner %s:%s, and belongs to %d:%d: users have other names on the server than here: run mooringctl doctor (docs/kerberos.md)", formatID(uid), formatID(gid), st.Uid, st.Gid)
	}
	return st, nil
}

func formatID(id int) string {
	if id < 0 {
		return "(unchanged)"
	}
	return strconv.Itoa(id)
}
