// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// sampleGroupRecord returns a record with every field set, and its encoding.
func sampleGroupRecord(t testing.TB) (GroupRecord, []byte) {
	t.Helper()
	r := GroupRecord{
		Header: Header{Version: RecordVersion}, Key: "group-1", Name: "group-1", Maker: "controller-0", Run: "7f3a", Nonce: aNonce, Created: time.Date(2026, 8, 1, 12, 0, 0, 42, time.UTC),
		Members: []Member{{`"key": 0`, "pvc-1"}, {"snap-2", "pvc-2"}},
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r, data
}

func TestGroupRecordRoundTrip(t *testing.T) {
	want, data := sampleGroupRecord(t)
	got, err := DecodeGroupRecord("group-1", data)
	wantKind(t, "a record", err, nil)
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("a record came back as %+v, want %+v", got, want)
	}
}

func TestDecodeGroupRecordDamaged(t *testing.T) {
	r, data := sampleGroupRecord(t)
	for n := range len(data) - 1 { // it is complete without the last line feed
		if _, err := DecodeGroupRecord("group-1", data[:n]); Kind(err) != ErrDamaged {
			t.Fatalf("truncated to %d of %d bytes: %v", n, len(data), err)
		}
	}
	_, ofSnapshot := sampleSnapshotRecord(t)
	for what, text := range map[string]string{
		"nothing": "null", "empty": "{}", "a tail": string(data) + "}", "two": string(data) + string(data), "that of a snapshot": string(ofSnapshot),
		"wrong type": strings.Replace(string(data), `"members": [`, `"members": [7,`, 1),
	} {
		_, err := DecodeGroupRecord("group-1", []byte(text))
		wantKind(t, what, err, ErrDamaged)
	}
	for what, change := range map[string]func(*GroupRecord){
		"another's key": func(r *GroupRecord) { r.Key = "group-2" }, "no name": func(r *GroupRecord) { r.Name = "" },
		"another's name": func(r *GroupRecord) { r.Name = "group-2" }, "no nonce": func(r *GroupRecord) { r.Nonce = "" }, "nonce": func(r *GroupRecord) { r.Nonce = "0" },
		"no members": func(r *GroupRecord) { r.Members = nil }, "a nameless member": func(r *GroupRecord) { r.Members = []Member{{"", "pvc-1"}} },
		"a path for a volume": func(r *GroupRecord) { r.Members = append(r.Members[:1:1], Member{"snap-2", "../x"}) },
	} {
		bad := r
		change(&bad)
		data, err := bad.Encode()
		wantKind(t, what, err, nil)
		_, err = DecodeGroupRecord("group-1", data)
		wantKind(t, what, err, ErrDamaged)
		wantText(t, err, "group-1", ".mooring/groups/group-1/record.json")
	}
	_, err := DecodeGroupRecord("group-2", data)
	wantKind(t, "under another key", err, ErrDamaged)
}

func FuzzDecodeGroupRecord(f *testing.F) {
	_, data := sampleGroupRecord(f)
	fuzzSeeds(f, "group-1", data)
	f.Fuzz(func(t *testing.T, key string, data []byte) { fuzzDecode(t, key, data, DecodeGroupRecord) })
}
