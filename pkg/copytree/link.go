// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// links knows which files with several names have been copied, until all names of each were
// met. A tree may have millions of them: an entry of copied takes 33 bytes, and a name its
// length and one.
type links struct {
	mu      sync.Mutex
	copying map[inode]*firstCopy
	copied  map[uint64]map[uint64]linkedFile // by device and inode
}

type inode struct{ dev, ino uint64 }

// linked is a file with several names. Its fields are as small as they can be.
type linkedFile struct {
	names    *nameTable
	offset   uint32 // where its first name is in that
	seen     uint32 // names that were met
	maxNames uint32 // names that it has had at once
	birth    uint32 // see born
}

// names are those of files in one directory, one after the other, each behind its length
// (binary.PutUvarint). The garbage collector removes them when no file refers to them.
type nameTable struct {
	dir  *location
	text []byte
}

// namesSize is when a directory gets new names: the names of files that are forgotten stay
// for as long as one file is remembered that has its name beside theirs.
const nameTableSize = 2 << 10

// note keeps a name in a directory. It is called with links locked.
func (d *directory) addName(name string) (in *nameTable, at uint32) {
	if d.names == nil || len(d.names.text) >= nameTableSize {
		d.names = &nameTable{dir: d.location}
	}
	at = uint32(len(d.names.text))
	d.names.text = binary.AppendUvarint(d.names.text, uint64(len(name)))
	d.names.text = append(d.names.text, name...)
	return d.names, at
}

// path is the way from the tree to the name at an offset.
func (n *nameTable) path(at uint32) string {
	length, size := binary.Uvarint(n.text[at:])
	name := n.text[int(at)+size:][:length]
	return n.dir.path(string(name))
}

// firstCopy is a file with several names while it is copied by the first that is met.
type firstCopy struct {
	links *links
	key   inode
	nlink uint32
	birth uint32
	done  chan struct{}
}

// enter looks for the copy of a file with several names, one of which is met. If another
// worker is making it, enter waits. If there is none, the caller copies the file and calls
// end of what is returned.
func (l *links) enter(st *unix.Stat_t, born uint32) (file linkedFile, path string, first *firstCopy) {
	key := inode{st.Dev, st.Ino}
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := l.copying[key]; other != nil; other = l.copying[key] {
		l.mu.Unlock()
		<-other.done
		l.mu.Lock()
	}
	file, ok := l.copied[key.dev][key.ino]
	// With another time of birth, that file was removed, and this one has got its number.
	if ok && (file.birth == born || file.birth == 0 || born == 0) {
		return file, file.names.path(file.offset), nil
	}
	if l.copying == nil {
		l.copying = map[inode]*firstCopy{}
	}
	first = &firstCopy{links: l, key: key, nlink: uint32(st.Nlink), birth: born, done: make(chan struct{})}
	l.copying[key] = first
	return linkedFile{}, "", first
}

// end says whether the copy was made, as name in d.
func (f *firstCopy) finish(d *directory, name string, made bool) {
	l := f.links
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(f.done)
	delete(l.copying, f.key)
	if !made {
		return
	}
	file := linkedFile{seen: 1, maxNames: f.nlink, birth: f.birth}
	file.names, file.offset = d.addName(name)
	l.set(f.key, file)
}

// another reports whether a name of a file is not the first that is met. It is for those who
// only count.
func (l *links) seenBefore(st *unix.Stat_t) bool {
	if l.countName(st) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(inode{st.Dev, st.Ino}, linkedFile{seen: 1, maxNames: uint32(st.Nlink)})
	return false
}

// meet counts a further name of a file, and forgets the file after the last. It reports false
// for a file of which nothing is known.
func (l *links) countName(st *unix.Stat_t) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := inode{st.Dev, st.Ino}
	file, ok := l.copied[key.dev][key.ino]
	if !ok {
		return false
	}
	file.seen++
	file.maxNames = max(file.maxNames, uint32(st.Nlink))
	if file.seen >= file.maxNames {
		l.remove(key)
		return true
	}
	l.set(key, file)
	return true
}

// forget lets the next name of a file be the first again.
func (l *links) forget(st *unix.Stat_t, file linkedFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := l.copied[st.Dev][st.Ino]
	if ok && now.names == file.names && now.offset == file.offset {
		l.remove(inode{st.Dev, st.Ino})
	}
}

func (l *links) set(key inode, file linkedFile) {
	if l.copied == nil {
		l.copied = map[uint64]map[uint64]linkedFile{}
	}
	if l.copied[key.dev] == nil {
		l.copied[key.dev] = map[uint64]linkedFile{}
	}
	l.copied[key.dev][key.ino] = file
}

// remove also drops an empty map, which keeps the size that it once had.
func (l *links) remove(key inode) {
	delete(l.copied[key.dev], key.ino)
	if len(l.copied[key.dev]) == 0 {
		delete(l.copied, key.dev)
	}
}

// firstName returns nil if a name of a file with several has become a link to the file's copy.
// Else the caller has to copy the file.
func (e *entry) linkOrStart(st *unix.Stat_t, born uint32) *firstCopy {
	for {
		file, path, first := e.copy.links.enter(st, born)
		if first != nil {
			return first
		}
		if e.link(st, path) {
			return nil
		}
		e.copy.links.forget(st, file)
	}
}

// link makes a further name of a file that was copied to path. It reports false where the copy
// has all the names that it may have, or the server makes no hard links: the name gets a file of its own, and
// that is counted as lost.
func (e *entry) link(st *unix.Stat_t, path string) bool {
	e.copy.announce("make a hard link")
	err := unix.Linkat(e.copy.root, path, e.dir.target, e.name, 0)
	if errors.Is(err, unix.ENAMETOOLONG) {
		err = linkLongPath(e.copy.root, path, e.dir.target, e.name)
	}
	switch {
	case err == nil:
		e.copy.Links.Add(1)
		e.copy.links.countName(st)
	case errors.Is(err, unix.EMLINK):
		return false
	case isUnsupported(err), errors.Is(err, unix.EPERM):
		e.copy.Lost.Add(1)
		return false
	case !errors.Is(err, unix.EEXIST): // else the directory told of the name twice
		e.fail("link", err)
	}
	return true
}

// linkFar is linkat(2) for a path that is longer than one call takes: it goes there by stages.
func linkLongPath(root int, path string, dir int, name string) error {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	at, err := unix.Openat(root, ".", flags, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	for len(path) > maxPathPart {
		cut := strings.LastIndexByte(path[:maxPathPart], '/')
		next, err := unix.Openat(at, path[:cut], flags, 0)
		if err != nil {
			return err
		}
		_ = unix.Close(at)
		at, path = next, path[cut+1:]
	}
	return unix.Linkat(at, path, dir, name, 0)
}

// stage is a path that any call takes (PATH_MAX, 4096), and longer than any one name.
const maxPathPart = 2048

// born is a number made of the time when a file was made, as far as that is known without
// asking the server: of name in a directory, or of what fd is open on if name is "". 0: it is not known.
func birthHash(fd int, name string) uint32 {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC | unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH
	if unix.Statx(fd, name, flags, unix.STATX_BTIME, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	const spread = 0x9E3779B97F4A7C15 // Fibonacci hashing: nanoseconds differ in their low bits
	return max(1, uint32(uint64(st.Btime.Sec*1e9+int64(st.Btime.Nsec))*spread>>32))
}
