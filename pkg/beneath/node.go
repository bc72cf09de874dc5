// SPDX-License-Identifier: Apache-2.0

package beneath

import "golang.org/x/sys/unix"

// Node distinguishes directories that are open at the same time, under any names.
//
// It is not an identity beyond that. A server reuses the numbers of a removed directory, and some servers
// use one number for several directories, for example for subvolumes of Btrfs in one export. Equal nodes
// may be two directories; different nodes are never one.
type Node struct {
	major, minor uint32
	ino          uint64
}

// NodeOf returns the node of d. It is known since the open and does not change, so it needs no request.
func NodeOf(d Dir) (Node, error) {
	var st unix.Statx_t
	err := unix.Statx(int(d), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return Node{st.Dev_major, st.Dev_minor, st.Ino}, pathError("stat", ".", err)
}
