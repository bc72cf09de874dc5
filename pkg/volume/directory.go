// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"unicode/utf8"
)

const (
	// StateDir is the one name on a share that is Mooring's.
	StateDir = ".mooring"
	// InlineDir is where in it the directories of inline volumes are.
	InlineDir = "inline"
	// maxName is the longest file name in bytes on every file system that is exported by NFS (NAME_MAX).
	maxName = 255
	// maxDirectory keeps export path and directory below what a mount can name (PATH_MAX, 4096).
	maxDirectory = 2048
)

// CheckDirectory says what is wrong with a volume's directory: a path beneath the share, of
// one or more names. The share itself, anything above it and anything of Mooring's is refused,
// as are spellings of which two would mean one directory. The error is ErrInvalid.
func CheckDirectory(dir string) error {
	switch {
	case dir == "":
		return Errorf(ErrInvalid, "the directory is empty")
	case len(dir) > maxDirectory:
		return Errorf(ErrInvalid, "the directory's path is %d bytes long, and %d are allowed", len(dir), maxDirectory)
	case !utf8.ValidString(dir):
		return Errorf(ErrInvalid, "the directory %q is not UTF-8", dir)
	case strings.ContainsFunc(dir, isControl):
		return Errorf(ErrInvalid, "the directory %q has control characters", dir)
	case strings.HasPrefix(dir, "/"):
		return Errorf(ErrInvalid, "the directory %q begins with /: it is taken beneath the share, and the share itself cannot be a volume", dir)
	}
	for _, name := range strings.Split(dir, "/") {
		switch {
		case name == "":
			return Errorf(ErrInvalid, "the directory %q has an empty name between slashes, or ends with a slash", dir)
		case name == "." || name == "..":
			return Errorf(ErrInvalid, "the directory %q has the name %q in it", dir, name)
		case strings.EqualFold(strings.TrimRight(name, ". "), StateDir): // a server may fold case, or drop what ends a name
			return Errorf(ErrInvalid, "the directory %q has the name %s in it, which is Mooring's own", dir, StateDir)
		case len(name) > maxName:
			return Errorf(ErrInvalid, "the directory %.40q... has a name of %d bytes in it, and file systems allow %d", dir, len(name), maxName)
		}
	}
	return nil
}

// SplitDirectory returns the parent ("" for the share's root) and the last name of a directory.
func SplitDirectory(dir string) (parent, name string) {
	parent, name = path.Split(dir)
	return strings.TrimSuffix(parent, "/"), name
}

// Shorten cuts a file name that is too long to at most max bytes. A hash of the whole
// replaces the end that is cut, so that two long names stay two.
func Shorten(name string, max int) string {
	if len(name) <= max {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "-" + hex.EncodeToString(sum[:8])
	cut := name[:max-len(tail)]
	for cut != "" && !utf8.ValidString(cut) { // not within a character
		cut = cut[:len(cut)-1]
	}
	return cut + tail
}

// ArchiveName returns the name that an archived volume's directory gets beside its old
// place: "archived-<name>". With a suffix, it is what to try where that is taken.
func ArchiveName(name, suffix string) string {
	return Shorten("archived-"+name, maxName-len(suffix)) + suffix
}
