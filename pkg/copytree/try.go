// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"

	"golang.org/x/sys/unix"
)

// TryMethods finds out by which ways the server would copy, by copying the open file source to the
// open and empty file target: by sharing blocks (CLONE), and by itself (COPY). nil: it does;
// EOPNOTSUPP and its like: it does not. Both files are on one mount.
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
		copy = unix.EOPNOTSUPP // the kernel here would read and write
	}
	return clone, copy
}
