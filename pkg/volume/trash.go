// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strconv"
	"strings"
	"time"
)

// TrashKind is the kind of a tree in the trash.
type TrashKind string

const (
	// TrashVolume is a deleted volume, which can be brought back.
	TrashVolume TrashKind = "volume"
	// TrashSnapshot is a deleted snapshot.
	TrashSnapshot TrashKind = "snapshot"
	// TrashLeftover was never complete, for example an unfinished copy, or belonged to an inline volume.
	TrashLeftover TrashKind = "leftover"
)

const (
	purgingSuffix     = ".purging"
	trashRecordSuffix = ".json"
	// maxSeconds is the end of the year 9999, the last year of a time in JSON.
	maxSeconds = 253402300799
)

// TrashName is the parsed name of a file in the trash.
type TrashName struct {
	ID      string // the common part of the names of a tree and its record
	Key     string // of the volume or snapshot
	Nonce   string // of its record
	Kind    TrashKind
	Purging bool // the name of a tree that is being purged, and cannot be brought back
	Record  bool // the name of a record, not of a tree
	// Deleted and Due are the times in the name of a record: by the server's clock, in whole seconds.
	Deleted, Due time.Time
}

// TrashID returns the name in the trash of the tree of a volume or snapshot. The nonce makes it
// unique.
func TrashID(kind TrashKind, key, nonce string) string {
	id := key + "." + nonce
	if kind != TrashVolume {
		id += "." + string(kind)
	}
	return id
}

// TrashRecordName returns the name in the trash of the record of the tree id. It contains the time
// of the deletion and the time after which the tree may be purged. Neither changes afterwards.
func TrashRecordName(id string, deleted, due time.Time) string {
	return id + "." + strconv.FormatInt(deleted.Unix(), 10) + "." + strconv.FormatInt(due.Unix(), 10) + trashRecordSuffix
}

// PurgingName returns the name of the tree id while it is being purged.
func PurgingName(id string) string { return id + purgingSuffix }

// ParseTrashName is the inverse of TrashID, TrashRecordName and PurgingName. ok is false for
// every name that they do not return for a valid key, nonce and times.
func ParseTrashName(name string) (n TrashName, ok bool) {
	n.ID, n.Record = strings.CutSuffix(name, trashRecordSuffix)
	if n.Record {
		n.ID, n.Due = cutSeconds(n.ID)
		n.ID, n.Deleted = cutSeconds(n.ID)
	} else {
		n.ID, n.Purging = strings.CutSuffix(name, purgingSuffix)
	}
	rest := n.ID
	n.Kind = TrashVolume
	for _, kind := range []TrashKind{TrashSnapshot, TrashLeftover} {
		if head, is := strings.CutSuffix(n.ID, "."+string(kind)); is {
			rest, n.Kind = head, kind
		}
	}
	n.Key, n.Nonce = cutLast(rest)
	if !ValidKey(n.Key) || !ValidNonce(n.Nonce) {
		return TrashName{}, false
	}
	return n, true
}

// cutSeconds cuts a time, in seconds since 1970, from the end of a name. It returns "" for a name
// without one.
func cutSeconds(name string) (rest string, at time.Time) {
	rest, digits := cutLast(name)
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > maxSeconds || strconv.FormatInt(n, 10) != digits {
		return "", time.Time{}
	}
	return rest, time.Unix(n, 0).UTC()
}

// cutLast cuts a name at its last dot.
func cutLast(name string) (before, after string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// isTrashTime reports whether t can be part of a name in the trash.
func isTrashTime(t time.Time) bool { return t.Unix() >= 0 && t.Unix() <= maxSeconds }
