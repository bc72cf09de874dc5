// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// wantKind fails the test unless err is of kind; nil: no error.
func wantKind(t *testing.T, what string, err, kind error) {
	t.Helper()
	if (err == nil) != (kind == nil) || kind != nil && Kind(err) != kind {
		t.Errorf("%s: the error is %v (of kind %v), want kind %v", what, err, Kind(err), kind)
	}
}

// wantText fails the test unless the text of err contains all parts.
func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error %v", part, err)
		}
	}
}

func TestKind(t *testing.T) {
	for _, kind := range Kinds() {
		for how, err := range map[string]error{
			"Errorf":                Errorf(kind, "make volume %s: %w", "v", fs.ErrPermission),
			"Errorf, wrapped":       fmt.Errorf("create: %w", Errorf(kind, "no")),
			"fmt.Errorf":            fmt.Errorf("create: %w", kind),
			"the sentinel":          kind,
			"reclassified":          Errorf(kind, "seen from outside: %w", Errorf(ErrBusy, "seen from inside")),
			"joined with a cause":   errors.Join(fs.ErrExist, fmt.Errorf("x: %w", kind)),
			"a sentinel, and again": Errorf(kind, "seen from outside: %w", ErrFull),
		} {
			wantKind(t, how, err, kind)
			if !errors.Is(err, kind) {
				t.Errorf("%s: errors.Is does not find %v in %v", how, kind, err)
			}
		}
		err := Errorf(kind, "make volume %s: %w", "v", fs.ErrPermission)
		if got, want := err.Error(), "make volume v: permission denied"; got != want {
			t.Errorf("the text is %q, want %q", got, want)
		}
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v has lost its cause", err)
		}
	}
	for _, err := range []error{nil, fs.ErrExist, fmt.Errorf("x: %w", fs.ErrExist)} {
		if k := Kind(err); k != nil {
			t.Errorf("%v is of kind %v", err, k)
		}
	}
}
