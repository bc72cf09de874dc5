// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"net/netip"
	"slices"
	"strings"
)

// One export has many spellings. Two are the same where they differ in nothing that could make
// them two: the case of a host name or the dot at its end, the spelling of an address, slashes.
// DNS is not asked: its answer may be another tomorrow, or on another machine, and what is one
// share today must not be two then.

// canonicalServer returns the one spelling of a server's name or address.
func canonicalServer(server string) string {
	if a, err := netip.ParseAddr(server); err == nil {
		return a.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(server, "."))
}

// canonicalPath returns the one spelling of an export's path. Dots stay: what ".." means beyond a
// symbolic link the server alone knows, and CheckExportPath refuses them.
func canonicalPath(p string) string {
	return "/" + strings.Join(strings.FieldsFunc(p, func(r rune) bool { return r == '/' }), "/")
}

// CanonicalExport returns the one spelling of "server:/path". Any other name is returned as it is.
func CanonicalExport(name string) string {
	server, path, ok := SplitExport(name)
	if !ok {
		return name
	}
	return ExportName(canonicalServer(server), canonicalPath(path))
}

// sameServer reports whether two names or addresses are spellings of one.
func isSameServer(a, b string) bool { return canonicalServer(a) == canonicalServer(b) }

// HasServer reports whether the share is on a server, however that is spelled.
func (s Share) HasServer(server string) bool {
	return slices.ContainsFunc(s.Servers, func(own string) bool { return isSameServer(own, server) })
}

// Matches reports whether name is this share: its name, or its export on one of its servers, however
// that is spelled.
func (s Share) Matches(name string) bool {
	if s.Name == name {
		return true
	}
	server, path, ok := SplitExport(name)
	return ok && s.HasServer(server) && canonicalPath(path) == canonicalPath(s.Path)
}

// SameMount reports whether a mount of s serves as one of t.
func (s Share) SameMount(t Share) bool {
	return slices.EqualFunc(s.Servers, t.Servers, isSameServer) &&
		canonicalPath(s.Path) == canonicalPath(t.Path) && slices.Equal(s.MountOptions, t.MountOptions)
}

// holds reports whether o is on a server of s, and its path is that of s or beneath it.
func (s Share) contains(o Share) bool {
	outer, path := canonicalPath(s.Path), canonicalPath(o.Path)
	beneath := path == outer || strings.HasPrefix(path, strings.TrimSuffix(outer, "/")+"/")
	return beneath && slices.ContainsFunc(s.Servers, o.HasServer)
}

// Overlaps reports whether two shares are on one server, the same or one inside the other.
func (s Share) Overlaps(o Share) bool { return s.contains(o) || o.contains(s) }

// IsInside reports whether a share lies in another.
func (s Share) IsInside(o Share) bool { return o.contains(s) && !s.contains(o) }
