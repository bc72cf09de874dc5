// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// decoders are the users of the codec, for tests of their common behavior.
var decoders = map[string]func(key string, data []byte) (any, error){
	"volume":   func(key string, data []byte) (any, error) { return DecodeRecord(key, data) },
	"snapshot": func(key string, data []byte) (any, error) { return DecodeSnapshotRecord(key, data) },
	"group":    func(key string, data []byte) (any, error) { return DecodeGroupRecord(key, data) },
	"format":   func(_ string, data []byte) (any, error) { return DecodeFormat(data) },
}

// recorded is the interface of their results.
type recorded interface {
	Encode() ([]byte, error)
	Unsupported() []string
	CheckRequires() error
}

// samples returns a record of each kind, with its key.
func samples(t testing.TB) map[string]struct {
	key  string
	data []byte
} {
	t.Helper()
	_, volume := sampleRecord(t)
	_, snapshot := sampleSnapshotRecord(t)
	_, group := sampleGroupRecord(t)
	format, err := Format{}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]struct {
		key  string
		data []byte
	}{"volume": {"pvc-1", volume}, "snapshot": {"snap-1", snapshot}, "group": {"group-1", group}, "format": {"", format}}
}

// golden returns the records in testdata/v1. Every version of Mooring must read them: they are never
// changed or removed.
func golden() map[string]any {
	at := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	v1 := Header{Version: 1}
	return map[string]any{
		"volume-short.json": &Record{
			Header: v1, Key: "pvc-1", Name: "pvc-1", Directory: "pvc-1", OnDelete: Delete, Nonce: aNonce, Created: at,
		},
		"volume-full.json": &Record{
			Header: v1, Key: KeyFor("odd/name"), Name: "odd/name", Directory: "shop/<db> & ä", Capacity: 5 << 30,
			Mode: new(uint32(0o2770)), UID: new(uint32(0)), GID: new(uint32(1000)), Adopt: true, Adopted: true, RequestedOnDelete: Retain,
			OnDelete: Archive, Retention: new(24 * time.Hour), PVC: &PVC{"shop", "db"},
			Maker: "controller-0", Run: "1785585600-42", Nonce: aNonce, Created: at.Add(42),
		},
		"volume-clone.json": &Record{
			Header: v1, Key: "pvc-2", Name: "pvc-2", Directory: "pvc-2", Capacity: 1 << 30, OnDelete: Retain, Retention: new(time.Duration),
			Source: &Source{Object{ObjectVolume, "pvc-1"}, "nas1"}, Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"volume-shallow.json": &Record{
			Header: v1, Key: "pvc-3", Name: "pvc-3", Directory: ".mooring/snapshots/snap-1/data", Capacity: 1 << 30, OnDelete: Delete,
			Source: &Source{Object{ObjectSnapshot, "snap-1"}, "nas1"}, Shallow: true, Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"volume-restored.json": &Record{
			Header: v1, Key: "pvc-4", Name: "pvc-4", Directory: "pvc-4", Capacity: 1 << 30, OnDelete: Delete,
			Restored: &Restored{"pvc-4." + otherNonce, at.Add(-2 * time.Hour), at.Add(22 * time.Hour)}, Maker: "mooringctl@host", Run: "r", Nonce: aNonce, Created: at,
		},
		"volume-unknown-fields.json": &Record{
			Header: Header{Version: 7, unknown: raw("Key", `"not key"`, "a b", `[1,{"c":1.50}]`, "tier", `{"name":"<cold>","since":12345678901234567890}`), altered: map[string]alteredField{
				"pvc":    {original: []byte(`{"namespace":"shop","name":"db","uid":"6d0c"}`), plain: []byte(`{"namespace":"shop","name":"db"}`)},
				"source": {original: []byte(`{"kind":"snapshot","key":"snap-1","share":"nas1","export":"/b"}`), plain: []byte(`{"kind":"snapshot","key":"snap-1","share":"nas1"}`)},
			}},
			Key: "pvc-5", Name: "pvc-5", Directory: "pvc-5", Capacity: 1 << 30, OnDelete: Delete, PVC: &PVC{"shop", "db"},
			Source: &Source{Object{ObjectSnapshot, "snap-1"}, "nas1"}, Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"volume-unknown-requirement.json": &Record{
			Header: Header{Version: 7, Requires: []string{"test-feature", "test-other"}, unknown: raw("pool", `"b"`)},
			Key:    "pvc-6", Name: "pvc-6", Directory: "pvc-6", Capacity: 1 << 30, OnDelete: Delete, Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"snapshot.json": &SnapshotRecord{
			Header: v1, Key: "snap-1", Name: "snap-1", Volume: "pvc-1", Capacity: 1 << 30, Size: 4096, Plain: true,
			Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"snapshot-of-group.json": &SnapshotRecord{
			Header: v1, Key: "snap-2", Name: "snap-2", Volume: KeyFor("odd/name"), Group: "group-1", GroupNonce: otherNonce,
			Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"snapshot-unknown-fields.json": &SnapshotRecord{
			Header: Header{Version: 2, Requires: []string{"test-feature"}, unknown: raw("index", `{}`)}, Key: "snap-3", Name: "snap-3", Volume: "pvc-1",
			Maker: "controller-0", Run: "r", Nonce: aNonce, Created: at,
		},
		"group.json": &GroupRecord{
			Header: v1, Key: "group-1", Name: "group-1", Members: []Member{{"snap-2", KeyFor("odd/name")}, {"snap/3", "pvc-2"}},
			Maker: "controller-0", Run: "r", Nonce: otherNonce, Created: at,
		},
		"group-unknown-fields.json": &GroupRecord{
			Header: Header{Version: 2, unknown: raw("quiesced", `true`), altered: map[string]alteredField{
				"members": {original: []byte(`[{"snapshot":"snap-2","volume":"pvc-1","size":1}]`), plain: []byte(`[{"snapshot":"snap-2","volume":"pvc-1"}]`)},
			}},
			Key: "group-2", Name: "group-2", Members: []Member{{"snap-2", "pvc-1"}}, Maker: "controller-0", Run: "r", Nonce: otherNonce, Created: at,
		},
		"format.json":                     &Format{Header: v1},
		"format-unknown-requirement.json": &Format{Header: Header{Version: 2, Requires: []string{"test-feature"}, unknown: raw("shards", `16`)}},
		"format-with-id.json":             &Format{Header: v1, ID: "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"},
	}
}

func raw(pairs ...string) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return fields
}

// TestGolden reads every record in testdata/v1 and writes it unchanged.
func TestGolden(t *testing.T) {
	want := golden()
	files, err := os.ReadDir("testdata/v1")
	if err != nil || len(files) != len(want) {
		t.Errorf("testdata/v1 has %d files (%v), want %d", len(files), err, len(want))
	}
	for name, want := range want {
		data, err := os.ReadFile(filepath.Join("testdata/v1", name))
		if err != nil {
			t.Error(err)
			continue
		}
		kind, _, _ := strings.Cut(strings.TrimSuffix(name, ".json"), "-")
		key := ""
		if f := reflect.ValueOf(want).Elem().FieldByName("Key"); f.IsValid() {
			key = f.String()
		}
		got, err := decoders[kind](key, data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v (%v), want %+v", name, got, err, want)
			continue
		}
		if again, err := got.(recorded).Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s is written (%v) as\n%s, want\n%s", name, err, again, data)
		}
	}
}

// TestHeader tests the header of every kind of record.
func TestHeader(t *testing.T) {
	for kind, sample := range samples(t) {
		decode := func(old, new string) (recorded, error) {
			text := strings.Replace(string(sample.data), old, new, 1)
			if old != new && text == string(sample.data) {
				t.Fatalf("%q is not in %s", old, sample.data)
			}
			r, err := decoders[kind](sample.key, []byte(text))
			if err != nil {
				return nil, err
			}
			return r.(recorded), nil
		}
		version := `"version": 1`
		for what, text := range map[string]string{
			"version 0": `"version": 0`, "version -1": `"version": -1`, "no version": `"x": 1`, "a version of text": `"version": "1"`, "half a version": `"version": 1.5`,
			"another case": `"Version": 1`, "requires text": version + `, "requires": "a"`, "requires a number": version + `, "requires": [1]`,
			"requires nothing": version + `, "requires": [""]`, "requires a path": version + `, "requires": ["../a"]`, "requires a line": version + `, "requires": ["a\n"]`,
			"two": version + "}{" + version, "an invalid field": version + `, "x": y`,
		} {
			_, err := decode(version, text)
			wantKind(t, kind+": "+what, err, ErrDamaged)
			wantText(t, err, "cannot be believed", "nothing was changed")
		}
		for what, text := range map[string]string{"version 1": version, "version 2": `"version": 2`, "requires []": version + `, "requires": []`, "requires null": version + `, "requires": null`} {
			r, err := decode(version, text)
			wantKind(t, kind+": "+what, err, nil)
			if r != nil && (r.Unsupported() != nil || r.CheckRequires() != nil) {
				t.Errorf("%s: %s: the unknown features are %q: %v", kind, what, r.Unsupported(), r.CheckRequires())
			}
		}
		r, err := decode(version, `"version": 2, "later": {"b": [ ], "a": "<"}, "earlier": 1e3, "later": {"b": [ ], "a": "<"}`)
		wantKind(t, kind+": unknown fields", err, nil)
		data, err := r.Encode()
		wantKind(t, kind+": unknown fields", err, nil)
		end := strings.TrimSuffix(strings.Replace(string(sample.data), version, `"version": 2`, 1), "\n}\n")
		if want := end + ",\n  \"earlier\": 1e3,\n  \"later\": {\n    \"b\": [],\n    \"a\": \"<\"\n  }\n}\n"; string(data) != want {
			t.Errorf("%s: with unknown fields it is written as\n%s, want\n%s", kind, data, want)
		}
	}
}

// TestUnsupported decodes records that require an unknown feature.
func TestUnsupported(t *testing.T) {
	features = []string{"known"}
	defer func() { features = nil }()
	of := map[string]string{"volume": "the record of volume pvc-1 requires", "snapshot": "the record of snapshot snap-1 requires", "group": "the record of the snapshot group group-1 requires", "format": "the format of the share requires"}
	for kind, sample := range samples(t) {
		require := func(names string) []byte {
			return bytes.Replace(sample.data, []byte(`"version": 1`), []byte(`"version": 1, "requires": [`+names+`]`), 1)
		}
		r, err := decoders[kind](sample.key, require(`"known"`))
		wantKind(t, kind, err, nil)
		if r := r.(recorded); r.Unsupported() != nil || r.CheckRequires() != nil {
			t.Errorf("%s: a known feature is not supported: %q, %v", kind, r.Unsupported(), r.CheckRequires())
		}
		r, err = decoders[kind](sample.key, require(`"new", "known", "newer"`))
		wantKind(t, kind, err, nil)
		if got := r.(recorded).Unsupported(); !reflect.DeepEqual(got, []string{"new", "newer"}) {
			t.Errorf("%s: the unknown features are %q", kind, got)
		}
		err = r.(recorded).CheckRequires()
		wantKind(t, kind, err, ErrPrecondition)
		wantText(t, err, of[kind]+" new, newer, which this Mooring does not know: upgrade Mooring")
		if kind == "format" {
			continue
		}
		// A record that is unreadable, perhaps because of the unknown feature, is not damaged.
		for what, change := range map[string][2]string{"another type": {`"name": "`, `"name": 1, "x": "`}, "no such nonce": {aNonce, "new"}} {
			for names, want := range map[string]error{`"new"`: ErrPrecondition, `"known"`: ErrDamaged} {
				data := bytes.Replace(require(names), []byte(change[0]), []byte(change[1]), 1)
				_, err := decoders[kind](sample.key, data)
				wantKind(t, fmt.Sprintf("%s: %s, requires %s", kind, what, names), err, want)
			}
		}
	}
}

// TestEncodeKeepsUnknown changes a record with unknown fields. They are kept at the top level and in
// every value that was not changed.
func TestEncodeKeepsUnknown(t *testing.T) {
	data, err := os.ReadFile("testdata/v1/volume-unknown-fields.json")
	if err != nil {
		t.Fatal(err)
	}
	old, err := DecodeRecord("pvc-5", data)
	wantKind(t, "the record", err, nil)
	r := *old
	r.Capacity, r.OnDelete, r.Adopt, r.PVC = 2<<30, Archive, true, &PVC{"shop", "other"}
	got, err := r.Encode()
	wantKind(t, "the record changed", err, nil)
	want := string(data)
	for old, new := range map[string]string{
		`"capacityBytes": 1073741824`: `"capacityBytes": 2147483648,` + "\n" + `  "adopt": true`, `"onDelete": "delete"`: `"onDelete": "archive"`,
		`"name": "db",` + "\n" + `    "uid": "6d0c"`: `"name": "other"`,
	} {
		want = strings.Replace(want, old, new, 1)
	}
	if string(got) != want {
		t.Errorf("a record with unknown fields was changed to\n%s, want\n%s", got, want)
	}
	r.Source, r.PVC = nil, nil
	got, err = r.Encode()
	wantKind(t, "without source and claim", err, nil)
	if bytes.Contains(got, []byte(`"source"`)) || bytes.Contains(got, []byte(`"pvc"`)) || !bytes.Contains(got, []byte(`"tier"`)) {
		t.Errorf("without source and claim it is\n%s", got)
	}
	if again, err := old.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("the original record is\n%s (%v), want\n%s", again, err, data)
	}
}

func TestFormatErrors(t *testing.T) {
	wantKind(t, "an old layout", OldLayoutError(), ErrPrecondition)
	wantText(t, OldLayoutError(), "before the first release", ".mooring/format.json", "nothing was changed")
	_, err := DecodeFormat(nil)
	wantKind(t, "an empty format", err, ErrDamaged)
	wantText(t, err, "the format of the share cannot be believed", "restore .mooring/format.json")
}

func TestNonce(t *testing.T) {
	a, b := NewNonce(), NewNonce()
	if a == b || !ValidNonce(a) || !ValidNonce(b) {
		t.Errorf("two nonces are %q and %q", a, b)
	}
	for nonce, want := range map[string]bool{
		aNonce: true, "0000000000000000": true, "": false, "0123456789abcde": false, "0123456789abcdef0": false,
		"0123456789ABCDEF": false, "0123456789abcdeg": false, "0123456789abcde/": false, "0123456789abcde:": false, "0123456789abcde`": false, "0123456789abcde\n": false,
	} {
		if ValidNonce(nonce) != want {
			t.Errorf("ValidNonce(%q) is %v", nonce, !want)
		}
	}
}

// fuzzSeeds adds variants of a record to the corpus.
func fuzzSeeds(f *testing.F, key string, data []byte) {
	f.Add(key, data)
	f.Add(key, data[:len(data)/2])
	for _, header := range []string{`"version": 2`, `"version": 1, "requires": ["new"]`, `"version": 1, "x": {"y": "<"}, "Key": 1`} {
		f.Add(key, bytes.Replace(data, []byte(`"version": 1`), []byte(header), 1))
	}
}

// fuzzDecode decodes data, and checks that the encoding of the record decodes to the same record.
// It returns nil if data cannot be decoded.
func fuzzDecode[T any, P interface {
	*T
	recorded
}](t *testing.T, key string, data []byte, decode func(string, []byte) (P, error)) P {
	t.Helper()
	r, err := decode(key, data)
	if err != nil {
		if kind := Kind(err); kind != ErrDamaged && kind != ErrPrecondition {
			t.Errorf("%q: %v of kind %v", data, err, kind)
		}
		return nil
	}
	encoded, err := r.Encode()
	if err != nil {
		t.Fatalf("%q can be decoded, but not encoded: %v", data, err)
	}
	again, err := decode(key, encoded)
	if err != nil {
		t.Fatalf("%q can be decoded, but its encoding %q cannot: %v", data, encoded, err)
	}
	if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, encoded) {
		t.Errorf("%q is encoded as\n%s, and then as\n%s (%v)", data, encoded, twice, err)
	}
	if !reflect.DeepEqual(again.Unsupported(), r.Unsupported()) {
		t.Errorf("%q requires %q, and then %q", data, r.Unsupported(), again.Unsupported())
	}
	return r
}

func FuzzDecodeFormat(f *testing.F) {
	data, err := Format{}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	fuzzSeeds(f, "", data)
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		fuzzDecode(t, key, data, func(_ string, data []byte) (*Format, error) { return DecodeFormat(data) })
	})
}

func BenchmarkDecodeRecord(b *testing.B) {
	_, data := sampleRecord(b)
	for b.Loop() {
		if _, err := DecodeRecord("pvc-1", data); err != nil {
			b.Fatal(err)
		}
	}
}
