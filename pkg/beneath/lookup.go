// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// lookUpTimeout is how long lookUp repeats a lookup.
const lookUpTimeout = 2 * time.Second

// lookUp calls a function that looks up a name in d, until it does not fail with ESTALE any more although d
// exists. ESTALE: d does not exist. EAGAIN: the client could not tell in two seconds what has that name.
//
// A client has one name for each directory in its cache. If another client has moved a directory, the next
// lookup moves it in the cache, too. Linux does not wait for the locks that it needs for that: the lookup
// fails with ESTALE while the same mount moves anything from one directory to another, or changes the
// directory where the moved one was (fs/dcache.c, __d_unalias). The directory is there all the time. And a
// file that another client has removed is ESTALE under a delegation of d, which lookUp therefore returns.
func (d Dir) lookUp(name func() error) error {
	deadline := time.Now().Add(lookUpTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := name()
		if !errors.Is(err, unix.ESTALE) {
			return err
		}
		if err := ReturnDelegation(d); err != nil {
			return err
		}
		if err := d.Refresh(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return unix.EAGAIN
		}
		time.Sleep(pause)
	}
}
