// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// links records the copied files with several hard links, until all names of a file were seen. A
// tree may have millions of them: an entry of copied takes 33 bytes, and a name its length and one.
type links struct {
	mu      sync.Mutex
	copying map[inode]*firstCopy
	copied  map[uint64]map[uint64]linkedFile // by device and inode
}

type inode struct{ dev, ino uint64 }

// linkedFile is a file with several names. Its fields are as small as possible.
type linkedFile struct {
	names    *nameTable
	offset   uint32 // of its first name in names
	seen     uint32 // number of names that were seen
	maxNames uint32 // largest link count that was seen
	birth    uint32 // see birthHash
}

// nameTable holds names of files in one directory, each after its length (binary.PutUvarint). The
// garbage collector frees it when no file refers to it.
type nameTable struct {
	dir  *location
	text []byte
}

// nameTableSize is the size after which a directory gets a new table: a table keeps the names of
// finished files for as long as one file refers to it.
const nameTableSize = 2 << 10

// addName adds a name to the table of the directory. The caller holds the lock of links.
func (d *directory) addName(name string) (table *nameTable, offset uint32) {
	if d.names == nil || len(d.names.text) >= nameTableSize {
		d.names = &nameTable{dir: d.location}
	}
	offset = uint32(len(d.names.text))
	d.names.text = binary.AppendUvarint(d.names.text, uint64(len(name)))
	d.names.text = append(d.names.text, name...)
	return d.names, offset
}

// path returns the path of the name at an offset, relative to the tree.
func (n *nameTable) path(offset uint32) string {
	length, size := binary.Uvarint(n.text[offset:])
	name := n.text[int(offset)+size:][:length]
	return n.dir.path(string(name))
}

// firstCopy is a file with several names that is being copied under the first name that was seen.
type firstCopy struct {
	links *links
	key   inode
	nlink uint32
	birth uint32
	done  chan struct{}
}

// enter finds the copy of a file with several names. If another worker is making the copy, enter
// waits. If there is none, the caller copies the file and calls first.finish.
func (l *links) enter(st *unix.Stat_t, birth uint32) (file linkedFile, path string, first *firstCopy) {
	key := inode{st.Dev, st.Ino}
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := l.copying[key]; other != nil; other = l.copying[key] {
		l.mu.Unlock()
		<-other.done
		l.mu.Lock()
	}
	file, ok := l.copied[key.dev][key.ino]
	// With another birth time, that file was removed, and this one has its inode number now.
	if ok && (file.birth == birth || file.birth == 0 || birth == 0) {
		return file, file.names.path(file.offset), nil
	}
	if l.copying == nil {
		l.copying = map[inode]*firstCopy{}
	}
	first = &firstCopy{links: l, key: key, nlink: uint32(st.Nlink), birth: birth, done: make(chan struct{})}
	l.copying[key] = first
	return linkedFile{}, "", first
}

// finish records whether the copy was made, as name in d.
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

// seenBefore reports whether another name of the file was seen before. It is for callers that only
// count files.
func (l *links) seenBefore(st *unix.Stat_t) bool {
	if l.countName(st) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(inode{st.Dev, st.Ino}, linkedFile{seen: 1, maxNames: uint32(st.Nlink)})
	return false
}

// countName counts a further name of a file, and removes the file after its last name. It returns
// false for an unknown file.
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

// forget removes a file, so that its next name is the first again.
func (l *links) forget(st *unix.Stat_t, file linkedFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	current, ok := l.copied[st.Dev][st.Ino]
	if ok && current.names == file.names && current.offset == file.offset {
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

// remove also drops an empty map, because a map does not shrink.
func (l *links) remove(key inode) {
	delete(l.copied[key.dev], key.ino)
	if len(l.copied[key.dev]) == 0 {
		delete(l.copied, key.dev)
	}
}

// linkOrStart links the entry to the copy of its file, and returns nil. If there is no copy to link
// to, it returns the firstCopy that the caller must make.
func (e *entry) linkOrStart(st *unix.Stat_t, birth uint32) *firstCopy {
	for {
		file, path, first := e.copy.links.enter(st, birth)
		if first != nil {
			return first
		}
		if e.link(st, path) {
			return nil
		}
		e.copy.links.forget(st, file)
	}
}

// link makes a hard link to the copy at path. It returns false if the copy has the maximum number of
// links, or the server does not support hard links: the name gets a file of its own. The latter is
// counted as lost.
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
	case !errors.Is(err, unix.EEXIST): // EEXIST: the directory returned the name twice
		e.fail("link", err)
	}
	return true
}

// linkLongPath is linkat(2) for a path that is too long for one call: it opens the path in parts.
func linkLongPath(root int, path string, dir int, name string) error {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dirFD, err := unix.Openat(root, ".", flags, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dirFD) }()
	for len(path) > maxPathPart {
		cut := strings.LastIndexByte(path[:maxPathPart], '/')
		next, err := unix.Openat(dirFD, path[:cut], flags, 0)
		if err != nil {
			return err
		}
		_ = unix.Close(dirFD)
		dirFD, path = next, path[cut+1:]
	}
	return unix.Linkat(dirFD, path, dir, name, 0)
}

// maxPathPart is short enough for any call (PATH_MAX, 4096), and longer than any name.
const maxPathPart = 2048

// birthHash returns a hash of the birth time of the file name in the directory fd, or of fd itself if
// name is "". It does not ask the server. 0: the time is unknown.
func birthHash(fd int, name string) uint32 {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC | unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH
	if unix.Statx(fd, name, flags, unix.STATX_BTIME, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	const spread = 0x9E3779B97F4A7C15 // Fibonacci hashing: nanoseconds differ in their low bits
	return max(1, uint32(uint64(st.Btime.Sec*1e9+int64(st.Btime.Nsec))*spread>>32))
}
