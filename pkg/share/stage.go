// SPDX-License-Identifier: Apache-2.0

package share

import "golang.org/x/sys/unix"

// stagedTree is a tree that comes into the entry of a volume in order to be placed: a copy, or a
// tree from the trash.
type stagedTree struct{ e *entry }

func (e *entry) stagedTree() stagedTree { return stagedTree{e} }

// prepare makes the stage: the directory that the tree comes into.
func (s stagedTree) prepare() error {
	s.e.step("prepare the stage")
	return s.e.dir.Mkdir(stageName, 0o700)
}

// close removes what is staged, and then the stage. From then on no late process can move a tree
// into it, and no other undo can move one out of it.
func (s stagedTree) close(rescue func(name string) error) error {
	for range retries {
		_, err := s.takeOut()
		if ignore(err, unix.ENOTEMPTY, unix.EEXIST) != nil { // another process has moved a tree out
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

// takeOut moves the staged tree from the stage into the entry. done: there was one.
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

// preventPlacing finds out whether the staged tree was placed, and prevents that it is placed from
// now on. The name of the record keeps the answer for the next process.
//
// The process that places the tree renames it, and so does takeOut: only one of them succeeds. The
// new name of the tree stays until the record has the answer too.
func (s stagedTree) preventPlacing() (placed bool, err error) {
	if err := s.e.dir.Refresh(); err != nil {
		return false, err
	}
	if there, err := s.e.has(unplaceFile); err != nil || !there {
		return false, err // placing has not begun
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
		if !there { // the tree was placed, unless another process has recorded that it was not
			return s.e.has(unplaceFile)
		}
	}
	s.e.step("note that nothing was placed")
	return false, ignore(s.e.dir.Rename(unplaceFile, s.e.dir, abortFile), unix.ENOENT)
}
