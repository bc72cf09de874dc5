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

// escape writes the characters in a JSON text that nobody sees as \u009b: encoding/json does so
// with those below U+0020 alone. A terminal takes U+009B for the start of a command. And a parser
// of YAML, which JSONToYAML is at first, refuses it and its like, and makes a space of U+0085.
// Those above U+FFFF are harmless, and would need two escapes, which YAML does not know.
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
