// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// RecordVersion is the version of records that this program writes. It reads every version.
const RecordVersion = 1

// features are the names of the features that this program knows: none so far.
var features []string

// Header is the start of every record on a share. The version says which program first wrote the
// record, and forbids nothing: a record requires by name the features that a program must know to
// change or delete it. A version of Mooring that writes something which earlier versions would
// misunderstand must require a feature.
type Header struct {
	Version  int      `json:"version"` // 0 is written as RecordVersion, any other value unchanged
	Requires []string `json:"requires,omitempty"`

	unknown map[string]json.RawMessage // the fields that this program does not know
	altered map[string]alteredField    // those within which it does not know something
}

// alteredField is a field as the record has it, and as this program would have written it. While
// its value is unchanged, the original is written again.
type alteredField struct{ original, plain json.RawMessage }

// Unsupported returns the features that the record requires and this program does not know. If
// there are any, the record must not be changed or deleted: see CheckRequires.
func (h Header) Unsupported() []string {
	var names []string
	for _, name := range h.Requires {
		if !slices.Contains(features, name) {
			names = append(names, name)
		}
	}
	return names
}

func (h *Header) header() *Header { return h }

func (h *Header) check() error {
	if h.Version < 1 {
		return fmt.Errorf("its version is %d", h.Version)
	}
	for _, name := range h.Requires {
		if !isSafeName(name) {
			return fmt.Errorf("it requires %q", name)
		}
	}
	return nil
}

// recordFile is the text about a record in errors.
type recordFile struct {
	what   string // "the record of volume pvc-1"
	remedy string // for a damaged record
}

func (f recordFile) damagedError(fault error) error {
	return Errorf(ErrDamaged, "%s cannot be believed: %v; nothing was changed: %s", f.what, fault, f.remedy)
}

// checkRequires returns ErrPrecondition if the record requires a feature that this program does not know.
func (f recordFile) checkRequires(h *Header) error {
	names := h.Unsupported()
	if names == nil {
		return nil
	}
	return Errorf(ErrPrecondition, "%s requires %s, which this Mooring does not know: upgrade Mooring", f.what, strings.Join(names, ", "))
}

// document is a pointer to a struct that begins with a Header.
type document interface{ header() *Header }

// encode returns a record as it is stored on a share: its fields in their order, then the fields
// that this program does not know, sorted by name.
func encode(f recordFile, v document) ([]byte, error) {
	h := v.header()
	if h.Version == 0 {
		h.Version = RecordVersion
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.what, err)
	}
	if len(h.unknown)+len(h.altered) > 0 {
		data, err = h.addUnknown(data, fieldNames(reflect.TypeOf(v).Elem()))
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", f.what, err)
		}
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.what, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// addUnknown adds the unknown fields to an encoded record.
func (h *Header) addUnknown(data []byte, names []string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	for name, r := range h.altered {
		if bytes.Equal(fields[name], r.plain) {
			fields[name] = r.original
		}
	}
	maps.Copy(fields, h.unknown)
	var out bytes.Buffer
	for _, name := range slices.Concat(names, slices.Sorted(maps.Keys(h.unknown))) {
		value, ok := fields[name]
		if !ok {
			continue
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, ",%s:%s", quoted, value)
	}
	out.WriteByte('}')
	out.Bytes()[0] = '{'
	return out.Bytes(), nil
}

// decode reads a record, and validates it with check. An incomplete or invalid record is ErrDamaged.
// If the record requires a feature that this program does not know, the program cannot judge it, and
// an unreadable one is ErrPrecondition.
func decode[T any, P interface {
	*T
	document
}](f recordFile, data []byte, check func(P) error) (P, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, f.damagedError(fmt.Errorf("it is not whole JSON: %w", err))
	}
	// The names of fields are case-sensitive, but the decoder ignores case.
	known := map[string]json.RawMessage{}
	for _, name := range fieldNames(reflect.TypeFor[T]()) {
		if value, ok := fields[name]; ok {
			known[name] = value
			delete(fields, name)
		}
	}
	if v := P(new(T)); len(fields) == 0 && decodeStrict(data, v) == nil && v.header().check() == nil && check(v) == nil {
		return v, nil // the common case; the rest would return the same, more slowly
	}
	data, err := json.Marshal(known)
	if err != nil {
		return nil, f.damagedError(err)
	}
	var h Header
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, f.damagedError(err)
	}
	if err := h.check(); err != nil {
		return nil, f.damagedError(err)
	}
	v := P(new(T))
	if err := decodeTolerant(data, v, check, known, fields); err != nil {
		return nil, cmp.Or(f.checkRequires(&h), f.damagedError(err))
	}
	return v, nil
}

// decodeTolerant decodes a record that may have unknown fields, and keeps them in v.
func decodeTolerant[P document](data []byte, v P, check func(P) error, known, unknown map[string]json.RawMessage) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	if err := check(v); err != nil {
		return err
	}
	return v.header().keepUnknown(v, known, unknown)
}

// decodeStrict decodes a record whose nested values have no field that v's type does not know.
func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// keepUnknown stores the unknown fields of the record v, and those whose values have unknown parts.
func (h *Header) keepUnknown(v document, known, unknown map[string]json.RawMessage) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var plain map[string]json.RawMessage
	if err := json.Unmarshal(data, &plain); err != nil {
		return err
	}
	altered := map[string]alteredField{}
	for name, value := range known {
		original := compact(value)
		if p, ok := plain[name]; ok && !bytes.Equal(p, original) {
			altered[name] = alteredField{original: original, plain: p}
		}
	}
	for name, value := range unknown {
		unknown[name] = compact(value)
	}
	if len(altered) > 0 {
		h.altered = altered
	}
	if len(unknown) > 0 {
		h.unknown = unknown
	}
	return nil
}

// compact returns a JSON value without white space.
func compact(value json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	_ = json.Compact(&out, value)
	return out.Bytes()
}

// fieldNames returns the JSON names of the fields of a struct and of its embedded structs.
func fieldNames(t reflect.Type) []string {
	if names, ok := fieldNamesCache.Load(t); ok {
		return names.([]string)
	}
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	fieldNamesCache.Store(t, names)
	return names
}

var fieldNamesCache sync.Map // by type: a list may read many volumes

// nonceSize is the size of a nonce in bytes. It is written as hexadecimal digits.
const nonceSize = 8

// NewNonce returns the unique identifier of one attempt to create something.
func NewNonce() string {
	var b [nonceSize]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ValidNonce reports whether s has the form of a nonce (NewNonce).
func ValidNonce(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 2*nonceSize
}
