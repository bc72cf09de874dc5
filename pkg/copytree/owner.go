// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// NFSv4 has names for owners, and with Kerberos nothing else. An owner that has no name, on the server
// or here, is shown as nobody. A copy that is given to nobody for that can be read by all who are
// nobody to the server: they could not read the source. So of what is nobody's is found out whether it
// is, by trying; and what a copy was given is compared with what it has then.

const (
	// nobody is whom Linux shows where it has no better (idmapd.conf(5)), and unmapped whom where it
	// could not even ask (nfsidmap(8)).
	nobody, unmapped = 65534, 1<<32 - 2
	// nameless is a number that is nobody's: systemd, for one, keeps it unused.
	unusedID = 1<<31 - 3
)

// An OwnerError says that a copy cannot have the owner of its source.
type OwnerError struct{ message string }

func (e *OwnerError) Error() string { return e.message }

// owners gives copies their owners.
type owners struct {
	mu sync.Mutex
	// numbers: the server keeps numbers, or lets us give nothing away.
	keepsNumbers bool
	// chown stands in for the system's, in tests.
	chown func(t target, ids [2]uint32) (got [2]uint32, err error)
}

// give gives a copy the owner of its source. made is what it was before.
func (o *owners) copyOwner(t target, st, made *unix.Stat_t) error {
	now := [2]uint32{made.Uid, made.Gid}
	for _, id := range []uint32{st.Uid, st.Gid} {
		if id != nobody && id != unmapped {
			continue
		}
		if err := o.checkNobody(t, &now); err != nil {
			return fmt.Errorf("its owner is shown as %d:%d: %w", st.Uid, st.Gid, err)
		}
		break
	}
	want := [2]uint32{st.Uid, st.Gid}
	if now == want {
		return nil
	}
	got, err := o.set(t, want)
	if errors.Is(err, unix.EINVAL) {
		return &OwnerError{fmt.Sprintf("its owner %d:%d is not taken by the server, which goes by names, and so by the name of a user and a group alone", want[0], want[1])}
	}
	if err == nil && got != want {
		return &OwnerError{fmt.Sprintf("it was given its owner %d:%d, and belongs to %d:%d", want[0], want[1], got[0], got[1])}
	}
	return err
}

// sure finds out whether nobody is nobody. now is who the copy belongs to, which this changes.
func (o *owners) checkNobody(t target, now *[2]uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keepsNumbers {
		return nil
	}
	number := [2]uint32{unusedID, unusedID}
	got, err := o.set(t, number)
	switch {
	case err == nil && got == number:
		*now, o.keepsNumbers = number, true
		return nil
	case err != nil && !errors.Is(err, unix.EINVAL):
		o.keepsNumbers = isForbidden(err)
		return ignoreForbidden(err)
	}
	// Who is nobody to the server, as root is by root_squash, could read the source only as all others
	// can, and makes nothing but what is nobody's.
	if _, err := o.set(t, [2]uint32{}); err != nil && !errors.Is(err, unix.EINVAL) {
		o.keepsNumbers = isForbidden(err)
		return ignoreForbidden(err)
	}
	return &OwnerError{"that is nobody, or an owner without a name: the server goes by names, and who cannot read the file could read the copy"}
}

func (o *owners) set(t target, ids [2]uint32) (got [2]uint32, err error) {
	if o.chown != nil {
		return o.chown(t, ids)
	}
	return t.chown(ids)
}

func isForbidden(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

func ignoreForbidden(err error) error {
	if isForbidden(err) {
		return nil
	}
	return err
}

// chown gives a copy to a user and group, and returns whom it belongs to then. The answer came with
// that of the server: it is not asked again.
func (t target) chown(ids [2]uint32) (got [2]uint32, err error) {
	if err := unix.Fchownat(t.fd, t.name, int(ids[0]), int(ids[1]), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return got, err
	}
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC
	err = unix.Statx(t.fd, t.name, flags, unix.STATX_UID|unix.STATX_GID, &st)
	return [2]uint32{st.Uid, st.Gid}, err
}
