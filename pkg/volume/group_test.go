// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// groupRecord returns one with every field set and its encoding.
func groupRecord(t *testing.T) (GroupRecord, []byte) {
	t.Helper()
	r := GroupRecord{
		Version: RecordVersion, Key: "group-1", Name: "group-1", Created: time.Date(2026, 8, 1, 12, 0, 0, 42, time.UTC),
		Members: []Member{{`"ready": 0`, "pvc-1"}, {"snap-2", "pvc-2"}},
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r, data
}

// TestGroupRecordRoundTrip also has a group made ready by its one digit.
func TestGroupRecordRoundTrip(t *testing.T) {
	want, data := groupRecord(t)
	got, err := DecodeGroupRecord("group-1", data)
	wantKind(t, "a record", err, nil)
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("a record came back as %+v, want %+v", got, want)
	}
	data[ReadyAt(data)] = '1'
	got, err = DecodeGroupRecord("group-1", data)
	wantKind(t, "a record made ready", err, nil)
	if want.Ready = 1; !reflect.DeepEqual(got, &want) {
		t.Errorf("a record made ready in place is %+v, want %+v", got, want)
	}
	if encoded, _ := want.Encode(); !bytes.Equal(encoded, data) {
		t.Errorf("a record made ready in place is\n%s, and else\n%s", data, encoded)
	}
}

func TestDecodeGroupRecordDamaged(t *testing.T) {
	r, data := groupRecord(t)
	for n := range len(data) - 1 { // without the last line feed it is whole
		if _, err := DecodeGroupRecord("group-1", data[:n]); Kind(err) != ErrDamaged {
			t.Fatalf("truncated to %d of %d bytes: %v", n, len(data), err)
		}
	}
	_, ofSnapshot := snapshotRecord(t)
	for what, text := range map[string]string{
		"nothing": "null", "empty": "{}", "a tail": string(data) + "}", "two": string(data) + string(data), "that of a snapshot": string(ofSnapshot),
		"unknown field": strings.Replace(string(data), `"key"`, `"x": 1, "key"`, 1),
		"version 0":     strings.Replace(string(data), `"version": 1`, `"version": 0`, 1),
	} {
		_, err := DecodeGroupRecord("group-1", []byte(text))
		wantKind(t, what, err, ErrDamaged)
	}
	for what, lie := range map[string]func(*GroupRecord){
		"another's key": func(r *GroupRecord) { r.Key = "group-2" }, "no name": func(r *GroupRecord) { r.Name = "" },
		"another's name": func(r *GroupRecord) { r.Name = "group-2" }, "ready": func(r *GroupRecord) { r.Ready = 2 },
		"no members": func(r *GroupRecord) { r.Members = nil }, "a nameless member": func(r *GroupRecord) { r.Members = []Member{{"", "pvc-1"}} },
		"a path for a volume": func(r *GroupRecord) { r.Members = append(r.Members[:1:1], Member{"snap-2", "../x"}) },
	} {
		liar := r
		lie(&liar)
		data, err := liar.Encode()
		wantKind(t, what, err, nil)
		_, err = DecodeGroupRecord("group-1", data)
		wantKind(t, what, err, ErrDamaged)
		wantText(t, err, "group-1", ".mooring/groups/group-1.json")
	}
	_, err := DecodeGroupRecord("group-2", data)
	wantKind(t, "under another key", err, ErrDamaged)
	newer := strings.Replace(string(data), `"version": 1`, `"version": 2, "ours": {}`, 1)
	_, err = DecodeGroupRecord("group-1", []byte(newer))
	wantKind(t, "version 2", err, ErrConflict)
	wantText(t, err, "version 2", "upgrade")
}
