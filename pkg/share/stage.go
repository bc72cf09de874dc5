// SPDX-License-Identifier: Apache-2.0

package share

import "golang.org/x/sys/unix"

// stagedTree is what comes into the entry of a volume in order to be put in its place: a copy, or a
// tree from the trash.
type stagedTree struct{ e *entry }

func (e *entry) stagedTree() stagedTree { return stagedTree{e} }

// prepare makes the directory into which the tree of a volume comes from elsewhere.
func (s stagedTree) prepare() error {
	s.e.step("prepare the stage")
	return s.e.dir.Mkdir(stageName, 0o700)
}

// close takes out what is staged, and removes the stage: from then on nothing can come into
// it any more, nor be taken out of it by another who undoes the same. Only then is it known that
// nothing else will be found there.
func (s stagedTree) close(rescue func(name string) error) error {
	for range retries {
		_, err := s.takeOut()
		if ignore(err, unix.ENOTEMPTY, unix.EEXIST) != nil { // another has taken something out
			return err
		}
		s.e.step("close the stage")
		closing := s.e.dir.Rmdir(stageName)
		if err := s.e.dir.Refresh(); err != nil {
			return err
		}
		if err := s.e.leftovers().clearDir(unstagedName, rescue); err != nil {
			return err
		}
		if !is(closing, unix.ENOTEMPTY, unix.EEXIST) {
			return ignore(closing, unix.ENOENT)
		}
	}
	return busy("%s %s is staged again and again", s.e.kind, s.e.key)
}

// takeOut takes what is staged out of the stage, into the entry. done: there was something.
func (s stagedTree) takeOut() (done bool, err error) {
	stage, err := s.e.dir.Resolve(stageName)
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	defer stage.Close()
	s.e.step("take what is staged")
	if err := stage.Rename(treeName, s.e.dir, unstagedName); err != nil {
		return false, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	return true, nil
}

// preventPlacing finds out whether what was staged was put in its place, and lets it not be from now on.
// The answer is kept in the name of the record, for whoever goes on after this process.
//
// What is staged is renamed, and so is it by the one who puts it in its place: one of them
// wins. The new name stays until the record says so too.
func (s stagedTree) preventPlacing() (placed bool, err error) {
	if err := s.e.dir.Refresh(); err != nil {
		return false, err
	}
	if there, err := s.e.has(unplaceFile); err != nil || !there {
		return false, err // it never was about to be
	}
	done, err := s.takeOut()
	if err != nil {
		return false, err
	}
	if !done {
		if err := s.e.dir.Refresh(); err != nil {
			return false, err
		}
		there, err := s.e.has(unstagedName)
		if err != nil {
			return false, err
		}
		if !there { // then the record still has its name, unless another has settled it
			return s.e.has(unplaceFile)
		}
	}
	s.e.step("note that nothing was placed")
	return false, ignore(s.e.dir.Rename(unplaceFile, s.e.dir, abortFile), unix.ENOENT)
}
