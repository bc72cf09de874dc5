// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// JSON encodes what programs read, and what may hold any name that a directory on a share can
// have. Bytes that are not UTF-8 become U+FFFD.
func JSON(v any, prefix, indent string) ([]byte, error) {
	text, err := json.MarshalIndent(v, prefix, indent)
	if err != nil {
		return nil, err
	}
	return escape(text), nil
}

// YAML encodes as JSON does, and with the names of the fields that are in JSON.
func YAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(escape(text))
}

// escape writes the invisible characters in a JSON text as \u009b: encoding/json does so only for those
// below U+0020. For a terminal, U+009B is the start of a command. A YAML parser, which JSONToYAML begins
// with, refuses U+009B and similar characters, and makes U+0085 a space. Characters above U+FFFF are harmless,
// and would need two escapes, which YAML does not have.
func escape(text []byte) []byte {
	escaped := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r < utf8.RuneSelf-1 || r > 0xffff || unicode.IsPrint(r) {
			escaped = utf8.AppendRune(escaped, r)
			continue
		}
		escaped = fmt.Appendf(escaped, `\u%04x`, r)
	}
	return escaped
}
