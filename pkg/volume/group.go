// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"time"
)

// GroupRecord is the record of a snapshot group. All its snapshots are on the same share.
type GroupRecord struct {
	Header
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Members []Member `json:"members"`
	// Maker, Run and Nonce are as in Record.
	Maker   string    `json:"maker"`
	Run     string    `json:"run"`
	Nonce   string    `json:"nonce"`
	Created time.Time `json:"created"`
}

// Member is one snapshot of a group, with its source volume.
type Member struct {
	Snapshot string `json:"snapshot"` // its CSI name
	Volume   string `json:"volume"`   // the volume's key
}

func groupFile(key string) recordFile {
	return recordFile{
		what:   "the record of the snapshot group " + key,
		remedy: "restore " + StateDir + "/groups/" + key + "/record.json on the share from a backup",
	}
}

// Encode returns the record as it is stored on a share.
func (r GroupRecord) Encode() ([]byte, error) { return encode(groupFile(r.Key), &r) }

// DecodeGroupRecord reads the record of the group key. Its errors are those of DecodeRecord.
func DecodeGroupRecord(key string, data []byte) (*GroupRecord, error) {
	return decode(groupFile(key), data, func(r *GroupRecord) error { return r.check(key) })
}

// CheckRequires returns ErrPrecondition if the record requires a feature that this program does not
// know. Every operation that changes or deletes a group calls it first.
func (r *GroupRecord) CheckRequires() error { return groupFile(r.Key).checkRequires(&r.Header) }

func (r *GroupRecord) check(key string) error {
	switch {
	case r.Key != key || r.Name == "" || KeyFor(r.Name) != key:
		return fmt.Errorf("it is that of %q, named %q", r.Key, r.Name)
	case len(r.Members) == 0:
		return fmt.Errorf("it has no members")
	case !ValidNonce(r.Nonce):
		return fmt.Errorf("its nonce is %q", r.Nonce)
	}
	for _, m := range r.Members {
		if m.Snapshot == "" || !ValidKey(m.Volume) {
			return fmt.Errorf("a member is %q of volume %q", m.Snapshot, m.Volume)
		}
	}
	return nil
}

// Group is a snapshot group as the controller reports it.
type Group struct {
	Handle    Handle
	Snapshots []Snapshot
	Created   time.Time
}
