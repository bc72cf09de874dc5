// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dirBuffer is how much of a directory is in memory at once, and deepBuffer how much of one that
// is far down: there may be thousands, one in the other. It is no less for the server, since
// the client has its own.
const (
	dirBuffer     = 32 << 10
	deepDirBuffer = 2 << 10
	deepLevel     = 16
)

// entries calls each for what is in an open directory, with what the directory says that it
// is: DT_UNKNOWN where the server did not send that along. It ends when each returns false.
// depth is how many directories this one is in.
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
