// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// NFSv4 identifies owners by name, and with Kerberos only by name. An owner without a name, on the server
// or here, is shown as nobody. If a copy belongs to nobody for that reason, every user that the server maps
// to nobody can read it, although it cannot read the source. So if a file belongs to nobody, a trial finds
// out whether that is its real owner; and after a change the owner of the copy is compared with the wanted one.

const (
	// nobody is the ID that Linux shows for an unknown name (idmapd.conf(5)), and unmapped the one if
	// the mapping failed (nfsidmap(8)).
	nobody, unmapped = 65534, 1<<32 - 2
	// unusedID is an ID without a name: systemd, for example, keeps it unused.
	unusedID = 1<<31 - 3
)

// OwnerError reports that a copy cannot have the owner of its source.
type OwnerError struct{ message string }

func (e *OwnerError) Error() string { return e.message }

// owners sets the owners of copies.
type owners struct {
	mu sync.Mutex
	// keepsNumbers: the server keeps numeric IDs, or does not allow a change of owner.
	keepsNumbers bool
	// chown replaces the system call in tests.
	chown func(t target, ids [2]uint32) (got [2]uint32, err error)
}

// copyOwner gives a copy the owner of its source. created are the attributes of the new copy.
func (o *owners) copyOwner(t target, st, created *unix.Stat_t) error {
	current := [2]uint32{created.Uid, created.Gid}
	for _, id := range []uint32{st.Uid, st.Gid} {
		if id != nobody && id != unmapped {
			continue
		}
		if err := o.checkNobody(t, &current); err != nil {
			return fmt.Errorf("its owner is shown as %d:%d: %w", st.Uid, st.Gid, err)
		}
		break
	}
	want := [2]uint32{st.Uid, st.Gid}
	if current == want {
		return nil
	}
	got, err := o.set(t, want)
	if errors.Is(err, unix.EINVAL) {
		return &OwnerError{fmt.Sprintf("the server does not accept its owner %d:%d: it identifies owners by name, and accepts only users and groups that have one", want[0], want[1])}
	}
	if err != nil {
		return err
	}
	if got != want {
		return &OwnerError{fmt.Sprintf("its owner was set to %d:%d, and is %d:%d", want[0], want[1], got[0], got[1])}
	}
	return nil
}

// checkNobody finds out whether nobody is the real owner. current is the owner of the copy, which the
// trial may change.
func (o *owners) checkNobody(t target, current *[2]uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keepsNumbers {
		return nil
	}
	number := [2]uint32{unusedID, unusedID}
	got, err := o.set(t, number)
	switch {
	case err == nil && got == number:
		*current, o.keepsNumbers = number, true
		return nil
	case err != nil && !errors.Is(err, unix.EINVAL):
		o.keepsNumbers = isForbidden(err)
		return ignoreForbidden(err)
	}
	// If the server maps this process to nobody (root_squash), it can read only what every other user can
	// read, and every file that it creates belongs to nobody.
	if _, err := o.set(t, [2]uint32{}); err != nil && !errors.Is(err, unix.EINVAL) {
		o.keepsNumbers = isForbidden(err)
		return ignoreForbidden(err)
	}
	return &OwnerError{"that is nobody, or an owner without a name: the server identifies owners by name, and users that cannot read the file could read the copy"}
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

// chown sets user and group of a copy, and returns the resulting ones. The server sent them with its
// answer: there is no further request.
func (t target) chown(ids [2]uint32) (got [2]uint32, err error) {
	if err := unix.Fchownat(t.fd, t.name, int(ids[0]), int(ids[1]), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return got, err
	}
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC
	err = unix.Statx(t.fd, t.name, flags, unix.STATX_UID|unix.STATX_GID, &st)
	return [2]uint32{st.Uid, st.Gid}, err
}
