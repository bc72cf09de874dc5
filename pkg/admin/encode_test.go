// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// TestEncode has every character in names: what is decoded is what was encoded, and nothing is
// left that a terminal obeys.
func TestEncode(t *testing.T) {
	const block = 64
	type format struct {
		name   string
		encode func(any) ([]byte, error)
		decode func([]byte, any) error
	}
	formats := []format{
		{"JSON", func(v any) ([]byte, error) { return JSON(v, "", " ") }, json.Unmarshal},
		{"YAML", YAML, func(text []byte, v any) error { return yaml.Unmarshal(text, v) }},
	}
	for first := rune(0); first <= unicode.MaxRune; first += block {
		var want []string
		for r := first; r < first+block; r++ {
			// Each alone and in a name. Of those that are harmless, and look alike, a few do.
			if utf8.ValidRune(r) && (r < 0x3000 || r > 0xd000 && r < 0x10100 || r%16 == 0) {
				want = append(want, string(r), "a"+string(r)+"b")
			}
		}
		for _, f := range formats {
			text, err := f.encode(want)
			if err != nil {
				t.Fatalf("from %U on there is no %s: %v", first, f.name, err)
			}
			var got []string
			if err := f.decode(text, &got); err != nil {
				t.Fatalf("from %U on %s cannot be decoded: %v: %q", first, f.name, err, text)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%q in %s has become %q", want[i], f.name, got[i])
				}
			}
			if bytes.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
				t.Errorf("from %U on there are control characters in %s: %q", first, f.name, text)
			}
		}
	}
	for _, f := range formats {
		text, err := f.encode([]any{"a\xff\x9bb", int64(1<<63 - 1)})
		var got []any
		if err == nil {
			err = f.decode(text, &got)
		}
		if err != nil || got[0] != "a\ufffd\ufffdb" || !strings.Contains(string(text), "9223372036854775807") {
			t.Errorf("what is not UTF-8, and a large number, are %q in %s, %v", text, f.name, err)
		}
	}
}
