// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dirBuffer is the size of the buffer for the entries of a directory, and deepDirBuffer for one that
// is more than deepLevel levels down: thousands of directories may be nested. A small buffer costs
// no further requests, because the client has a buffer of its own.
const (
	dirBuffer     = 32 << 10
	deepDirBuffer = 2 << 10
	deepLevel     = 16
)

// readEntries calls each for every entry of an open directory, with the kind that the directory
// reports: DT_UNKNOWN if the server did not send it. It stops when each returns false. depth is
// the number of directories above this one in the tree.
func readEntries(dir, depth int, each func(name string, kind uint8) bool) error {
	size := dirBuffer
	if depth > deepLevel {
		size = deepDirBuffer
	}
	b := make([]byte, size)
	for {
		n, err := unix.Getdents(dir, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		// struct linux_dirent64 (getdents(2)): inode, offset, length, type, name.
		for rest := b[:n]; len(rest) > 19; {
			length := binary.NativeEndian.Uint16(rest[16:])
			name, kind := rest[19:length], rest[18]
			rest = rest[length:]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			if s := string(name); s != "." && s != ".." && !each(s, kind) {
				return nil
			}
		}
	}
}
