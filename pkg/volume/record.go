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

// RecordVersion is the version of records that this program writes. It reads no newer one.
const RecordVersion = 1

// Record says that a directory is a volume, and whose. It is kept on the share as JSON.
type Record struct {
	Version int `json:"version"`
	// Ready is 0 while the volume is being made and 1 from then on. It is a digit, not a
	// boolean, so that the one change made in place to a record is of one byte, which no
	// server can tear.
	Ready     int    `json:"ready"`
	Key       string `json:"key"`
	Name      string `json:"name"` // the CSI name, of which the key may be a hash
	Directory string `json:"directory"`
	Capacity  int64  `json:"capacityBytes"`

	Mode    *uint32  `json:"mode,omitempty"` // as asked for; absent: DefaultMode
	UID     *uint32  `json:"uid,omitempty"`
	GID     *uint32  `json:"gid,omitempty"`
	Adopt   bool     `json:"adopt,omitempty"`   // the class allowed an existing directory
	Adopted bool     `json:"adopted,omitempty"` // and there was one
	Asked   OnDelete `json:"askedOnDelete,omitempty"`

	// OnDelete and Retention hold now; ControllerModifyVolume changes them.
	OnDelete  OnDelete       `json:"onDelete"`
	Retention *time.Duration `json:"trashRetentionNanoseconds,omitempty"`

	// PVC is the claim that the volume was made for; absent: it did not come with the request.
	// It is told to people and compared with nothing.
	PVC *PVC `json:"pvc,omitempty"`
	// Restored says that the volume was deleted and brought back.
	Restored *Restored `json:"restored,omitempty"`

	// Source is what the volume was made from; absent: nothing.
	Source *Source `json:"source,omitempty"`
	// Shallow: the volume is its source, a snapshot, itself, to be read only. It has no
	// directory of its own.
	Shallow bool `json:"shallow,omitempty"`

	// Maker is the instance of the driver that makes, or made, the volume, and Nonce its
	// attempt: by it a writer knows a record of its own when the server's answer got lost.
	Maker   string    `json:"maker"`
	Nonce   string    `json:"nonce"`
	Created time.Time `json:"created"`
}

// PVC names a PersistentVolumeClaim.
type PVC struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String returns "namespace/name".
func (p PVC) String() string { return p.Namespace + "/" + p.Name }

// Restored is from which entry of the trash a volume was brought back, or is being. Until that
// is done one who goes on with it knows the tree by its inode's number and the time of its last
// change, neither of which a rename touches: the number alone may be another's soon after a purge.
type Restored struct {
	Entry string `json:"entry"`
	Inode uint64 `json:"inode,omitempty"` // 0: it is done
	Mtime int64  `json:"mtimeNanoseconds,omitempty"`
}

// ReadyAt returns the offset of the digit of Ready in an encoded record, or -1.
func ReadyAt(encoded []byte) int {
	const field = `"ready": `
	i := bytes.Index(encoded, []byte(field))
	if i < 0 {
		return -1
	}
	return i + len(field)
}

// Encode returns the record as it stands on a share.
func (r Record) Encode() ([]byte, error) {
	r.Version = RecordVersion
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the record of volume %s: %w", r.Key, err)
	}
	return append(data, '\n'), nil
}

// DecodeRecord reads the record that is kept under key. One that is not whole, or that says
// something impossible, is ErrDamaged; one of a newer version is ErrConflict.
func DecodeRecord(key string, data []byte) (*Record, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, damaged(key, "it is not whole JSON: %v", err)
	}
	if version.Version > RecordVersion {
		return nil, Errorf(ErrConflict, "the record of volume %s is of version %d, and this Mooring knows %d: upgrade Mooring", key, version.Version, RecordVersion)
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, damaged(key, "%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, damaged(key, "something follows it")
	}
	if err := r.check(key); err != nil {
		return nil, err
	}
	if at := ReadyAt(data); at < 0 || data[at] != byte('0'+r.Ready) {
		return nil, damaged(key, "it is not written as Mooring writes it")
	}
	return &r, nil
}

func (r *Record) check(key string) error {
	switch {
	case r.Version != RecordVersion:
		return damaged(key, "its version is %d", r.Version)
	case r.Ready != 0 && r.Ready != 1:
		return damaged(key, "ready is %d", r.Ready)
	case r.Key != key:
		return damaged(key, "it is that of %q", r.Key)
	case r.Name == "" || KeyFor(r.Name) != key:
		return damaged(key, "its name is %q, which has another key", r.Name)
	case r.Capacity < 0:
		return damaged(key, "its capacity is %d", r.Capacity)
	case r.OnDelete != Delete && r.OnDelete != Retain && r.OnDelete != Archive:
		return damaged(key, "onDelete is %q", r.OnDelete)
	case r.Asked != "" && r.Asked != Delete && r.Asked != Retain && r.Asked != Archive:
		return damaged(key, "the onDelete that was asked for is %q", r.Asked)
	case r.Mode != nil && *r.Mode > 0o7777:
		return damaged(key, "its mode is %o", *r.Mode)
	case noID(r.UID) || noID(r.GID):
		return damaged(key, "its owner or group is -1")
	case r.Retention != nil && *r.Retention < 0:
		return damaged(key, "its trash retention is %v", *r.Retention)
	case r.PVC != nil && (r.PVC.Namespace == "" || r.PVC.Name == ""):
		return damaged(key, "its claim is %q", r.PVC)
	case r.Restored != nil && !safeName(r.Restored.Entry):
		return damaged(key, "it was brought back from %q", r.Restored.Entry)
	case r.Source != nil && (r.Source.Kind != OfVolume && r.Source.Kind != OfSnapshot || !validKey(r.Source.Key) || r.Source.Share == ""):
		return damaged(key, "its source is %q", r.Source)
	case r.Shallow && (r.Source == nil || r.Source.Kind != OfSnapshot || r.Directory != SnapshotDirectory(r.Source.Key)):
		return damaged(key, "it has no directory of its own, and its source is %v", r.Source)
	case r.Shallow:
		return nil
	}
	if err := CheckDirectory(r.Directory); err != nil {
		return damaged(key, "%v", err)
	}
	return nil
}

// noID reports whether id is -1, which means "unchanged" to chown(2).
func noID(id *uint32) bool { return id != nil && *id == 1<<32-1 }

func damaged(key, format string, args ...any) error {
	return Errorf(ErrDamaged, "the record of volume %s cannot be believed: %s; nothing was changed: restore %s/volumes/%s.json on the share from a backup, or remove it once the volume's directory has been dealt with by hand",
		key, fmt.Sprintf(format, args...), StateDir, key)
}

// Differences says in words how a wish differs from the volume that has its name, or returns
// "" where that volume is what is wished for.
func (r *Record) Differences(w *Record, c Capacity) string {
	var d []string
	add := func(what string, has, wants any) {
		d = append(d, fmt.Sprintf("%s is %v, not %v", what, has, wants))
	}
	if !c.Holds(r.Capacity) {
		d = append(d, fmt.Sprintf("its capacity is %d bytes, not %s", r.Capacity, c))
	}
	if r.Directory != w.Directory {
		add("its directory", quote(r.Directory), quote(w.Directory))
	}
	if has, wants := optional("%04o", r.Mode), optional("%04o", w.Mode); has != wants {
		add("mountPermissions", has, wants)
	}
	if has, wants := optional("%d", r.UID), optional("%d", w.UID); has != wants {
		add("uid", has, wants)
	}
	if has, wants := optional("%d", r.GID), optional("%d", w.GID); has != wants {
		add("gid", has, wants)
	}
	if r.Asked != w.Asked {
		add("onDelete", quote(string(r.Asked)), quote(string(w.Asked)))
	}
	if r.Adopt != w.Adopt {
		add("existingDirectory: adopt", r.Adopt, w.Adopt)
	}
	if has, wants := source(r.Source), source(w.Source); has != wants {
		add("its content", has, wants)
	}
	return strings.Join(d, "; ")
}

func optional(format string, n *uint32) string {
	if n == nil {
		return "the default"
	}
	return fmt.Sprintf(format, *n)
}

func source(s *Source) string {
	if s == nil {
		return "new"
	}
	return "that of " + s.String()
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
