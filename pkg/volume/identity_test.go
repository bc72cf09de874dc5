// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"testing"
)

func TestShareID(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := NewShareID()
		if got, err := ParseShareID(strings.ToUpper(id)); err != nil || got != id || seen[id] || id[14] != '4' || !strings.Contains("89ab", id[19:20]) {
			t.Fatalf("the id %q is read as %q, %v", id, got, err)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "nas1", "0b1c2d3e4f504a6b8c7d9e0f1a2b3c4d", "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4", "{0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d}", "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d\n"} {
		_, err := ParseShareID(bad)
		wantKind(t, bad, err, ErrInvalid)
		wantText(t, err, "not the id of a share", "mooringctl shares")
	}
}

// TestReadFormat reads formats with an id, or with an id in a file of its own.
func TestReadFormat(t *testing.T) {
	const id, other = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d", "1b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"
	says := func(id string) string { return `{"version": 1, "id": "` + id + `"}` }
	for what, c := range map[string]struct {
		format, added string
		want          string // "-": there is no format
		wrong         string
	}{
		"nothing":                {"", "", "-", ""},
		"an id alone":            {"", says(id), "-", ""},
		"no id":                  {`{"version": 1}`, "", "", ""},
		"an id":                  {says(id), says(other), id, ""},
		"an id that is not read": {says(id), "{", id, ""},
		"an added id":            {`{"version": 1}`, says(other), other, ""},
		"a bad id":               {says("nas1"), says(other), "", `its id is "nas1"`},
		"a damaged added id":     {`{"version": 1}`, "{", "", "remove .mooring/id.json"},
	} {
		format, err := ReadFormat(func(name string) ([]byte, error) {
			return []byte(map[string]string{FormatName: c.format, AddedIDName: c.added}[name]), nil
		})
		if c.wrong != "" {
			wantKind(t, what, err, ErrDamaged)
			wantText(t, err, c.wrong)
			continue
		}
		if err != nil || (format == nil) != (c.want == "-") || format != nil && format.ID != c.want {
			t.Errorf("%s: it is %+v, %v", what, format, err)
		}
	}
}

// TestWrongShare checks that each error names the expected share, the found one, and the remedy.
func TestWrongShare(t *testing.T) {
	for what, c := range map[string]struct {
		err  error
		says []string
	}{
		"not laid out":           {NotInitializedError("nas1"), []string{"nothing of Mooring's", ".mooring/format.json", "right disk", "share forget nas1"}},
		"emptied":                {EmptiedShareError("nas1", "an-id"), []string{"share an-id", "nothing of Mooring's", "share forget nas1"}},
		"emptied, without an id": {EmptiedShareError("nas1", ""), []string{"share without an id"}},
		"another":                {AnotherShareError("an-id", "found"), []string{"the share an-id", "the share found", "set its id", "restart the controller"}},
		"another, without an id": {AnotherShareError("an-id", ""), []string{"the share without an id"}},
		"pinned, empty":          {WrongShareError("nas1", "want", "", false), []string{"the id want", "nothing of Mooring's", "share forget nas1"}},
		"pinned, no id":          {WrongShareError("nas1", "want", "", true), []string{"the id want", "has none", "share reidentify nas1"}},
		"pinned, another":        {WrongShareError("nas1", "want", "found", true), []string{"the id want", "the share found", "set its id"}},
	} {
		wantKind(t, what, c.err, ErrPrecondition)
		wantText(t, c.err, c.says...)
	}
}
