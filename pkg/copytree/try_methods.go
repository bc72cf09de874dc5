// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"

	"golang.org/x/sys/unix"
)

// TryMethods finds out how the server can copy: by sharing blocks (CLONE), and by copying itself (COPY).
// It copies the open file source to the open and empty file target, both on one mount. nil: the server
// can; EOPNOTSUPP and similar errors: it cannot.
func TryMethods(ctx context.Context, source, target int) (clone, copy error) {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err, err
	}
	c := dataCopier{&Methods{}, &MethodCounts{}}
	c.methods.detect(source, target, true)
	clone = retry(func() error { return unix.IoctlFileClone(target, source) })
	if clone == nil {
		if err := unix.Ftruncate(target, 0); err != nil {
			return clone, err
		}
	}
	if c.methods.copy.usable() {
		_, copy = c.serverCopy(ctx, source, target, &st)
	} else {
		copy = unix.EOPNOTSUPP // the local kernel would read and write
	}
	return clone, copy
}
