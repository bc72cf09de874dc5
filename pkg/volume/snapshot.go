// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"strings"
	"time"
)

// ObjectKind says what has a record on a share.
type ObjectKind string

const (
	ObjectVolume   ObjectKind = "volume"
	ObjectSnapshot ObjectKind = "snapshot"
)

// Object names what can be copied, or is the copy: a volume or a snapshot, on one share.
type Object struct {
	Kind ObjectKind `json:"kind"`
	Key  string     `json:"key"`
}

// String returns "volume pvc-1".
func (o Object) String() string { return string(o.Kind) + " " + o.Key }

// FileName returns the object's name as part of a file name. No key has an '@' in it.
func (o Object) FileName() string { return string(o.Kind) + "." + o.Key }

// ParseObject is the inverse of FileName.
func ParseObject(s string) (Object, bool) {
	kind, key, ok := strings.Cut(s, ".")
	o := Object{Kind: ObjectKind(kind), Key: key}
	return o, ok && (o.Kind == ObjectVolume || o.Kind == ObjectSnapshot) && ValidKey(key)
}

// Source is what a volume is made from, and where that is.
type Source struct {
	Object
	Share string `json:"share"`
}

// String returns "snapshot nas1/snap-1".
func (s Source) String() string { return string(s.Kind) + " " + s.Handle().String() }

// Handle returns the CSI id of the source.
func (s Source) Handle() Handle { return Handle{Share: s.Share, Key: s.Key} }

// Copy is what is to be copied: a snapshot or a volume from a volume or a snapshot.
type Copy struct {
	Target Object `json:"target"`
	Source Source `json:"source"`
	// Name and Group are those of the snapshot that is made.
	Name  string `json:"name,omitempty"`
	Group string `json:"group,omitempty"`
	// GroupNonce is that of the group's record.
	GroupNonce string `json:"groupNonce,omitempty"`
}

// SnapshotDirectory returns where the tree of a snapshot is, beneath the share.
func SnapshotDirectory(key string) string { return StateDir + "/snapshots/" + key + "/data" }

// IsSnapshotDirectory reports whether a directory is the tree of a snapshot. A volume may be
// there that was restored without a copy; it can only be read.
func IsSnapshotDirectory(dir string) bool {
	key, ok := strings.CutPrefix(dir, StateDir+"/snapshots/")
	if !ok {
		return false
	}
	key, ok = strings.CutSuffix(key, "/data")
	return ok && ValidKey(key)
}

// SnapshotRecord says what a snapshot is of. It lies beside the snapshot's tree, and is
// never changed once the snapshot is there.
type SnapshotRecord struct {
	Header
	Key    string `json:"key"`
	Name   string `json:"name"`   // the CSI name, of which the key may be a hash
	Volume string `json:"volume"` // the key of the volume, which need not be there any more
	// Group is the key of the group that the snapshot was made for, and GroupNonce the nonce of
	// that group's record: a later group of this key is another.
	Group      string `json:"group,omitempty"`
	GroupNonce string `json:"groupNonce,omitempty"`

	// Capacity is that of the volume, Size the bytes that a restore writes.
	Capacity int64 `json:"capacityBytes"`
	Size     int64 `json:"sizeBytes"`
	// Plain: nothing in the tree has extended attributes, or an access control list that says
	// more than its mode.
	Plain bool `json:"plain"`

	// Maker, Run and Nonce are as in Record.
	Maker string `json:"maker"`
	Run   string `json:"run"`
	Nonce string `json:"nonce"`
	// Created is when the tree began to be read: nothing in it is older than what the volume
	// held then.
	Created time.Time `json:"created"`
}

// RestoreSize returns the size in bytes that a volume made from the snapshot has to have. No size is
// enforced on a share, so the volume may have held more than its own size; a volume of that size
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

// Encode returns the record as it stands on a share.
func (r SnapshotRecord) Encode() ([]byte, error) { return encode(snapshotFile(r.Key), &r) }

// DecodeSnapshotRecord reads the record of the snapshot key, as DecodeRecord does a volume's.
func DecodeSnapshotRecord(key string, data []byte) (*SnapshotRecord, error) {
	return decode(snapshotFile(key), data, func(r *SnapshotRecord) error { return r.check(key) })
}

// CheckRequires returns ErrPrecondition where the record requires what this program does not know.
// Whoever changes or deletes a snapshot, or reads its tree, asks first.
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

// Snapshot is what the controller tells of a snapshot. One that it tells of is whole.
type Snapshot struct {
	Handle  Handle
	Volume  Handle
	Group   string // the group's handle, "" without
	Size    int64  // bytes that a restore writes
	Created time.Time
}
