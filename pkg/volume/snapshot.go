// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// ObjectKind says what has a record on a share.
type ObjectKind string

const (
	OfVolume   ObjectKind = "volume"
	OfSnapshot ObjectKind = "snapshot"
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
	return o, ok && (o.Kind == OfVolume || o.Kind == OfSnapshot) && validKey(key)
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
	return ok && validKey(key)
}

// SnapshotRecord says what a snapshot is of. It lies beside the snapshot's tree, and is
// never changed.
type SnapshotRecord struct {
	Version int    `json:"version"`
	Key     string `json:"key"`
	Name    string `json:"name"`   // the CSI name, of which the key may be a hash
	Volume  string `json:"volume"` // the key of the volume, which need not be there any more
	Group   string `json:"group,omitempty"`

	// Capacity is that of the volume, Size the bytes that a restore writes.
	Capacity int64 `json:"capacityBytes"`
	Size     int64 `json:"sizeBytes"`
	// Plain: nothing in the tree has extended attributes, or an access control list that says
	// more than its mode.
	Plain bool `json:"plain"`

	Maker string `json:"maker"`
	// Created is when the tree began to be read: nothing in it is older than what the volume
	// held then.
	Created time.Time `json:"created"`
}

// Encode returns the record as it stands on a share.
func (r SnapshotRecord) Encode() ([]byte, error) {
	r.Version = RecordVersion
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the record of snapshot %s: %w", r.Key, err)
	}
	return append(data, '\n'), nil
}

// DecodeSnapshotRecord reads the record of the snapshot key. One that is not whole, or that
// says something impossible, is ErrDamaged; one of a newer version is ErrConflict.
func DecodeSnapshotRecord(key string, data []byte) (*SnapshotRecord, error) {
	damaged := func(format string, args ...any) error {
		return Errorf(ErrDamaged, "the record of snapshot %s cannot be believed: %s; nothing was changed: restore %s/snapshots/%s/record.json on the share from a backup",
			key, fmt.Sprintf(format, args...), StateDir, key)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, damaged("it is not whole JSON: %v", err)
	}
	if version.Version > RecordVersion {
		return nil, Errorf(ErrConflict, "the record of snapshot %s is of version %d, and this Mooring knows %d: upgrade Mooring", key, version.Version, RecordVersion)
	}
	var r SnapshotRecord
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, damaged("%v", err)
	}
	_, err := d.Token()
	switch {
	case err != io.EOF:
		return nil, damaged("something follows it")
	case r.Version != RecordVersion:
		return nil, damaged("its version is %d", r.Version)
	case r.Key != key:
		return nil, damaged("it is that of %q", r.Key)
	case r.Name == "" || KeyFor(r.Name) != key:
		return nil, damaged("its name is %q, which has another key", r.Name)
	case !validKey(r.Volume):
		return nil, damaged("the volume is %q", r.Volume)
	case r.Group != "" && !validKey(r.Group):
		return nil, damaged("its group is %q", r.Group)
	case r.Capacity < 0 || r.Size < 0:
		return nil, damaged("its sizes are %d and %d", r.Capacity, r.Size)
	}
	return &r, nil
}

// Snapshot is what the controller tells of a snapshot. One that it tells of is whole.
type Snapshot struct {
	Handle  Handle
	Volume  Handle
	Group   string // the group's handle, "" without
	Size    int64  // bytes that a restore writes
	Created time.Time
}
