// SPDX-License-Identifier: Apache-2.0

package beneath

import "golang.org/x/sys/unix"

// Node tells one open directory from all others that are open at the same time, by whatever name each
// was opened.
//
// It is no identity beyond that. A server uses the numbers again when a directory is removed, and some
// give one number to several directories, as in subvolumes of Btrfs that are exported as one: equal
// nodes may be two directories, different ones never are one.
type Node struct {
	major, minor uint32
	ino          uint64
}

// NodeOf returns the node of d. It came with the open and does not change, so the server is not asked.
func NodeOf(d Dir) (Node, error) {
	var st unix.Statx_t
	err := unix.Statx(int(d), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return Node{st.Dev_major, st.Dev_minor, st.Ino}, pathError("stat", ".", err)
}
