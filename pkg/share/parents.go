// SPDX-License-Identifier: Apache-2.0

package share

import (
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// ParentIdle is how long a parent that was made for volumes must be unused before it is removed. It
// is far longer than an NFS client caches a directory (nfs(5), acdirmax: 60 s): another controller
// that still had one cached would create and delete volumes in a directory that does not exist any
// more.
const ParentIdle = 10 * time.Minute

// deadName is the name in its directory of claims of a parent directory that is being removed.
const deadName = "dead"

// The index of parents has two kinds of notes: of the claims that Mooring made for a parent, and of the
// parent's directory, if Mooring made it. Mooring removes only such a directory.
const (
	claimsNote    = "c."
	directoryNote = "d."
)

// parents are the directories above those of volumes, if Mooring has made something for them.
type parents struct {
	*disk
	index  beneath.Dir
	claims *claims

	mu      sync.Mutex
	lastUse map[string]time.Time    // when a volume in the parent was last removed: see tidy
	listed  map[string]beneath.Node // directories that the server lists under the name used: see checkOpened
}

// addNote writes a note about a parent into the index. A path that is too long for a file name gets
// none: Mooring never removes such a parent.
func (p *parents) addNote(kind, parent string) error {
	name := kind + url.PathEscape(parent)
	if len(name) > unix.NAME_MAX {
		return nil
	}
	p.step("note the parent as ours")
	return touch(p.index, name, 0)
}

// hasNote reports whether there is a note of a kind about a parent.
func (p *parents) hasNote(kind, parent string) (bool, error) {
	_, err := p.index.Stat(kind + url.PathEscape(parent))
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENAMETOOLONG)
	}
	return true, nil
}

// parseNote returns the parent that a note is about.
func parseNote(name string) (parent string, ok bool) {
	escaped, ok := strings.CutPrefix(name, claimsNote)
	if !ok {
		if escaped, ok = strings.CutPrefix(name, directoryNote); !ok {
			return "", false
		}
	}
	parent, err := url.PathUnescape(escaped)
	return parent, err == nil && volume.CheckDirectory(parent) == nil
}

// openDirectory opens the directory, beneath the share's root, that a volume's directory is to be
// in, and creates what is missing of it. The index has a note of each directory before Mooring
// creates it: a surplus note can at worst remove an empty directory. again: what the client's cache
// had before was missing on the server.
func (p *parents) openDirectory(parent string, again bool) (beneath.Dir, error) {
	at, err := p.root.Resolve("")
	if err != nil {
		return beneath.None, err
	}
	for _, prefix := range prefixes(parent) {
		next, err := p.openLevel(at, prefix, again)
		at.Close()
		if err != nil {
			return beneath.None, err
		}
		at = next
	}
	return at, nil
}

func (p *parents) openLevel(at beneath.Dir, parent string, again bool) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(parent)
	open := beneath.Dir.Resolve
	if again { // this client may have a directory cached that was removed
		open = beneath.ResolveCurrent
	}
	found, err := open(at, name)
	if is(err, unix.ENOENT) {
		return p.makeLevel(at, parent)
	}
	if err != nil {
		return beneath.None, err
	}
	return p.checkOpened(at, found, parent, false)
}

// makeLevel creates a parent that does not exist, and opens it.
func (p *parents) makeLevel(at beneath.Dir, parent string) (beneath.Dir, error) {
	if err := p.addNote(directoryNote, parent); err != nil {
		return beneath.None, err
	}
	_, name := volume.SplitDirectory(parent)
	p.step("make a parent")
	made := at.Mkdir(name, 0o755)
	if err := ignore(made, unix.EEXIST); err != nil {
		return beneath.None, err
	}
	found, err := at.Resolve(name)
	if err != nil {
		return beneath.None, err
	}
	return p.checkOpened(at, found, parent, made == nil)
}

// checkOpened returns found, which was opened in at as a parent of volumes, unless it is .mooring
// or the server lists it under another name. Listing at shows that: once for each directory. made:
// it was just created under this name.
func (p *parents) checkOpened(at, found beneath.Dir, parent string, made bool) (beneath.Dir, error) {
	node, err := p.checkNode(at, found, parent, made)
	if err != nil {
		found.Close()
		return beneath.None, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed[parent] = node
	return found, nil
}

func (p *parents) checkNode(at, found beneath.Dir, parent string, made bool) (beneath.Node, error) {
	node, err := beneath.NodeOf(found)
	if err != nil || made || p.isListed(parent, node) {
		return node, err
	}
	return node, checkDirectoryName(p.disk, at, found, parent)
}

func (p *parents) isListed(parent string, node beneath.Node) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listed[parent] == node
}

// tryRemove removes an unused parent of volumes, and the parents in it, because it is to become a
// volume itself. It reports false if there is a volume or anything else in it.
func (p *parents) tryRemove(parent string) bool {
	at, err := p.claims.dir.Resolve(claimPath(parent))
	if is(err, unix.ENOENT) {
		p.removeEmptyClaims(parent)
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
	for _, in := range below {
		if !p.tryRemove(in) {
			return false
		}
	}
	if p.tidyParent(parent) != nil {
		return false
	}
	at, err = p.claims.dir.Resolve(claimPath(parent))
	if err != nil {
		return is(err, unix.ENOENT, unix.ENOTDIR)
	}
	at.Close()
	return false
}

// makeClaims creates the directory of claims of a parent. It is never empty in its place.
func (p *parents) makeClaims(at beneath.Dir, name, parent string) error {
	if err := p.addNote(claimsNote, parent); err != nil {
		return err
	}
	temp := p.stagingName()
	p.step("prepare the claims of a parent")
	if err := p.staging.Mkdir(temp, 0o700); err != nil {
		return err
	}
	dir, err := p.staging.Resolve(temp)
	if err != nil {
		return err
	}
	defer dir.Close()
	p.step("make the claims of a parent")
	if err := dir.Mkdir(takenName, 0o700); err != nil {
		_ = p.staging.Rmdir(temp)
		return err
	}
	p.step("rename the claims of a parent into place")
	if err := p.staging.Rename(temp, at, name); err != nil {
		_ = dir.Rmdir(takenName)
		_ = p.staging.Rmdir(temp)
		if isNameTaken(err) {
			return nil // another process was first
		}
		return err
	}
	return nil
}

// recordUse records that a parent, and those above it, were just used.
func (p *parents) recordUse(parent string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, prefix := range prefixes(parent) {
		p.lastUse[prefix] = time.Now()
	}
}
