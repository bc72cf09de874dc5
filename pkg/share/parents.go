// SPDX-License-Identifier: Apache-2.0

package share

import (
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// ParentIdle is how long nobody must have used a parent that was made for volumes before it
// is removed. It is far longer than an NFS client remembers a directory (nfs(5), acdirmax:
// 60 s): another controller that still believed in one would make and delete volumes in a
// directory that is no more.
const ParentIdle = 10 * time.Minute

// deadName is where a parent directory goes that is being removed, in its directory of claims.
const deadName = "dead"

// The index of parents has two kinds of notes: of claims that we made for a parent, and of the
// parent's directory, where we made that too. Only the latter may be removed.
const (
	claimsNote    = "c."
	directoryNote = "d."
)

// note writes a note about a parent into the index. A path that is too long for a name gets
// none: such a parent stays.
func (c *claims) note(kind, parent string) error {
	name := kind + url.PathEscape(parent)
	if len(name) > unix.NAME_MAX {
		return nil
	}
	c.step("note the parent as ours")
	return touch(c.parents, name, 0)
}

// noted reports whether there is a note of a kind about a parent.
func (c *claims) noted(kind, parent string) (bool, error) {
	_, err := c.parents.Stat(kind + url.PathEscape(parent))
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENAMETOOLONG)
	}
	return true, nil
}

// parentOf returns which parent a note is about.
func parentOf(name string) (parent string, ok bool) {
	escaped, ok := strings.CutPrefix(name, claimsNote)
	if !ok {
		if escaped, ok = strings.CutPrefix(name, directoryNote); !ok {
			return "", false
		}
	}
	parent, err := url.PathUnescape(escaped)
	return parent, err == nil && volume.CheckDirectory(parent) == nil
}

// directory opens the directory in which a volume's is to be, beneath the share's root, and
// makes what is missing of it. What we make is noted in the index first: one that is too many
// there lets an empty directory go, at worst. again: what this client remembers was not there.
func (c *claims) directory(parent string, again bool) (beneath.Dir, error) {
	at, err := c.root.Resolve("")
	for _, p := range prefixes(parent) {
		if err != nil {
			return beneath.None, err
		}
		var next beneath.Dir
		next, err = c.directoryLevel(at, p, again)
		at.Close()
		at = next
	}
	return at, err
}

func (c *claims) directoryLevel(at beneath.Dir, p string, again bool) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(p)
	if again {
		if err := at.Refresh(); err != nil {
			return beneath.None, err
		}
	}
	next, err := at.Resolve(name)
	if !is(err, unix.ENOENT) {
		return next, err
	}
	if err := c.note(directoryNote, p); err != nil {
		return beneath.None, err
	}
	c.step("make a parent")
	if err := ignore(at.Mkdir(name, 0o755), unix.EEXIST); err != nil {
		return beneath.None, err
	}
	return at.Resolve(name)
}

// free removes a parent of volumes, and the parents in it, now, because it is itself to be a
// volume. It reports false where there is a volume beneath, or anything else.
func (c *claims) free(parent string) bool {
	at, err := c.dir.Resolve(claimPath(parent))
	if is(err, unix.ENOENT) {
		c.removeEmpty(parent)
		return true
	}
	if err != nil {
		return false
	}
	var below []string
	err = beneath.Names(at, func(name string) error {
		below = append(below, path.Join(parent, name))
		return nil
	})
	at.Close()
	if err != nil {
		return false
	}
	for _, p := range below {
		if !c.free(p) {
			return false
		}
	}
	if c.tidyParent(parent) != nil {
		return false
	}
	at, err = c.dir.Resolve(claimPath(parent))
	if err == nil {
		at.Close()
	}
	return is(err, unix.ENOENT, unix.ENOTDIR)
}
