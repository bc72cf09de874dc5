// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"testing"
)

func TestHandleRoundTrip(t *testing.T) {
	for _, share := range []string{
		"nas1", "a", "0.b-c", strings.Repeat("s", 40),
		"10.0.0.1:/export", "nas.example.org:/", "[fe80::1]:/export", "[fe80::1%eth0]:/x", "nas:/a b#c", "nas:/a:/b",
	} {
		for _, name := range []string{"pvc-51cce4ed-0b9e-4a9f-8d3f-5a3f0d0a5a0c", "A_1.json", "odd/name", "h-x"} {
			h, err := NewHandle(share, KeyFor(name))
			wantKind(t, h.String(), err, nil)
			got, err := ParseHandle(h.String())
			wantKind(t, h.String(), err, nil)
			if got != h {
				t.Errorf("%q parses to %+v, want %+v", h, got, h)
			}
		}
	}
}

func TestNewHandleTooLong(t *testing.T) {
	if _, err := NewHandle("10.0.0.1:/"+strings.Repeat("e", 113), "pvc-"); err != nil {
		t.Errorf("128 bytes are refused: %v", err)
	}
	_, err := NewHandle("10.0.0.1:/"+strings.Repeat("e", 114), "pvc-")
	wantKind(t, "129 bytes", err, ErrInvalid)
	wantText(t, err, "129", "register the export")
}

func TestKeyFor(t *testing.T) {
	for _, name := range []string{"pvc-51cce4ed-0b9e-4a9f-8d3f-5a3f0d0a5a0c", "a", "7", "A.b_c-", "h", "H-x", strings.Repeat("k", maxKey)} {
		if key := KeyFor(name); key != name {
			t.Errorf("the safe name %q has the key %q", name, key)
		}
	}
	odd := []string{
		"", strings.Repeat("k", maxKey+1), strings.Repeat("k", maxKey) + "x", strings.Repeat("k", 10_000),
		".", "..", ".hidden", "-dash", "_x", "a/b", "../a", "a b", "a\x00", "a\n", "a#b", "ä", "\xff", "h-", "h-x", KeyFor("a/b"),
	}
	seen := map[string]string{}
	for _, name := range odd {
		key := KeyFor(name)
		if !strings.HasPrefix(key, hashPrefix) || len(key) > maxKey || !isSafeName(key) {
			t.Errorf("the odd name %.90q has the key %q, which is not a hash", name, key)
		}
		if other, taken := seen[key]; taken {
			t.Errorf("%.90q and %.90q have one key", name, other)
		}
		seen[key] = name
	}
	// The key of a name must never change: it is stored on shares.
	if got, want := KeyFor("a/b"), "h-yfgn3qbt6zfz32ua5jtvz4uauak6m4srmcikkythqekt3rup5iiq"; got != want {
		t.Errorf("the key of a/b is %q, want %q", got, want)
	}
}

func TestParseHandleRefuses(t *testing.T) {
	for _, s := range []string{
		"", "/", "/x", "nas1", "nas1/", "pvc-1", strings.Repeat("a/", 5000), "nas:/" + strings.Repeat("e", 122) + "/x", "nas1/" + strings.Repeat("k", maxKey+1),
		"a#b#c##", "10.0.0.1#export/kubernetes#pvc-1##delete", "nas1/pvc#1",
		"nas1/.", "nas1/..", "nas1/../x", "nas1/a/x", "nas1//x", "../x", "NAS/x", "nas1/.x", "nas1/-x", "-nas/x", "nas1-/x", "*/x", "na s/x",
		"nas1/x\x00", "nas1/x\n", "nas1\n/x", "nas1/\xff", "\xff/x", "nas1/ä", "nas1/x y",
		"nas1/h-", "nas1/h-x", "nas1/" + strings.ToUpper(KeyFor("a/b"))[2:] + "/", "nas1/h-" + strings.Repeat("a", 51) + "b",
		"10.0.0.1:/a/../b/x", "10.0.0.1:/../x", "10.0.0.1:/a//x", "10.0.0.1:/a//b/x", "10.0.0.1://a/x", "10.0.0.1:/./x", "10.0.0.1:/a", "10.0.0.1:a/x",
		"fe80::1:/a/x", "[10.0.0.1]:/a/x", "[nas]:/a/x", "[fe80::1:/a/x", "fe80::1]:/a/x", "[]:/a/x", ":/a/x", "[fe80::1%e h]:/a/x", "a,b:/a/x", "-o:/a/x", "nas:/a\n/x", "nas:/a\xff/x",
	} {
		h, err := ParseHandle(s)
		if err == nil {
			t.Errorf("%.90q is accepted as %+v", s, h)
			continue
		}
		wantKind(t, s, err, ErrInvalid)
	}
	_, err := ParseHandle("10.0.0.1#export#pvc-1##")
	wantText(t, err, "csi-driver-nfs")
}

func FuzzParseHandle(f *testing.F) {
	for _, s := range []string{"nas1/pvc-1", "10.0.0.1:/export/pvc-1", "[fe80::1%eth0]:/a b/x", "nas1/" + KeyFor("/"), "a#b#c##", "nas1/../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHandle(s)
		if err != nil {
			wantKind(t, s, err, ErrInvalid)
			return
		}
		if again, err := NewHandle(h.Share, h.Key); err != nil || again != h || h.String() != s {
			t.Errorf("%q parses to %+v, which is %q, %v", s, h, again, err)
		}
		if CheckDirectory(h.Key) != nil || strings.Contains(h.Key, "/") {
			t.Errorf("%q has the key %q, which is not a file name", s, h.Key)
		}
		if _, err := (&Registry{Unregistered: true, Shares: []Share{{Name: h.Share}}}).Resolve(h.Share); err != nil {
			t.Errorf("%q has an invalid share: %v", s, err)
		}
		server, path, ok := SplitExport(h.Share)
		if ok && checkExport(server, path) != nil || !ok && CheckShareName(h.Share) != nil {
			t.Errorf("%q has the share %q, which is not valid", s, h.Share)
		}
	})
}
