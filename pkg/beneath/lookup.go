// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lookUpTimeout is how long lookUp repeats a lookup.
const lookUpTimeout = 2 * time.Second

// lookUp calls a function that looks up a path in d, until it does not fail with ESTALE any more although d
// exists. ESTALE: d does not exist. EAGAIN: the client could not tell in two seconds what is at the path.
//
// A client has one name for each directory in its cache. If another client has moved a directory, the next
// lookup moves it in the cache, too. Linux does not wait for the locks that it needs for that: the lookup
// fails with ESTALE while the same mount moves anything from one directory to another, or changes the
// directory where the moved one was (fs/dcache.c, __d_unalias). The directory is there all the time. And what
// another client has removed is ESTALE under a delegation of d, or of a directory on the way: lookUp returns those.
func (d Dir) lookUp(path string, f func() error) error {
	deadline := time.Now().Add(lookUpTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := f()
		if !errors.Is(err, unix.ESTALE) {
			return err
		}
		if err := d.checkExists(); err != nil {
			return err
		}
		d.askFor(path)
		if time.Now().After(deadline) {
			return unix.EAGAIN
		}
		time.Sleep(pause)
	}
}

// checkExists asks the server for d. ESTALE: d does not exist any more.
func (d Dir) checkExists() error {
	if err := ReturnDelegation(d); err != nil { // with it, the client would not ask
		return err
	}
	return d.Refresh()
}

// askFor does askForName for each name of a path, as far as there are directories.
func (d Dir) askFor(path string) {
	name, rest, _ := strings.Cut(path, "/")
	_ = askForName(d, name)
	if rest == "" {
		return
	}
	next, err := openat(int(d), name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(next)
	Dir(next).askFor(rest)
}
