// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strconv"
	"strings"
	"time"
)

// TrashKind says what a tree in the trash was.
type TrashKind string

const (
	// TrashVolume is a deleted volume, which can be brought back.
	TrashVolume TrashKind = "volume"
	// TrashSnapshot is a deleted snapshot.
	TrashSnapshot TrashKind = "snapshot"
	// TrashLeftover never was whole: a copy that did not get to its end, for example.
	TrashLeftover TrashKind = "leftover"
)

const (
	purgingSuffix     = ".purging"
	trashRecordSuffix = ".json"
	// maxSeconds is the end of the year 9999, the last that a time in JSON can have.
	maxSeconds = 253402300799
)

// TrashName is the name of a file in the trash, taken apart.
type TrashName struct {
	ID      string // what the names of a tree and of its record have in common
	Key     string // of the volume or snapshot
	Nonce   string // of its record
	Kind    TrashKind
	Purging bool // the name of a tree that is being purged, and that nobody brings back
	Record  bool // the name of a record, not of a tree
	// Deleted and Due are those of a record's name: by the server's clock, in whole seconds.
	Deleted, Due time.Time
}

// TrashID returns the name in the trash of the tree of what had this key and nonce. The nonce
// makes it one that nothing else ever has there.
func TrashID(kind TrashKind, key, nonce string) string {
	id := key + "." + nonce
	if kind != TrashVolume {
		id += "." + string(kind)
	}
	return id
}

// TrashRecordName returns the name in the trash of the record of the tree id. It says when the
// volume was deleted and from when on it may be purged, which nothing changes afterwards.
func TrashRecordName(id string, deleted, due time.Time) string {
	return id + "." + strconv.FormatInt(deleted.Unix(), 10) + "." + strconv.FormatInt(due.Unix(), 10) + trashRecordSuffix
}

// PurgingName returns the name of the tree id while it is being purged.
func PurgingName(id string) string { return id + purgingSuffix }

// ParseTrashName is the inverse of TrashID, TrashRecordName and PurgingName. ok is false for
// everything that they cannot have made of a volume's or snapshot's key, a nonce and times that
// a record can tell.
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

// cutSeconds takes a time, in seconds since 1970, from the end of a name. Of one that does not
// end so, nothing is left.
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

// trashTime reports whether t can be part of a name in the trash.
func isTrashTime(t time.Time) bool { return t.Unix() >= 0 && t.Unix() <= maxSeconds }
