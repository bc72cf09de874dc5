// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"testing"
	"time"
)

// TestTrashName parses every kind of name, with keys that look like such names themselves.
func TestTrashName(t *testing.T) {
	deleted, due := time.Unix(1785585600, 0).UTC(), time.Unix(1785672000, 0).UTC()
	hashed := KeyFor("odd/name")
	for _, c := range []struct {
		kind    TrashKind
		key, id string
	}{
		{TrashVolume, "pvc-1", "pvc-1.0123456789abcdef"},
		{TrashSnapshot, "snap-1", "snap-1.0123456789abcdef.snapshot"},
		{TrashLeftover, "pvc-1", "pvc-1.0123456789abcdef.leftover"},
		{TrashVolume, hashed, hashed + ".0123456789abcdef"},
		{TrashVolume, "a.fedcba9876543210.snapshot", "a.fedcba9876543210.snapshot.0123456789abcdef"},
		{TrashLeftover, "a.purging", "a.purging.0123456789abcdef.leftover"},
		{TrashSnapshot, "a.1.2.json", "a.1.2.json.0123456789abcdef.snapshot"},
		{TrashVolume, "a.", "a..0123456789abcdef"},
	} {
		if got := TrashID(c.kind, c.key, aNonce); got != c.id {
			t.Errorf("the id of %s %s is %s, want %s", c.kind, c.key, got, c.id)
		}
		tree := TrashName{ID: c.id, Key: c.key, Nonce: aNonce, Kind: c.kind}
		purging, record := tree, tree
		purging.Purging = true
		record.Record, record.Deleted, record.Due = true, deleted, due
		for name, want := range map[string]TrashName{c.id: tree, c.id + ".purging": purging, c.id + ".1785585600.1785672000.json": record} {
			if got, ok := ParseTrashName(name); !ok || got != want {
				t.Errorf("%s is %+v, %v, want %+v", name, got, ok, want)
			}
			if got := trashName(want); got != name {
				t.Errorf("%+v has the name %s, want %s", want, got, name)
			}
		}
	}
}

// trashName returns the name with these parts.
func trashName(n TrashName) string {
	id := TrashID(n.Kind, n.Key, n.Nonce)
	switch {
	case n.Record:
		return TrashRecordName(id, n.Deleted, n.Due)
	case n.Purging:
		return PurgingName(id)
	}
	return id
}

func TestParseTrashNameRefuses(t *testing.T) {
	for _, name := range []string{
		"", ".", "pvc-1", "pvc-1.", "0123456789abcdef", ".0123456789abcdef", "..0123456789abcdef", "a/b.0123456789abcdef", "h-x.0123456789abcdef",
		"a.0123456789ABCDEF", "a.0123456789abcde", "a.0123456789abcdef0", "a.0123456789abcdeg", "a.0123456789abcdef.", "a.0123456789abcdef\n",
		"a.0123456789abcdef.volume", "a.0123456789abcdef.inline", "a.0123456789abcdef.Snapshot", "a.0123456789abcdef.snapshot.leftover", "a.snapshot",
		"a.0123456789abcdef.purging.purging", "a.0123456789abcdef.purging.snapshot", "a.0123456789abcdef.1.2.json.purging", "a.0123456789abcdef.purging.1.2.json",
		"a.0123456789abcdef.json", "a.0123456789abcdef.1.json", "a.0123456789abcdef.1.2", "a.0123456789abcdef.1.2.3.json", "a.1.2.json",
		"a.0123456789abcdef.01.2.json", "a.0123456789abcdef.1.+2.json", "a.0123456789abcdef.-1.2.json", "a.0123456789abcdef.1.2x.json", "a.0123456789abcdef..2.json",
		"a.0123456789abcdef.1.253402300800.json", "a.0123456789abcdef.1.99999999999999999999.json", "pvc-1.1795410584443218702",
	} {
		if got, ok := ParseTrashName(name); ok || got != (TrashName{}) {
			t.Errorf("%q is %+v, %v", name, got, ok)
		}
	}
}

// FuzzTrashName checks that formatting and parsing are inverse.
func FuzzTrashName(f *testing.F) {
	for _, kind := range []string{"", ".snapshot", ".leftover"} {
		for _, end := range []string{"", ".purging", ".1785585600.1785672000.json"} {
			f.Add("pvc-1."+aNonce+kind+end, "a.b", uint64(81985529216486895), byte(len(kind)), int64(1785585600), int64(1785672000))
		}
	}
	f.Add("a."+aNonce+".purging."+otherNonce+".1.2.json", "h-x", uint64(0), byte(1), int64(-1), int64(maxSeconds+1))
	f.Fuzz(func(t *testing.T, name, csiName string, nonce uint64, shape byte, deleted, due int64) {
		if n, ok := ParseTrashName(name); ok {
			if got := trashName(n); got != name || !isTrashTime(n.Deleted) && n.Record || TrashID(n.Kind, n.Key, n.Nonce) != n.ID {
				t.Errorf("%q is %+v, which makes %q", name, n, got)
			}
			if n.Record && n.Purging || !ValidKey(n.Key) || !ValidNonce(n.Nonce) {
				t.Errorf("%q is %+v", name, n)
			}
		}
		want := TrashName{Key: KeyFor(csiName), Nonce: fmt.Sprintf("%016x", nonce), Kind: []TrashKind{TrashVolume, TrashSnapshot, TrashLeftover}[shape%3]}
		want.ID = TrashID(want.Kind, want.Key, want.Nonce)
		times := true
		switch shape / 3 % 3 {
		case 1:
			want.Purging = true
		case 2:
			want.Record, want.Deleted, want.Due = true, time.Unix(deleted, 0).UTC(), time.Unix(due, 0).UTC()
			times = isTrashTime(want.Deleted) && isTrashTime(want.Due)
		}
		if got, ok := ParseTrashName(trashName(want)); ok != times || ok && got != want {
			t.Errorf("%+v comes back as %+v, %v", want, got, ok)
		}
	})
}
