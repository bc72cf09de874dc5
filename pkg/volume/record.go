// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"strings"
	"time"
)

// Record is the record of a volume. It is stored on the share as JSON. It does not contain the
// state of the volume (being created, existing, being deleted): the name of its file does.
type Record struct {
	Header
	Key       string `json:"key"`
	Name      string `json:"name"` // the CSI name; the key may be a hash of it
	Directory string `json:"directory"`
	Capacity  int64  `json:"capacityBytes"` // 0: no size was requested

	Mode              *uint32  `json:"mode,omitempty"` // as requested; absent: DefaultMode
	UID               *uint32  `json:"uid,omitempty"`
	GID               *uint32  `json:"gid,omitempty"`
	Adopt             bool     `json:"adopt,omitempty"`   // the class allowed an existing directory
	Adopted           bool     `json:"adopted,omitempty"` // and the directory existed
	RequestedOnDelete OnDelete `json:"askedOnDelete,omitempty"`

	// OnDelete and Retention are the current values; ControllerModifyVolume changes them. Without a
	// Retention, that of the share applies.
	OnDelete  OnDelete       `json:"onDelete"`
	Retention *time.Duration `json:"trashRetentionNanoseconds,omitempty"`

	// PVC is the claim of the volume; absent: the request did not name it. It is for people, and
	// not used otherwise.
	PVC *PVC `json:"pvc,omitempty"`
	// Restored is set if the volume was deleted and brought back.
	Restored *Restored `json:"restored,omitempty"`

	// Source is the volume or snapshot that was copied; absent: the volume began empty.
	Source *Source `json:"source,omitempty"`
	// Shallow: the volume is its source itself, a snapshot, and read-only. It has no directory of
	// its own.
	Shallow bool `json:"shallow,omitempty"`

	// Maker is the instance of the driver that created the volume, and Run the run of that
	// instance. Nonce identifies the attempt, and is unique: it distinguishes two volumes that had
	// the same key, one after the other.
	Maker   string    `json:"maker"`
	Run     string    `json:"run"`
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

// Restored is the entry of the trash from which a volume was brought back, or is being, with the
// times from the name of its record there.
type Restored struct {
	Entry   string    `json:"entry"` // its TrashID
	Deleted time.Time `json:"deleted"`
	Due     time.Time `json:"due"`
}

func (r *Restored) isValid() bool {
	n, ok := ParseTrashName(r.Entry)
	return ok && n.ID == r.Entry && n.Kind == TrashVolume && isTrashTime(r.Deleted) && isTrashTime(r.Due)
}

func volumeFile(key string) recordFile {
	entry := StateDir + "/volumes/" + key
	return recordFile{
		what:   "the record of volume " + key,
		remedy: "restore " + entry + "/record.json on the share from a backup, or remove " + entry + " once the volume's directory has been dealt with by hand",
	}
}

// Encode returns the record as it is stored on a share.
func (r Record) Encode() ([]byte, error) { return encode(volumeFile(r.Key), &r) }

// DecodeRecord reads the record for key. An incomplete or invalid record is ErrDamaged. A record
// that requires unknown features is decoded, for callers that only read: see CheckRequires. It is
// ErrPrecondition if this program does not understand its known fields.
func DecodeRecord(key string, data []byte) (*Record, error) {
	return decode(volumeFile(key), data, func(r *Record) error { return r.check(key) })
}

// CheckRequires returns ErrPrecondition if the record requires a feature that this program does not
// know. Every operation that changes or deletes a volume calls it first.
func (r *Record) CheckRequires() error { return volumeFile(r.Key).checkRequires(&r.Header) }

func (r *Record) check(key string) error {
	switch {
	case r.Key != key:
		return fmt.Errorf("it is that of %q", r.Key)
	case r.Name == "" || KeyFor(r.Name) != key:
		return fmt.Errorf("its name is %q, which has another key", r.Name)
	case r.Capacity < 0:
		return fmt.Errorf("its capacity is %d", r.Capacity)
	case r.OnDelete != Delete && r.OnDelete != Retain && r.OnDelete != Archive:
		return fmt.Errorf("onDelete is %q", r.OnDelete)
	case r.RequestedOnDelete != "" && r.RequestedOnDelete != Delete && r.RequestedOnDelete != Retain && r.RequestedOnDelete != Archive:
		return fmt.Errorf("the onDelete that was asked for is %q", r.RequestedOnDelete)
	case r.Mode != nil && *r.Mode > 0o7777:
		return fmt.Errorf("its mode is %o", *r.Mode)
	case isMinusOne(r.UID) || isMinusOne(r.GID):
		return fmt.Errorf("its owner or group is -1")
	case r.Retention != nil && *r.Retention < 0:
		return fmt.Errorf("its trash retention is %v", *r.Retention)
	case r.PVC != nil && (r.PVC.Namespace == "" || r.PVC.Name == ""):
		return fmt.Errorf("its claim is %q", r.PVC)
	case r.Restored != nil && !r.Restored.isValid():
		return fmt.Errorf("it was brought back from %q, deleted at %v and due at %v", r.Restored.Entry, r.Restored.Deleted, r.Restored.Due)
	case r.Source != nil && (r.Source.Kind != ObjectVolume && r.Source.Kind != ObjectSnapshot || !ValidKey(r.Source.Key) || r.Source.Share == ""):
		return fmt.Errorf("its source is %q", r.Source)
	case !ValidNonce(r.Nonce):
		return fmt.Errorf("its nonce is %q", r.Nonce)
	case r.Shallow && (r.Source == nil || r.Source.Kind != ObjectSnapshot || r.Directory != SnapshotDirectory(r.Source.Key)):
		return fmt.Errorf("it has no directory of its own, and its source is %v", r.Source)
	case r.Shallow:
		return nil
	}
	return CheckDirectory(r.Directory)
}

// isMinusOne reports whether id is -1, which means "unchanged" for chown(2).
func isMinusOne(id *uint32) bool { return id != nil && *id == 1<<32-1 }

// Differences describes how the existing volume r differs from the requested volume w of the same
// name. "": it has all requested properties.
func (r *Record) Differences(w *Record, c Capacity) string {
	var d []string
	add := func(what string, has, wants any) {
		d = append(d, fmt.Sprintf("%s is %v, not %v", what, has, wants))
	}
	if !c.Contains(r.Capacity) {
		d = append(d, fmt.Sprintf("its capacity is %d bytes, not %s", r.Capacity, c))
	}
	if r.Directory != w.Directory {
		add("its directory", quote(r.Directory), quote(w.Directory))
	}
	if has, wants := optionalText("%04o", r.Mode), optionalText("%04o", w.Mode); has != wants {
		add("mountPermissions", has, wants)
	}
	if has, wants := optionalText("%d", r.UID), optionalText("%d", w.UID); has != wants {
		add("uid", has, wants)
	}
	if has, wants := optionalText("%d", r.GID), optionalText("%d", w.GID); has != wants {
		add("gid", has, wants)
	}
	if r.RequestedOnDelete != w.RequestedOnDelete {
		add("onDelete", quote(string(r.RequestedOnDelete)), quote(string(w.RequestedOnDelete)))
	}
	if r.Adopt != w.Adopt {
		add("existingDirectory: adopt", r.Adopt, w.Adopt)
	}
	if has, wants := sourceText(r.Source), sourceText(w.Source); has != wants {
		add("its content", has, wants)
	}
	return strings.Join(d, "; ")
}

func optionalText(format string, n *uint32) string {
	if n == nil {
		return "the default"
	}
	return fmt.Sprintf(format, *n)
}

func sourceText(s *Source) string {
	if s == nil {
		return "new"
	}
	return "that of " + s.String()
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
