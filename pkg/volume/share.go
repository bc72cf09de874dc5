// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Share is an NFS export with the name that volumes use for it. The name is its
// identity; the addresses are not, and may change.
type Share struct {
	Name           string
	Servers        []string      // tried in order; the first one that answers is used
	Path           string        // the export's absolute path
	ID             string        // the expected id of the share; "": any
	MountOptions   []string      // the registry's defaults (config.Default: nodev, nosuid) and the share's own, in this order
	Inline         bool          // pods may name it in an ephemeral inline volume
	TrashRetention time.Duration // how long a deleted volume or snapshot stays in the trash; 0: it is purged at once
	MaxVolumes     int           // 0: no limit
}

// String returns the share's name and address, for errors: "nas1 (10.0.0.200:/export)".
func (s Share) String() string {
	at := ExportName(strings.Join(s.Servers, ","), s.Path)
	if s.Name == at {
		return s.Name
	}
	return fmt.Sprintf("%s (%s)", s.Name, at)
}

// Source returns the source for mount(8) of a directory on the share, on one of its
// servers: "server:/path/directory". directory may be "" for the share itself.
func (s Share) Source(server, directory string) string {
	return ExportName(server, path.Join(s.Path, directory))
}

// Registry is the set of shares in a configuration file. It does not change: a new file makes
// a new Registry.
type Registry struct {
	Shares []Share
	// SubDir is the template of a volume's directory if the class gives none.
	SubDir Template
	// MountOptions are for unregistered exports; registered shares have them already.
	MountOptions []string
	// Unregistered reports whether a class, or a handle, may name an unregistered export.
	Unregistered bool
}

// Resolve finds a share by name or by "server:/path". The latter is the registered share with this export,
// in any spelling, or else an unregistered export if the registry allows those. The name of an unregistered
// export is its canonical spelling.
//
// The error is ErrPrecondition, because a corrected file may have the name again. It is ErrInvalid for a name
// that cannot be an export, or is not spelled as ExportName does.
func (r *Registry) Resolve(name string) (Share, error) {
	for _, s := range r.Shares {
		if s.Matches(name) {
			return s, nil
		}
	}
	server, exported, ok := SplitExport(name)
	if !ok {
		return Share{}, Errorf(ErrPrecondition, "share %q is not in Mooring's configuration (it knows: %s): register it again, with its address and path, to reach its volumes", name, r.names())
	}
	if !r.Unregistered {
		return Share{}, Errorf(ErrPrecondition, "export %s is not registered, and Mooring's configuration does not allow unregistered exports: register it as a share, or set unregistered: allow", name)
	}
	if err := checkExport(server, exported); err != nil {
		return Share{}, err
	}
	if want := ExportName(server, exported); want != name {
		return Share{}, Errorf(ErrInvalid, "the export %q should be written %q", name, want)
	}
	return Share{Name: CanonicalExport(name), Servers: []string{server}, Path: exported, MountOptions: r.MountOptions}, nil
}

// Has reports whether a share has exactly this name: a registered one, or an unregistered export if the registry
// allows those. Another spelling of an export is not its name.
func (r *Registry) Has(name string) bool {
	def, err := r.Resolve(name)
	return err == nil && def.Name == name
}

// CheckNested returns ErrPrecondition if the unregistered share s is inside a registered one, or contains one.
// Its existing volumes can be used, but it gets no new ones.
func (r *Registry) CheckNested(s Share) error {
	for _, o := range r.Shares {
		if !o.Matches(s.Name) && s.Overlaps(o) {
			return Errorf(ErrPrecondition, "export %s and the registered share %s lie one inside the other, and a volume of one would hold the other's: use share %q", s.Name, o, o.Name)
		}
	}
	return nil
}

func (r *Registry) names() string {
	var names []string
	for _, s := range r.Shares {
		names = append(names, s.Name)
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// CheckShareName checks a share's name: it has 1 to 40 lower-case letters, digits, '-' and '.', and
// begins and ends with a letter or digit. 40 leave space in a handle for the longest key. The error
// is ErrInvalid.
func CheckShareName(name string) error {
	ok := len(name) >= 1 && len(name) <= 40
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = alnum || (c == '-' || c == '.') && i > 0 && i < len(name)-1
	}
	if !ok {
		return Errorf(ErrInvalid, "%q cannot be a share's name: it takes 1 to 40 lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit", name)
	}
	return nil
}

// ExportName returns "server:/path", with an IPv6 address in brackets, as mount.nfs requires (nfs(5)).
func ExportName(server, path string) string {
	if a, _ := netip.ParseAddr(server); a.Is6() {
		server = "[" + server + "]"
	}
	return server + ":" + path
}

// SplitExport is the inverse of ExportName. ok is false if name is not the name of an export.
func SplitExport(name string) (server, path string, ok bool) {
	i := strings.Index(name, ":/")
	if strings.HasPrefix(name, "[") {
		i = strings.Index(name, "]:/") + 1
	}
	if i <= 0 {
		return "", "", false
	}
	server = strings.TrimSuffix(strings.TrimPrefix(name[:i], "["), "]")
	return server, name[i+1:], true
}

// CheckServer checks a server's name or address. The error is ErrInvalid.
func CheckServer(server string) error {
	text := server
	if a, _ := netip.ParseAddr(server); a.IsValid() {
		if text = a.Zone(); text == "" { // netip accepts any text as a zone
			return nil
		}
	}
	ok := text != "" && len(text) <= 253 && text[0] != '-'
	for i := 0; ok && i < len(text); i++ {
		c := text[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
	}
	if !ok {
		return Errorf(ErrInvalid, "%q is neither a host name nor an IP address", server)
	}
	return nil
}

// CheckExportPath checks the path of an export. The error is ErrInvalid.
func CheckExportPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return Errorf(ErrInvalid, "the export's path %q does not begin with /", p)
	case path.Clean(p) != p:
		return Errorf(ErrInvalid, "the export's path %q should be written %q", p, path.Clean(p))
	case len(p) > 1024:
		return Errorf(ErrInvalid, "the export's path is %d bytes long; 1024 are enough", len(p))
	case !utf8.ValidString(p) || strings.ContainsFunc(p, isControl):
		return Errorf(ErrInvalid, "the export's path %q has control characters or is not UTF-8", p)
	}
	return nil
}

func checkExport(server, path string) error {
	if err := CheckServer(server); err != nil {
		return err
	}
	return CheckExportPath(path)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
