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
	// StateDir is the directory of Mooring on a share.
	StateDir = ".mooring"
	// InlineDir is the directory in StateDir that holds the directories of inline volumes.
	InlineDir = "inline"
	// maxName is the longest file name in bytes on every file system that NFS exports (NAME_MAX).
	maxName = 255
	// maxDirectory keeps export path and directory together under the limit of mount(2) (PATH_MAX, 4096).
	maxDirectory = 2048
)

// CheckDirectory checks a volume's directory: a path of one or more names, relative to the share.
// It refuses the share itself, anything outside it, anything of Mooring's, and paths that are not
// in canonical form. The error is ErrInvalid.
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
		return Errorf(ErrInvalid, "the directory %q begins with /: it is relative to the share, and the share itself cannot be a volume", dir)
	}
	for _, name := range strings.Split(dir, "/") {
		switch {
		case name == "":
			return Errorf(ErrInvalid, "the directory %q has an empty name between slashes, or ends with a slash", dir)
		case name == "." || name == "..":
			return Errorf(ErrInvalid, "the directory %q has the name %q in it", dir, name)
		case strings.EqualFold(strings.TrimRight(name, ". "), StateDir): // a server may ignore case, or cut dots and spaces at the end
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

// Shorten cuts a file name that is too long to at most max bytes. A hash of the whole name
// replaces the end, so that two long names remain different.
func Shorten(name string, max int) string {
	if len(name) <= max {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "-" + hex.EncodeToString(sum[:8])
	cut := name[:max-len(tail)]
	for cut != "" && !utf8.ValidString(cut) { // not inside a character
		cut = cut[:len(cut)-1]
	}
	return cut + tail
}

// ArchiveName returns the new name of an archived volume's directory, in the same parent:
// "archived-<name>". A suffix makes another name if that one exists.
func ArchiveName(name, suffix string) string {
	return Shorten("archived-"+name, maxName-len(suffix)) + suffix
}
