// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"
)

// An ino is an inode, which an NFS file handle identifies. It survives a rename. Once the inode is gone
// the handle is dead forever: 0 replaces it everywhere.
type ino uint8

// The inodes that always exist.
const (
	gone ino = iota
	root     // the share, as users see it
	volumes
	claims
	staging
	trash
	firstFree
)

// A nonce identifies an attempt to make a volume; 0 is none.
type nonce uint8

// A name is that of an entry of a directory: a kind, and the nonce, key or number that is part of it.
type name uint16

const (
	key       name = (1 + iota) << 4 // volumes/<key>
	directory                        // <dir>, and its directory under claims
	entryOf                          // an entry that is prepared in staging
	parentOf                         // the claims of a parent
	markOf                           // the mark of a parent
	recordFile
	makingFile
	placingFile
	abortFile
	unplaceFile
	deletion
	holds // the same, as a directory, in lists
	hold
	changeDir
	sealed
	sealOf
	claim
	taken
	deadDir
	stage
	unstaged
	copying
	emptyDir
	tree
	data
	trashed
	trashJSON
	purging
	leftover
	stray
)

var kinds = [...]string{"", "key", "dir", "entry", "parent", "mark", "record.json", "making.json", "placing.json", "abort.json", "unplace.json", "deletion", "deletion/",
	"hold", "change", "sealed", "seal", "claim", "taken", "dead", "stage", "unstaged", "copy", "empty", "tree", "data", "tree", "record", "purging", "leftover", "stray"}

func (n name) of(x nonce) name { return n&^15 | name(x) }
func (n name) kind() name      { return n &^ 15 }
func (n name) arg() nonce      { return nonce(n & 15) }

func (n name) String() string {
	if n.arg() == 0 {
		return kinds[n>>4]
	}
	return fmt.Sprintf("%s%d", kinds[n>>4], n.arg())
}

type errno uint8

const (
	ok errno = iota
	noent
	exist
	notempty
	isdir
	notdir
	stale
	exdev
)

func (e errno) String() string {
	return [...]string{"ok", "ENOENT", "EEXIST", "ENOTEMPTY", "EISDIR", "ENOTDIR", "ESTALE", "EXDEV"}[e]
}

type node struct {
	used, dir bool
	fixed     bool  // a directory with a project of its own: it cannot be renamed
	val       nonce // whose record or data a file holds; 0 before it is written
	mtime     uint8 // of a directory; a rank: a later change has a higher one
}

type entry struct {
	name name
	dir  ino
	ino  ino
}

const (
	maxNodes   = 48
	maxEntries = 56
)

// A tree is a file system.
type files struct {
	nodes   [maxNodes]node
	entries [maxEntries]entry
	n       uint8 // of entries
	now     uint8 // the time
}

func (f *files) find(d ino, n name) int {
	for i := range f.entries[:f.n] {
		if f.entries[i].dir == d && f.entries[i].name == n {
			return i
		}
	}
	return -1
}

func (f *files) get(d ino, n name) ino {
	if i := f.find(d, n); i >= 0 && d != gone {
		return f.entries[i].ino
	}
	return gone
}

func (f *files) isDir(i ino) bool  { return i != gone && f.nodes[i].dir }
func (f *files) isFile(i ino) bool { return i != gone && !f.nodes[i].dir }

func (f *files) empty(d ino) bool {
	for _, e := range f.entries[:f.n] {
		if e.dir == d {
			return false
		}
	}
	return true
}

// where returns the directory and name of a directory, or of one of a file's names.
func (f *files) where(i ino) (ino, name) {
	for _, e := range f.entries[:f.n] {
		if e.ino == i {
			return e.dir, e.name
		}
	}
	return gone, 0
}

// path returns a path for reports.
func (f *files) path(d ino, n name) string {
	switch d {
	case gone:
		return "<stale>/" + n.String()
	case root:
		return "/" + n.String()
	case volumes, claims, staging, trash:
		return [...]string{volumes: "volumes", claims: "claims", staging: "staging", trash: "trash"}[d] + "/" + n.String()
	}
	up, m := f.where(d)
	return f.path(up, m) + "/" + n.String()
}

// touch gives a directory the current time, which is later than every other.
func (f *files) touch(d ino) {
	f.now++
	f.nodes[d].mtime = f.now
}

func (f *files) insert(d ino, n name, i ino) {
	if int(f.n) == maxEntries {
		panic("too many names")
	}
	f.entries[f.n] = entry{n, d, i}
	f.n++
	f.touch(d)
}

func (f *files) add(d ino, n name, isDir bool) ino {
	for i := firstFree; i < maxNodes; i++ {
		if !f.nodes[i].used {
			f.nodes[i] = node{used: true, dir: isDir}
			f.insert(d, n, i)
			if isDir {
				f.touch(i)
			}
			return i
		}
	}
	panic("too many inodes")
}

// drop removes a name. It returns the inode if that was its last one.
func (f *files) drop(at int) ino {
	i := f.entries[at].ino
	f.touch(f.entries[at].dir)
	f.n--
	f.entries[at] = f.entries[f.n]
	f.entries[f.n] = entry{}
	if d, _ := f.where(i); d != gone {
		return gone
	}
	f.nodes[i] = node{}
	return i
}

// An op is one call that an NFS server executes atomically. It names a directory by its handle, and an
// entry in it by its name.
type op struct {
	what   verb
	d1, d2 ino
	n1, n2 name
	val    nonce
}

type verb uint8

const (
	nothing verb = iota
	opLookup
	opRead
	opUnused
	opList
	opAlive
	opMkdir
	opCreate
	opWrite
	opChown
	opLink
	opRename
	opUnlink
	opRmdir
	opPlain // an action of a user
)

// repeats reports whether the server may execute the call a second time, late. Second writes and second
// CREATEs (V16) are not modelled; see the package comment.
func (o op) repeats() bool {
	return o.what == opMkdir || o.what == opLink || o.what == opRename || o.what == opUnlink || o.what == opRmdir
}

// excused reports whether pkg/share does not survive a late repetition of the call: see limits.
func (o op) excused() bool {
	return o.what == opMkdir && (o.n1 == stage || o.n1 == tree || o.n1 == taken)
}

type result struct {
	err  errno
	ino  ino
	val  nonce
	name name
}

// do executes a call. died is a removed inode.
func (f *files) do(o op) (r result, died ino) {
	if o.d1 == gone || !f.nodes[o.d1].used {
		return result{err: stale}, gone
	}
	switch o.what {
	case opAlive, opChown:
		return result{}, gone
	case opWrite:
		f.nodes[o.d1].val = o.val
		return result{}, gone
	}
	if !f.nodes[o.d1].dir {
		return result{err: notdir}, gone
	}
	at := f.find(o.d1, o.n1)
	var i ino
	if at >= 0 {
		i = f.entries[at].ino
	}
	switch o.what {
	case opUnused: // d2 is the claim's directory
		return f.unused(o), gone
	case opList: // the first entry of a directory, records first
		return result{name: f.first(o.d1)}, gone
	case opMkdir, opCreate:
		if i != gone {
			return result{err: exist}, gone
		}
		return result{ino: f.add(o.d1, o.n1, o.what == opMkdir)}, gone
	case opLink: // d2 is the file
		if o.d2 == gone {
			return result{err: stale}, gone
		}
		if i != gone {
			return result{err: exist}, gone
		}
		f.insert(o.d1, o.n1, o.d2)
		return result{}, gone
	case opRename:
		if o.d2 == gone {
			return result{err: stale}, gone
		}
	}
	if i == gone {
		return result{err: noent}, gone
	}
	return f.doNamed(o, at, i)
}

// doNamed executes a call on an existing name: entry at, which is inode i.
func (f *files) doNamed(o op, at int, i ino) (r result, died ino) {
	switch o.what {
	case opLookup:
		return result{ino: i}, gone
	case opRead:
		if f.nodes[i].dir {
			return result{err: isdir}, gone
		}
		return result{ino: i, val: f.nodes[i].val}, gone
	case opUnlink:
		if f.nodes[i].dir {
			return result{err: isdir}, gone
		}
		return result{}, f.drop(at)
	case opRmdir:
		if f.nodes[i].dir && !f.empty(i) {
			return result{err: notempty}, gone
		}
		return result{}, f.drop(at)
	case opRename:
		return f.rename(at, i, o)
	}
	panic("no such call")
}

// unused reports whether a directory is empty, and not older than the directory of a claim if there is
// one.
func (f *files) unused(o op) result {
	switch {
	case o.d2 != gone && f.nodes[o.d1].mtime < f.nodes[o.d2].mtime:
		return result{err: exist}
	case !f.empty(o.d1):
		return result{err: notempty}
	}
	return result{}
}

func (f *files) first(d ino) name {
	var first name
	for _, e := range f.entries[:f.n] {
		n := e.name
		if e.dir != d {
			continue
		}
		if n == deletion && f.nodes[e.ino].dir {
			n = holds
		}
		is, was := slices.Contains(records, n), slices.Contains(records, first)
		if first == 0 || is && !was || is == was && n < first {
			first = n
		}
	}
	return first
}

func (f *files) rename(at int, i ino, o op) (r result, died ino) {
	if o.d2 == gone || !f.nodes[o.d2].used {
		return result{err: stale}, gone
	}
	if !f.nodes[o.d2].dir {
		return result{err: notdir}, gone
	}
	if f.nodes[i].fixed {
		return result{err: exdev}, gone
	}
	if to := f.find(o.d2, o.n2); to >= 0 {
		j := f.entries[to].ino
		switch {
		case i == j: // two names of one file: nothing happens
			return result{}, gone
		case f.nodes[i].dir && !f.nodes[j].dir:
			return result{err: notdir}, gone
		case !f.nodes[i].dir && f.nodes[j].dir:
			return result{err: isdir}, gone
		case f.nodes[j].dir && !f.empty(j):
			return result{err: notempty}, gone
		}
		died = f.drop(to)
		at = f.find(o.d1, o.n1)
	}
	f.entries[at].dir, f.entries[at].name = o.d2, o.n2
	f.touch(o.d1)
	f.touch(o.d2)
	return result{}, died
}
