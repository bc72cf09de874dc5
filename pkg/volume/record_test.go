// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// record returns one with every field set and its encoding.
func record(t testing.TB) (Record, []byte) {
	t.Helper()
	r := Record{
		Version: RecordVersion, Key: "pvc-1", Name: "pvc-1", Directory: `shop/"ready": 0 <ä>`, Capacity: 1 << 40,
		Mode: new(uint32(0o2770)), UID: new(uint32(0)), GID: new(uint32(1000)), Adopt: true, Adopted: true, Asked: Retain,
		OnDelete: Archive, Retention: new(24 * time.Hour), PVC: &PVC{"shop", "db"}, Restored: &Restored{"pvc-1.1795410584443218702", 1<<64 - 1, -1}, Maker: "controller-0", Nonce: `"ready": 0`, Created: time.Date(2026, 8, 1, 12, 0, 0, 42, time.UTC),
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r, data
}

func TestRecordRoundTrip(t *testing.T) {
	full, data := record(t)
	got, err := DecodeRecord("pvc-1", data)
	wantKind(t, "a full record", err, nil)
	if !reflect.DeepEqual(got, &full) {
		t.Errorf("a record came back as %+v, want %+v", got, full)
	}
	odd := Record{Key: KeyFor("odd/name"), Name: "odd/name", Directory: "a", OnDelete: Delete}
	data, err = odd.Encode()
	wantKind(t, "a short record", err, nil)
	got, err = DecodeRecord(odd.Key, data)
	wantKind(t, "a short record", err, nil)
	if odd.Version = RecordVersion; !reflect.DeepEqual(got, &odd) {
		t.Errorf("a record came back as %+v, want %+v", got, odd)
	}
}

func TestReadyAt(t *testing.T) {
	want, data := record(t)
	at := ReadyAt(data)
	if at < 0 || data[at] != '0' {
		t.Fatalf("the digit is not at %d in %s", at, data)
	}
	data[at] = '1'
	got, err := DecodeRecord("pvc-1", data)
	wantKind(t, "a record made ready", err, nil)
	if want.Ready = 1; !reflect.DeepEqual(got, &want) {
		t.Errorf("a record made ready in place is %+v, want %+v", got, want)
	}
	if encoded, _ := want.Encode(); !bytes.Equal(encoded, data) {
		t.Errorf("a record made ready in place is\n%s, and else\n%s", data, encoded)
	}
	if at := ReadyAt([]byte("{}")); at != -1 {
		t.Errorf("what has no digit has it at %d", at)
	}
}

func TestDecodeRecordDamaged(t *testing.T) {
	r, data := record(t)
	for n := range len(data) - 1 { // without the last line feed it is whole
		if _, err := DecodeRecord("pvc-1", data[:n]); Kind(err) != ErrDamaged {
			t.Fatalf("truncated to %d of %d bytes: %v", n, len(data), err)
		}
	}
	for what, text := range map[string]string{
		"no JSON": "pvc-1", "zeros": strings.Repeat("\x00", len(data)), "nothing": "null", "a list": "[]", "empty": "{}",
		"a tail of zeros": string(data) + "\x00", "a tail": string(data) + "}", "two": string(data) + string(data),
		"unknown field": strings.Replace(string(data), `"key"`, `"x": 1, "key"`, 1),
		"wrong type":    strings.Replace(string(data), `"ready": 0`, `"ready": false`, 1),
		"no version":    strings.Replace(string(data), `"version": 1,`, "", 1),
		"version 0":     strings.Replace(string(data), `"version": 1`, `"version": 0`, 1),
		"version text":  strings.Replace(string(data), `"version": 1`, `"version": "2"`, 1),
		"ready 2":       strings.Replace(string(data), `"ready": 0`, `"ready": 2`, 1),
		"ready -1":      strings.Replace(string(data), `"ready": 0`, `"ready": -1`, 1),
	} {
		_, err := DecodeRecord("pvc-1", []byte(text))
		wantKind(t, what, err, ErrDamaged)
	}
	for what, lie := range map[string]func(*Record){
		"another's key": func(r *Record) { r.Key = "pvc-2" }, "no name": func(r *Record) { r.Name = "" }, "another's name": func(r *Record) { r.Name = "pvc-2" },
		"capacity": func(r *Record) { r.Capacity = -1 }, "no onDelete": func(r *Record) { r.OnDelete = "" }, "onDelete": func(r *Record) { r.OnDelete = "burn" },
		"asked onDelete": func(r *Record) { r.Asked = "burn" }, "retention": func(r *Record) { r.Retention = new(-time.Second) },
		"mode": func(r *Record) { r.Mode = new(uint32(0o10000)) }, "uid": func(r *Record) { r.UID = new(uint32(1<<32 - 1)) }, "gid": func(r *Record) { r.GID = new(uint32(1<<32 - 1)) },
		"..": func(r *Record) { r.Directory = ".." }, "/etc": func(r *Record) { r.Directory = "/etc" }, ".mooring": func(r *Record) { r.Directory = ".mooring" },
		"no directory": func(r *Record) { r.Directory = "" }, "the trash": func(r *Record) { r.Directory = ".mooring/trash" }, "a detour": func(r *Record) { r.Directory = "a/../../b" },
	} {
		liar := r
		lie(&liar)
		data, err := liar.Encode()
		wantKind(t, what, err, nil)
		_, err = DecodeRecord("pvc-1", data)
		wantKind(t, what, err, ErrDamaged)
		wantText(t, err, "pvc-1", ".mooring/volumes/pvc-1.json")
	}
	_, err := DecodeRecord("pvc-2", data)
	wantKind(t, "under another key", err, ErrDamaged)
}

func TestDecodeRecordNewer(t *testing.T) {
	_, data := record(t)
	newer := strings.Replace(string(data), `"version": 1`, `"version": 2, "ours": {}`, 1)
	_, err := DecodeRecord("pvc-1", []byte(newer))
	wantKind(t, "version 2", err, ErrConflict)
	wantText(t, err, "version 2", "upgrade")
}

func TestDifferences(t *testing.T) {
	has, _ := record(t)
	same := has
	same.OnDelete, same.Retention, same.Ready, same.Nonce, same.Maker, same.Capacity = Delete, nil, 1, "", "", 0 // none of them is asked for
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
		"another onDelete":     {func(r *Record) { r.Asked = Delete }, Capacity{}, `onDelete is "retain", not "delete"`},
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
	_, data := record(f)
	f.Add("pvc-1", data)
	f.Add("pvc-1", bytes.Replace(data, []byte(`"version": 1`), []byte(`"version": 2`), 1))
	f.Add("pvc-1", data[:len(data)/2])
	f.Add("a", []byte(`{"version":1,"ready":1,"key":"a","name":"a","directory":"a","onDelete":"delete","created":"2026-08-01T12:00:00+02:00"}`))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		r, err := DecodeRecord(key, data)
		if err != nil {
			if kind := Kind(err); kind != ErrDamaged && kind != ErrConflict {
				t.Errorf("%q: %v of kind %v", data, err, kind)
			}
			return
		}
		encoded, err := r.Encode()
		if err != nil {
			t.Fatalf("%q decodes and does not encode: %v", data, err)
		}
		again, err := DecodeRecord(key, encoded)
		if err != nil {
			t.Fatalf("%q decodes, and its encoding %q does not: %v", data, encoded, err)
		}
		if !again.Created.Equal(r.Created) {
			t.Errorf("%v became %v", r.Created, again.Created)
		}
		if again.Created = r.Created; !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v", r, again)
		}
		if at := ReadyAt(encoded); at < 0 || int(encoded[at]-'0') != r.Ready {
			t.Errorf("the digit of Ready is not at %d in %q", at, encoded)
		}
		if CheckDirectory(r.Directory) != nil {
			t.Errorf("%q has the directory %q", data, r.Directory)
		}
	})
}
