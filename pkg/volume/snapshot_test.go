// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// sampleSnapshotRecord returns a record with every field set, and its encoding.
func sampleSnapshotRecord(t testing.TB) (SnapshotRecord, []byte) {
	t.Helper()
	r := SnapshotRecord{
		Header: Header{Version: RecordVersion}, Key: "snap-1", Name: "snap-1", Volume: "pvc-1", Group: "group-1", GroupNonce: otherNonce,
		Capacity: 1 << 40, Size: 1 << 30, Plain: true, Maker: "controller-0", Run: "7f3a", Nonce: aNonce, Created: time.Date(2026, 8, 1, 12, 0, 0, 42, time.UTC),
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r, data
}

func TestSnapshotRecordRoundTrip(t *testing.T) {
	full, data := sampleSnapshotRecord(t)
	got, err := DecodeSnapshotRecord("snap-1", data)
	wantKind(t, "a full record", err, nil)
	if !reflect.DeepEqual(got, &full) {
		t.Errorf("a record came back as %+v, want %+v", got, full)
	}
	odd := SnapshotRecord{Key: KeyFor("odd/name"), Name: "odd/name", Volume: "v", Nonce: aNonce}
	data, err = odd.Encode()
	wantKind(t, "a short record", err, nil)
	got, err = DecodeSnapshotRecord(odd.Key, data)
	wantKind(t, "a short record", err, nil)
	if odd.Version = RecordVersion; !reflect.DeepEqual(got, &odd) {
		t.Errorf("a record came back as %+v, want %+v", got, odd)
	}
}

func TestDecodeSnapshotRecordDamaged(t *testing.T) {
	r, data := sampleSnapshotRecord(t)
	for n := range len(data) - 1 { // it is complete without the last line feed
		if _, err := DecodeSnapshotRecord("snap-1", data[:n]); Kind(err) != ErrDamaged {
			t.Fatalf("truncated to %d of %d bytes: %v", n, len(data), err)
		}
	}
	_, ofVolume := sampleRecord(t)
	for what, text := range map[string]string{
		"no JSON": "snap-1", "zeros": strings.Repeat("\x00", len(data)), "nothing": "null", "a list": "[]", "empty": "{}",
		"a tail": string(data) + "}", "two": string(data) + string(data), "that of a volume": string(ofVolume),
		"wrong type": strings.Replace(string(data), `"plain": true`, `"plain": 1`, 1),
	} {
		_, err := DecodeSnapshotRecord("snap-1", []byte(text))
		wantKind(t, what, err, ErrDamaged)
	}
	for what, change := range map[string]func(*SnapshotRecord){
		"another's key": func(r *SnapshotRecord) { r.Key = "snap-2" }, "no name": func(r *SnapshotRecord) { r.Name = "" },
		"another's name": func(r *SnapshotRecord) { r.Name = "snap-2" }, "no volume": func(r *SnapshotRecord) { r.Volume = "" },
		"a path for a volume": func(r *SnapshotRecord) { r.Volume = "../x" }, "a path for a group": func(r *SnapshotRecord) { r.Group = "a/b" },
		"capacity": func(r *SnapshotRecord) { r.Capacity = -1 }, "size": func(r *SnapshotRecord) { r.Size = -1 },
		"no nonce": func(r *SnapshotRecord) { r.Nonce = "" }, "nonce": func(r *SnapshotRecord) { r.Nonce = "../x" }, "the group's nonce": func(r *SnapshotRecord) { r.GroupNonce = "g" },
		"a group without nonce": func(r *SnapshotRecord) { r.GroupNonce = "" }, "a nonce without group": func(r *SnapshotRecord) { r.Group = "" },
	} {
		bad := r
		change(&bad)
		data, err := bad.Encode()
		wantKind(t, what, err, nil)
		_, err = DecodeSnapshotRecord("snap-1", data)
		wantKind(t, what, err, ErrDamaged)
		wantText(t, err, "snap-1", ".mooring/snapshots/snap-1/record.json")
	}
	_, err := DecodeSnapshotRecord("snap-2", data)
	wantKind(t, "under another key", err, ErrDamaged)
}

// TestObject parses the file names of objects, and refuses other names.
func TestObject(t *testing.T) {
	for _, o := range []Object{{ObjectVolume, "pvc-1"}, {ObjectSnapshot, "snap-1"}, {ObjectSnapshot, KeyFor("odd/name")}} {
		if got, ok := ParseObject(o.FileName()); !ok || got != o {
			t.Errorf("%s comes back as %+v, %v", o, got, ok)
		}
	}
	for _, name := range []string{"", "pvc-1", "volume", "volume.", ".pvc-1", "group.g", "held.x", "Volume.a", "volume.a/b", "volume...", "snapshot.a@b"} {
		if got, ok := ParseObject(name); ok {
			t.Errorf("%q is %+v", name, got)
		}
	}
	s := Source{Object{ObjectSnapshot, "snap-1"}, "nas1"}
	if s.String() != "snapshot nas1/snap-1" || s.Handle() != (Handle{Share: "nas1", Key: "snap-1"}) {
		t.Errorf("a source is %s, with the handle %v", s, s.Handle())
	}
}

// TestSnapshotDirectory checks that no snapshot's directory is allowed as a volume's directory.
func TestSnapshotDirectory(t *testing.T) {
	for _, key := range []string{"snap-1", KeyFor("odd/name"), "data"} {
		dir := SnapshotDirectory(key)
		if !IsSnapshotDirectory(dir) {
			t.Errorf("%q is not a snapshot's directory", dir)
		}
		wantKind(t, dir, CheckDirectory(dir), ErrInvalid)
	}
	for _, dir := range []string{
		"", "data", "snapshots/a/data", "a/.mooring/snapshots/a/data", "/.mooring/snapshots/a/data", "./.mooring/snapshots/a/data",
		".mooring", ".mooring/snapshots", ".mooring/snapshots/data", ".mooring/snapshots//data", ".mooring/snapshots/a", ".mooring/snapshots/a/",
		".mooring/snapshots/a/data/", ".mooring/snapshots/a/data/b", ".mooring/snapshots/a/b/data", ".mooring/snapshots/../data",
		".mooring/snapshots/./data", ".mooring/snapshots/a/users", ".mooring/trash/a/data", ".Mooring/snapshots/a/data", ".mooring/snapshots/a/../../../b/data",
	} {
		if IsSnapshotDirectory(dir) {
			t.Errorf("%q is a snapshot's directory", dir)
		}
	}
}

func TestCheckSnapshotParams(t *testing.T) {
	for what, parameters := range map[string]keys{"nothing": nil, "theirs": {reservedPrefix + "volumesnapshot/name": "x"}, "a field": {"deletionPolicy": "Delete"}} {
		wantKind(t, what, CheckSnapshotParams(parameters), nil)
	}
	err := CheckSnapshotParams(keys{reservedPrefix + "volumesnapshot/name": "x", "share": "nas1", "b": ""})
	wantKind(t, "two", err, ErrInvalid)
	wantText(t, err, `"share" is not a parameter`, `"b" is not a parameter`, "takes no parameters")
}

// TestRecordSource decodes records of copied and of shallow volumes.
func TestRecordSource(t *testing.T) {
	of := func(kind ObjectKind, key, share string) *Source { return &Source{Object{kind, key}, share} }
	tree := SnapshotDirectory("snap-1")
	for what, c := range map[string]struct {
		source    *Source
		shallow   bool
		directory string
		kind      error
	}{
		"a restore":                       {of(ObjectSnapshot, "snap-1", "nas1"), false, "a", nil},
		"a clone from elsewhere":          {of(ObjectVolume, "pvc-0", "nas2"), false, "a", nil},
		"a snapshot itself":               {of(ObjectSnapshot, "snap-1", "nas1"), true, tree, nil},
		"of another kind":                 {of("group", "g", "nas1"), false, "a", ErrDamaged},
		"without a key":                   {of(ObjectVolume, "", "nas1"), false, "a", ErrDamaged},
		"of a path":                       {of(ObjectVolume, "../a", "nas1"), false, "a", ErrDamaged},
		"without a share":                 {of(ObjectVolume, "pvc-0", ""), false, "a", ErrDamaged},
		"itself, of nothing":              {nil, true, tree, ErrDamaged},
		"itself, of a volume":             {of(ObjectVolume, "snap-1", "nas1"), true, tree, ErrDamaged},
		"itself, elsewhere":               {of(ObjectSnapshot, "snap-1", "nas1"), true, "a", ErrDamaged},
		"another snapshot itself":         {of(ObjectSnapshot, "snap-2", "nas1"), true, tree, ErrDamaged},
		"in a snapshot, but a copy of it": {of(ObjectSnapshot, "snap-1", "nas1"), false, tree, ErrDamaged},
	} {
		r, _ := sampleRecord(t)
		r.Source, r.Shallow, r.Directory = c.source, c.shallow, c.directory
		data, err := r.Encode()
		wantKind(t, what, err, nil)
		got, err := DecodeRecord("pvc-1", data)
		wantKind(t, what, err, c.kind)
		if c.kind == nil && !reflect.DeepEqual(got, &r) {
			t.Errorf("%s: it came back as %+v, want %+v", what, got, r)
		}
	}
}

// TestDifferencesOfSource compares volumes of one name with different sources.
func TestDifferencesOfSource(t *testing.T) {
	has, _ := sampleRecord(t)
	has.Source = &Source{Object{ObjectSnapshot, "snap-1"}, "nas1"}
	for want, source := range map[string]*Source{
		"":          {Object{ObjectSnapshot, "snap-1"}, "nas1"},
		"not new":   nil,
		"nas1/s-2":  {Object{ObjectSnapshot, "s-2"}, "nas1"},
		"nas2/snap": {Object{ObjectSnapshot, "snap-1"}, "nas2"},
		"volume":    {Object{ObjectVolume, "snap-1"}, "nas1"},
	} {
		wish := has
		wish.Source = source
		if got := has.Differences(&wish, Capacity{}); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("with the source %v, the difference is %q, want %q", source, got, want)
		}
	}
}

func FuzzDecodeSnapshotRecord(f *testing.F) {
	_, data := sampleSnapshotRecord(f)
	fuzzSeeds(f, "snap-1", data)
	f.Add("a", []byte(`{"version":1,"key":"a","name":"a","volume":"b","nonce":"`+aNonce+`","created":"2026-08-01T12:00:00+02:00"}`))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		r := fuzzDecode(t, key, data, DecodeSnapshotRecord)
		if r != nil && (!IsSnapshotDirectory(SnapshotDirectory(r.Key)) || !ValidKey(r.Volume)) {
			t.Errorf("%q is the record of snapshot %q of volume %q", data, r.Key, r.Volume)
		}
	})
}

// TestRestoreSize takes snapshots of volumes that hold more than their size, which a share allows: a
// restored volume may have the size of the volume.
func TestRestoreSize(t *testing.T) {
	for _, c := range []struct{ capacity, size, want int64 }{{1 << 20, 3 << 20, 1 << 20}, {1 << 30, 5, 5}, {0, 5, 5}} {
		r := SnapshotRecord{Capacity: c.capacity, Size: c.size}
		if got := r.RestoreSize(); got != c.want {
			t.Errorf("a snapshot of %d bytes in a volume of %d can be restored to %d, want %d", c.size, c.capacity, got, c.want)
		}
	}
}
