// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
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

// features are the names that a record may require and that this program knows: none so far.
var features []string

// Header begins every record on a share. The version says who wrote a record first and forbids
// nothing: what a program has to know in order to change or delete a record, that record
// requires by name. A Mooring that writes what earlier ones cannot take for anything sensible
// has to require something.
type Header struct {
	Version  int      `json:"version"` // 0 is written as RecordVersion, any other as it is
	Requires []string `json:"requires,omitempty"`

	unknown map[string]json.RawMessage // the fields that this program does not know
	altered map[string]alteredField    // those within which it does not know something
}

// reading is a field as a record has it, and as this program would have written it. For as long
// as its value is the same, it is written again as it was.
type alteredField struct{ original, plain json.RawMessage }

// Unsupported lists what the record requires and this program does not know. A record of which
// there is anything must not be changed or deleted: see CheckRequires.
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

// file is what errors say of a record.
type recordFile struct {
	what   string // "the record of volume pvc-1"
	remedy string // for one that cannot be believed
}

func (f recordFile) damagedError(fault error) error {
	return Errorf(ErrDamaged, "%s cannot be believed: %v; nothing was changed: %s", f.what, fault, f.remedy)
}

// requires returns nil where this program knows all that the record requires.
func (f recordFile) checkRequires(h *Header) error {
	names := h.Unsupported()
	if names == nil {
		return nil
	}
	return Errorf(ErrPrecondition, "%s requires %s, which this Mooring does not know: upgrade Mooring", f.what, strings.Join(names, ", "))
}

// document is a pointer to a struct that begins with a Header.
type document interface{ header() *Header }

// encode returns a record as it stands on a share: its fields in their order, then those that
// this program does not know, by name.
func encode(f recordFile, v document) ([]byte, error) {
	h := v.header()
	if h.Version == 0 {
		h.Version = RecordVersion
	}
	data, err := json.Marshal(v)
	if err == nil && len(h.unknown)+len(h.altered) > 0 {
		data, err = h.addUnknown(data, fieldNames(reflect.TypeOf(v).Elem()))
	}
	var out bytes.Buffer
	if err == nil {
		err = json.Indent(&out, data, "", "  ")
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.what, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// complete adds to an encoded record what this program does not know.
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

// decode reads a record, of which check says whether it is possible. One that is not whole, or
// not possible, is ErrDamaged. But of one that requires what this program does not know, it
// cannot judge what it cannot read either: that is ErrPrecondition.
func decode[T any, P interface {
	*T
	document
}](f recordFile, data []byte, check func(P) error) (P, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, f.damagedError(fmt.Errorf("it is not whole JSON: %w", err))
	}
	// Only what is spelled exactly so is a field: the decoder by itself takes any case.
	known := map[string]json.RawMessage{}
	for _, name := range fieldNames(reflect.TypeFor[T]()) {
		if value, ok := fields[name]; ok {
			known[name] = value
			delete(fields, name)
		}
	}
	if v := P(new(T)); len(fields) == 0 && decodeStrict(data, v) == nil && v.header().check() == nil && check(v) == nil {
		return v, nil // the common case, which the rest would find too, more slowly
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
	if err = json.Unmarshal(data, v); err == nil {
		err = check(v)
	}
	if err == nil {
		err = v.header().keepUnknown(v, known, fields)
	}
	if err == nil {
		return v, nil
	}
	if err := f.checkRequires(&h); err != nil {
		return nil, err
	}
	return nil, f.damagedError(err)
}

// strictly decodes what has no field within which v's type does not know something.
func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// keep remembers what of a record's fields its struct v does not say.
func (h *Header) keepUnknown(v document, known, unknown map[string]json.RawMessage) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var plain map[string]json.RawMessage
	if err := json.Unmarshal(data, &plain); err != nil {
		return err
	}
	read := map[string]alteredField{}
	for name, value := range known {
		is := compact(value)
		if p, ok := plain[name]; ok && !bytes.Equal(p, is) {
			read[name] = alteredField{original: is, plain: p}
		}
	}
	for name, value := range unknown {
		unknown[name] = compact(value)
	}
	if len(read) > 0 {
		h.altered = read
	}
	if len(unknown) > 0 {
		h.unknown = unknown
	}
	return nil
}

// compact returns a value, which is JSON, without white space.
func compact(value json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	_ = json.Compact(&out, value)
	return out.Bytes()
}

// fieldNames lists the names in JSON of a struct's fields, and of the structs embedded in it.
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

var fieldNamesCache sync.Map // by type: lists of many volumes are read

// nonceSize is that of a nonce in bytes. It is written as hexadecimal digits.
const nonceSize = 8

// NewNonce returns the name of one attempt to make something: no other ever has it.
func NewNonce() string {
	var b [nonceSize]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ValidNonce reports whether NewNonce can have returned s.
func ValidNonce(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 2*nonceSize
}
