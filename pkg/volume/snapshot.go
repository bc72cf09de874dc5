// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"strings"
	"time"
)

// ObjectKind is the kind of an Object.
type ObjectKind string

const (
	ObjectVolume   ObjectKind = "volume"
	ObjectSnapshot ObjectKind = "snapshot"
)

// Object identifies the source or the target of a copy: a volume or a snapshot on one share.
type Object struct {
	Kind ObjectKind `json:"kind"`
	Key  string     `json:"key"`
}

// String returns "volume pvc-1".
func (o Object) String() string { return string(o.Kind) + " " + o.Key }

// FileName returns the object's name as a part of a file name. A key never contains an '@'.
func (o Object) FileName() string { return string(o.Kind) + "." + o.Key }

// ParseObject is the inverse of FileName.
func ParseObject(s string) (Object, bool) {
	kind, key, ok := strings.Cut(s, ".")
	o := Object{Kind: ObjectKind(kind), Key: key}
	return o, ok && (o.Kind == ObjectVolume || o.Kind == ObjectSnapshot) && ValidKey(key)
}

// Source is the volume or snapshot that a new volume is made from, and its share.
type Source struct {
	Object
	Share string `json:"share"`
}

// String returns "snapshot nas1/snap-1".
func (s Source) String() string { return string(s.Kind) + " " + s.Handle().String() }

// Handle returns the CSI id of the source.
func (s Source) Handle() Handle { return Handle{Share: s.Share, Key: s.Key} }

// Copy is a copy of a volume or a snapshot to a new volume or snapshot.
type Copy struct {
	Target Object `json:"target"`
	Source Source `json:"source"`
	// Name and Group are those of a new snapshot.
	Name  string `json:"name,omitempty"`
	Group string `json:"group,omitempty"`
	// GroupNonce is the nonce of the group's record.
	GroupNonce string `json:"groupNonce,omitempty"`
}

// SnapshotDirectory returns the path of a snapshot's tree, relative to the share.
func SnapshotDirectory(key string) string { return StateDir + "/snapshots/" + key + "/data" }

// IsSnapshotDirectory reports whether a directory is the tree of a snapshot. It is also the
// directory of a volume that was restored without a copy, and is read-only.
func IsSnapshotDirectory(dir string) bool {
	key, ok := strings.CutPrefix(dir, StateDir+"/snapshots/")
	if !ok {
		return false
	}
	key, ok = strings.CutSuffix(key, "/data")
	return ok && ValidKey(key)
}

// SnapshotRecord is the record of a snapshot. It is stored beside the snapshot's tree, and never
// changes after the snapshot exists.
type SnapshotRecord struct {
	Header
	Key    string `json:"key"`
	Name   string `json:"name"`   // the CSI name; the key may be a hash of it
	Volume string `json:"volume"` // the key of the volume, which may be deleted
	// Group is the key of the snapshot's group, and GroupNonce the nonce of the group's record: a
	// later group may have the same key.
	Group      string `json:"group,omitempty"`
	GroupNonce string `json:"groupNonce,omitempty"`

	// Capacity is the one of the volume, Size the number of bytes that a restore writes.
	Capacity int64 `json:"capacityBytes"`
	Size     int64 `json:"sizeBytes"`
	// Plain: nothing in the tree has extended attributes, or an access control list that says
	// more than its mode.
	Plain bool `json:"plain"`

	// Maker, Run and Nonce are as in Record.
	Maker string `json:"maker"`
	Run   string `json:"run"`
	Nonce string `json:"nonce"`
	// Created is the time at the start of the copy: nothing in it is older than the volume's content
	// at that time.
	Created time.Time `json:"created"`
}

// RestoreSize returns the minimum size in bytes of a volume that is made from the snapshot. Sizes are
// not enforced on a share, so the volume may have held more than its size; a volume of the same size
// can hold it again.
func (r *SnapshotRecord) RestoreSize() int64 {
	if r.Capacity > 0 {
		return min(r.Size, r.Capacity)
	}
	return r.Size
}

func snapshotFile(key string) recordFile {
	return recordFile{
		what:   "the record of snapshot " + key,
		remedy: "restore " + StateDir + "/snapshots/" + key + "/record.json on the share from a backup",
	}
}

// Encode returns the record as it is stored on a share.
func (r SnapshotRecord) Encode() ([]byte, error) { return encode(snapshotFile(r.Key), &r) }

// DecodeSnapshotRecord reads the record of the snapshot key. Its errors are those of DecodeRecord.
func DecodeSnapshotRecord(key string, data []byte) (*SnapshotRecord, error) {
	return decode(snapshotFile(key), data, func(r *SnapshotRecord) error { return r.check(key) })
}

// CheckRequires returns ErrPrecondition if the record requires a feature that this program does not
// know. Every operation that changes or deletes a snapshot, or reads its tree, calls it first.
func (r *SnapshotRecord) CheckRequires() error { return snapshotFile(r.Key).checkRequires(&r.Header) }

func (r *SnapshotRecord) check(key string) error {
	switch {
	case r.Key != key:
		return fmt.Errorf("it is that of %q", r.Key)
	case r.Name == "" || KeyFor(r.Name) != key:
		return fmt.Errorf("its name is %q, which has another key", r.Name)
	case !ValidKey(r.Volume):
		return fmt.Errorf("the volume is %q", r.Volume)
	case r.Group != "" && !ValidKey(r.Group):
		return fmt.Errorf("its group is %q", r.Group)
	case r.Group != "" && !ValidNonce(r.GroupNonce), r.Group == "" && r.GroupNonce != "":
		return fmt.Errorf("the nonce of its group %q is %q", r.Group, r.GroupNonce)
	case r.Capacity < 0 || r.Size < 0:
		return fmt.Errorf("its sizes are %d and %d", r.Capacity, r.Size)
	case !ValidNonce(r.Nonce):
		return fmt.Errorf("its nonce is %q", r.Nonce)
	}
	return nil
}

// Snapshot is a snapshot as the controller reports it. It reports only complete ones.
type Snapshot struct {
	Handle  Handle
	Volume  Handle
	Group   string // the group's handle; "": none
	Size    int64  // bytes that a restore writes
	Created time.Time
}
