// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	aNonce     = "0123456789abcdef"
	otherNonce = "fedcba9876543210"
)

// sampleRecord returns a record with every field set, and its encoding.
func sampleRecord(t testing.TB) (Record, []byte) {
	t.Helper()
	r := Record{
		Header: Header{Version: RecordVersion}, Key: "pvc-1", Name: "pvc-1", Directory: `shop/"key": 0 <ä>`, Capacity: 1 << 40,
		Mode: new(uint32(0o2770)), UID: new(uint32(0)), GID: new(uint32(1000)), Adopt: true, Adopted: true, RequestedOnDelete: Retain,
		OnDelete: Archive, Retention: new(24 * time.Hour), PVC: &PVC{"shop", "db"},
		Restored: &Restored{"pvc-1." + otherNonce, time.Unix(1785585600, 0).UTC(), time.Unix(1785672000, 0).UTC()},
		Maker:    "controller-0", Run: "7f3a", Nonce: aNonce, Created: time.Date(2026, 8, 1, 12, 0, 0, 42, time.UTC),
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r, data
}

func TestRecordRoundTrip(t *testing.T) {
	full, data := sampleRecord(t)
	got, err := DecodeRecord("pvc-1", data)
	wantKind(t, "a full record", err, nil)
	if !reflect.DeepEqual(got, &full) {
		t.Errorf("a record came back as %+v, want %+v", got, full)
	}
	odd := Record{Key: KeyFor("odd/name"), Name: "odd/name", Directory: "a", OnDelete: Delete, Nonce: aNonce}
	data, err = odd.Encode()
	wantKind(t, "a short record", err, nil)
	got, err = DecodeRecord(odd.Key, data)
	wantKind(t, "a short record", err, nil)
	if odd.Version = RecordVersion; !reflect.DeepEqual(got, &odd) {
		t.Errorf("a record came back as %+v, want %+v", got, odd)
	}
}

func TestDecodeRecordDamaged(t *testing.T) {
	r, data := sampleRecord(t)
	for n := range len(data) - 1 { // it is complete without the last line feed
		if _, err := DecodeRecord("pvc-1", data[:n]); Kind(err) != ErrDamaged {
			t.Fatalf("truncated to %d of %d bytes: %v", n, len(data), err)
		}
	}
	for what, text := range map[string]string{
		"no JSON": "pvc-1", "zeros": strings.Repeat("\x00", len(data)), "nothing": "null", "a list": "[]", "empty": "{}",
		"a tail of zeros": string(data) + "\x00", "a tail": string(data) + "}", "two": string(data) + string(data),
		"wrong type": strings.Replace(string(data), `"adopt": true`, `"adopt": 1`, 1), "another case": strings.Replace(string(data), `"key"`, `"Key"`, 1),
	} {
		_, err := DecodeRecord("pvc-1", []byte(text))
		wantKind(t, what, err, ErrDamaged)
	}
	for what, change := range map[string]func(*Record){
		"another's key": func(r *Record) { r.Key = "pvc-2" }, "no name": func(r *Record) { r.Name = "" }, "another's name": func(r *Record) { r.Name = "pvc-2" },
		"capacity": func(r *Record) { r.Capacity = -1 }, "no onDelete": func(r *Record) { r.OnDelete = "" }, "onDelete": func(r *Record) { r.OnDelete = "burn" },
		"asked onDelete": func(r *Record) { r.RequestedOnDelete = "burn" }, "retention": func(r *Record) { r.Retention = new(-time.Second) },
		"mode": func(r *Record) { r.Mode = new(uint32(0o10000)) }, "uid": func(r *Record) { r.UID = new(uint32(1<<32 - 1)) }, "gid": func(r *Record) { r.GID = new(uint32(1<<32 - 1)) },
		"..": func(r *Record) { r.Directory = ".." }, "/etc": func(r *Record) { r.Directory = "/etc" }, ".mooring": func(r *Record) { r.Directory = ".mooring" },
		"no directory": func(r *Record) { r.Directory = "" }, "the trash": func(r *Record) { r.Directory = ".mooring/trash" }, "a detour": func(r *Record) { r.Directory = "a/../../b" },
		"no nonce": func(r *Record) { r.Nonce = "" }, "nonce": func(r *Record) { r.Nonce = "0123456789ABCDEF" },
		"claim": func(r *Record) { r.PVC = &PVC{Name: "db"} }, "a claim's name": func(r *Record) { r.PVC = &PVC{Namespace: "shop"} },
		"restored from nothing": func(r *Record) { r.Restored = &Restored{Deleted: r.Created, Due: r.Created} },
		"from what is no entry": func(r *Record) { r.Restored = &Restored{"../x." + aNonce, r.Created, r.Created} },
		"from a snapshot":       func(r *Record) { r.Restored = &Restored{TrashID(TrashSnapshot, "a", aNonce), r.Created, r.Created} },
		"from what is purged":   func(r *Record) { r.Restored = &Restored{PurgingName("a." + aNonce), r.Created, r.Created} },
		"from a record": func(r *Record) {
			r.Restored = &Restored{TrashRecordName("a."+aNonce, r.Created, r.Created), r.Created, r.Created}
		},
		"deleted never": func(r *Record) { r.Restored = &Restored{"a." + aNonce, time.Time{}, r.Created} },
		"due never":     func(r *Record) { r.Restored = &Restored{"a." + aNonce, r.Created, time.Time{}} },
	} {
		bad := r
		change(&bad)
		data, err := bad.Encode()
		wantKind(t, what, err, nil)
		_, err = DecodeRecord("pvc-1", data)
		wantKind(t, what, err, ErrDamaged)
		wantText(t, err, "pvc-1", ".mooring/volumes/pvc-1/record.json")
	}
	_, err := DecodeRecord("pvc-2", data)
	wantKind(t, "under another key", err, ErrDamaged)
}

func TestDifferences(t *testing.T) {
	has, _ := sampleRecord(t)
	same := has
	same.OnDelete, same.Retention, same.Nonce, same.Run, same.Maker, same.Capacity = Delete, nil, "", "", "", 0 // the request does not contain them
	for what, c := range map[string]struct {
		change   func(*Record)
		capacity Capacity
		want     string
	}{
		"nothing":              {func(*Record) {}, Capacity{}, ""},
		"a smaller size":       {func(*Record) {}, Capacity{Required: 1 << 30}, ""},
		"a bigger size":        {func(*Record) {}, Capacity{Required: 1<<40 + 1}, "its capacity is 1099511627776 bytes, not at least 1099511627777 bytes"},
		"a lower limit":        {func(*Record) {}, Capacity{Limit: 7}, "not 0 to 7 bytes"},
		"another directory":    {func(r *Record) { r.Directory = "b" }, Capacity{}, `not "b"`},
		"another mode":         {func(r *Record) { r.Mode = new(uint32(0o770)) }, Capacity{}, "mountPermissions is 2770, not 0770"},
		"the default mode":     {func(r *Record) { r.Mode = nil }, Capacity{}, "mountPermissions is 2770, not the default"},
		"another uid":          {func(r *Record) { r.UID = new(uint32(1)) }, Capacity{}, "uid is 0, not 1"},
		"the default uid":      {func(r *Record) { r.UID = nil }, Capacity{}, "uid is 0, not the default"},
		"another gid":          {func(r *Record) { r.GID = new(uint32(1)) }, Capacity{}, "gid is 1000, not 1"},
		"another onDelete":     {func(r *Record) { r.RequestedOnDelete = Delete }, Capacity{}, `onDelete is "retain", not "delete"`},
		"another adoption":     {func(r *Record) { r.Adopt = false }, Capacity{}, "existingDirectory: adopt is true, not false"},
		"several at one place": {func(r *Record) { r.GID, r.UID = nil, nil }, Capacity{}, "uid is 0, not the default; gid is 1000, not the default"},
	} {
		wish := same
		c.change(&wish)
		got := has.Differences(&wish, c.capacity)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) || strings.Count(got, "; ") != strings.Count(c.want, "; ") {
			t.Errorf("%s: the difference is %q, want %q", what, got, c.want)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	_, data := sampleRecord(f)
	fuzzSeeds(f, "pvc-1", data)
	f.Add("a", []byte(`{"version":1,"key":"a","name":"a","directory":"a","onDelete":"delete","nonce":"`+aNonce+`","created":"2026-08-01T12:00:00+02:00"}`))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		r := fuzzDecode(t, key, data, DecodeRecord)
		if r != nil && !r.Shallow && CheckDirectory(r.Directory) != nil {
			t.Errorf("%q has the directory %q", data, r.Directory)
		}
	})
}
