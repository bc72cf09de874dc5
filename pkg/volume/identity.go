// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
)

var shareIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func isShareID(id string) bool { return shareIDPattern.MatchString(id) }

// NewShareID returns an id for a share that is being laid out: a random UUID (RFC 9562, section
// 5.4). It identifies the disk, not the name in a registry: two clusters may share an export.
func NewShareID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ParseShareID parses the id of a share, in any case. The error is ErrInvalid.
func ParseShareID(text string) (string, error) {
	id := strings.ToLower(text)
	if !isShareID(id) {
		return "", Errorf(ErrInvalid, "%q is not the id of a share: ids are UUIDs, as mooringctl shares shows them", text)
	}
	return id, nil
}

// checkDiskHint is the remedy for an export that is not the expected share.
const checkDiskHint = "is the right disk exported, and mounted on the server? Mount it there, and try again"

// NotInitializedError returns the ErrPrecondition for an operation that needs a share that is laid out. An
// emptied share cannot be distinguished from one that was never laid out.
func NotInitializedError(name string) error {
	return Errorf(ErrPrecondition, "nothing of Mooring's is on the export (there is no %s/%s): %s; if the share was emptied on purpose: mooringctl share forget %s", StateDir, FormatName, checkDiskHint, name)
}

// UnstableHandlesError returns the ErrPrecondition for a server whose file handles become stale by a rename.
func UnstableHandlesError() error {
	return Errorf(ErrPrecondition, "the server gives a directory another file handle when it is renamed, so that programs that have it open lose it (NFS3ERR_STALE): on such a server Mooring cannot find out which volume a directory belongs to, and creates none there; use another NFS server: mooringctl doctor shows what a server can do")
}

// EmptiedShareError is NotInitializedError for a share that was mounted with the id had before.
func EmptiedShareError(name, had string) error {
	return Errorf(ErrPrecondition, "it was the share %s when it was mounted before, and now nothing of Mooring's is on the export: %s; if the share was emptied on purpose: mooringctl share forget %s", idOrNone(had), checkDiskHint, name)
}

// AnotherShareError returns the ErrPrecondition for a share that was mounted with another id before.
func AnotherShareError(had, has string) error {
	return Errorf(ErrPrecondition, "it was the share %s when it was mounted before, and what is on the export now is the share %s: %s; if that is the right one, set its id in the configuration, or restart the controller", had, idOrNone(has), checkDiskHint)
}

// WrongShareError returns the ErrPrecondition for an export whose id is not the one in the registry.
// laidOut: it has a Format, with the id found or without one.
func WrongShareError(name, want, found string, laidOut bool) error {
	switch {
	case !laidOut:
		return Errorf(ErrPrecondition, "the configuration says that it has the id %s, and nothing of Mooring's is on the export: %s; if the share was emptied on purpose: mooringctl share forget %s, and set its new id", want, checkDiskHint, name)
	case found == "":
		return Errorf(ErrPrecondition, "the configuration says that it has the id %s, and what is on the export has none: %s; if it is the right one: mooringctl share reidentify %s, and set its new id", want, checkDiskHint, name)
	}
	return Errorf(ErrPrecondition, "the configuration says that it has the id %s, and what is on the export is the share %s: %s; if that is the right one, set its id", want, found, checkDiskHint)
}

func idOrNone(id string) string {
	if id == "" {
		return "without an id"
	}
	return id
}
