// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// GroupRecord says which snapshots were made together. All of them are on its share.
type GroupRecord struct {
	Version int `json:"version"`
	// Ready is 0 while the snapshots are being made, and none of them is there for use, and
	// 1 from then on: see Record.
	Ready   int       `json:"ready"`
	Key     string    `json:"key"`
	Name    string    `json:"name"`
	Members []Member  `json:"members"`
	Created time.Time `json:"created"`
}

// Member is one snapshot of a group, and the volume that it is of.
type Member struct {
	Snapshot string `json:"snapshot"` // its CSI name
	Volume   string `json:"volume"`   // the volume's key
}

// Encode returns the record as it stands on a share.
func (r GroupRecord) Encode() ([]byte, error) {
	r.Version = RecordVersion
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the record of group %s: %w", r.Key, err)
	}
	return append(data, '\n'), nil
}

// DecodeGroupRecord reads the record of the group key. One that is not whole, or that says
// something impossible, is ErrDamaged; one of a newer version is ErrConflict.
func DecodeGroupRecord(key string, data []byte) (*GroupRecord, error) {
	damaged := func(format string, args ...any) error {
		return Errorf(ErrDamaged, "the record of the snapshot group %s cannot be believed: %s; nothing was changed: restore %s/groups/%s.json on the share from a backup",
			key, fmt.Sprintf(format, args...), StateDir, key)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, damaged("it is not whole JSON: %v", err)
	}
	if version.Version > RecordVersion {
		return nil, Errorf(ErrConflict, "the record of the snapshot group %s is of version %d, and this Mooring knows %d: upgrade Mooring", key, version.Version, RecordVersion)
	}
	var r GroupRecord
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
	case r.Ready != 0 && r.Ready != 1:
		return nil, damaged("ready is %d", r.Ready)
	case r.Key != key || r.Name == "" || KeyFor(r.Name) != key:
		return nil, damaged("it is that of %q, named %q", r.Key, r.Name)
	case len(r.Members) == 0:
		return nil, damaged("it has no members")
	}
	for _, m := range r.Members {
		if m.Snapshot == "" || !validKey(m.Volume) {
			return nil, damaged("a member is %q of volume %q", m.Snapshot, m.Volume)
		}
	}
	return &r, nil
}

// Group is what the controller tells of snapshots that were made together.
type Group struct {
	Handle    Handle
	Snapshots []Snapshot
	Created   time.Time
}
