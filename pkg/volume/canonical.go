// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"net/netip"
	"slices"
	"strings"
)

// One export has many spellings. Two spellings are equal if they differ only in the case of a host
// name, the dot at its end, the spelling of an address, or repeated slashes. DNS is not used: its
// answers change with time and machine, and one share must not become two.

// canonicalServer returns the canonical spelling of a server's name or address.
func canonicalServer(server string) string {
	a, err := netip.ParseAddr(server)
	if err != nil {
		return strings.ToLower(strings.TrimSuffix(server, "."))
	}
	return a.Unmap().String()
}

// canonicalPath returns the canonical spelling of an export's path. It keeps dots: only the server
// knows the meaning of ".." after a symbolic link, and CheckExportPath refuses it.
func canonicalPath(p string) string {
	return "/" + strings.Join(strings.FieldsFunc(p, func(r rune) bool { return r == '/' }), "/")
}

// CanonicalExport returns the canonical spelling of "server:/path". It does not change any other name.
func CanonicalExport(name string) string {
	server, path, ok := SplitExport(name)
	if !ok {
		return name
	}
	return ExportName(canonicalServer(server), canonicalPath(path))
}

// isSameServer reports whether two names or addresses are spellings of one.
func isSameServer(a, b string) bool { return canonicalServer(a) == canonicalServer(b) }

// HasServer reports whether the share is on a server, in any spelling.
func (s Share) HasServer(server string) bool {
	return slices.ContainsFunc(s.Servers, func(own string) bool { return isSameServer(own, server) })
}

// Matches reports whether name is this share: its name, or its export on one of its servers, in any
// spelling.
func (s Share) Matches(name string) bool {
	if s.Name == name {
		return true
	}
	server, path, ok := SplitExport(name)
	return ok && s.HasServer(server) && canonicalPath(path) == canonicalPath(s.Path)
}

// SameMount reports whether a mount of s can be used for t.
func (s Share) SameMount(t Share) bool {
	return slices.EqualFunc(s.Servers, t.Servers, isSameServer) &&
		canonicalPath(s.Path) == canonicalPath(t.Path) && slices.Equal(s.MountOptions, t.MountOptions)
}

// contains reports whether o is on a server of s, and its path is that of s or inside it.
func (s Share) contains(o Share) bool {
	outer, path := canonicalPath(s.Path), canonicalPath(o.Path)
	inside := path == outer || strings.HasPrefix(path, strings.TrimSuffix(outer, "/")+"/")
	return inside && slices.ContainsFunc(s.Servers, o.HasServer)
}

// Overlaps reports whether two shares are on one server, and are equal or one inside the other.
func (s Share) Overlaps(o Share) bool { return s.contains(o) || o.contains(s) }

// IsInside reports whether s is inside o, and not equal to it.
func (s Share) IsInside(o Share) bool { return o.contains(s) && !s.contains(o) }
