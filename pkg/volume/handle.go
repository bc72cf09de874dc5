// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

const (
	// MaxHandle is the longest volume_id in bytes (CSI spec, "Size Limits": 128).
	MaxHandle = 128
	// maxKey leaves space in a handle for a share's name.
	maxKey = 80
	// hashPrefix is the prefix of every key that is a hash. Names with this prefix are hashed, too,
	// so that no name equals the hash of another one.
	hashPrefix = "h-"
)

// Handle identifies a volume: the CSI volume_id is its String. Share is the name of a
// registered share, or "server:/path" of an unregistered export.
type Handle struct {
	Share string
	Key   string
}

// String returns "<share>/<key>".
func (h Handle) String() string { return h.Share + "/" + h.Key }

// NewHandle joins the two and checks the length that CSI allows. The error is ErrInvalid.
func NewHandle(share, key string) (Handle, error) {
	h := Handle{Share: share, Key: key}
	if len(h.String()) > MaxHandle {
		return Handle{}, Errorf(ErrInvalid, "the volume handle %q would be %d bytes long, and CSI allows %d: register the export under a short name in Mooring's configuration and name that in the class's parameter share", h, len(h.String()), MaxHandle)
	}
	return h, nil
}

// ParseHandle is the inverse of String. It accepts only results of NewHandle and KeyFor.
// Anything else is ErrInvalid; for a handle of csi-driver-nfs the error says so.
func ParseHandle(s string) (Handle, error) {
	switch {
	case s == "":
		return Handle{}, Errorf(ErrInvalid, "the volume handle is empty")
	case len(s) > MaxHandle:
		return Handle{}, Errorf(ErrInvalid, "the volume handle is %d bytes long, and CSI allows %d", len(s), MaxHandle)
	case strings.Contains(s, "#") && !strings.Contains(s, ":/"): // an export's path may have one
		return Handle{}, Errorf(ErrInvalid, "the volume handle %q is not Mooring's: it looks like csi-driver-nfs's", s)
	}
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return Handle{}, Errorf(ErrInvalid, "the volume handle %q is not Mooring's: it should read <share>/<key>", s)
	}
	h := Handle{Share: s[:i], Key: s[i+1:]}
	if !ValidKey(h.Key) {
		return Handle{}, Errorf(ErrInvalid, "the volume handle %q is not Mooring's: %q cannot be a volume's key", s, h.Key)
	}
	if server, path, ok := SplitExport(h.Share); ok {
		if err := checkExport(server, path); err != nil || ExportName(server, path) != h.Share {
			return Handle{}, Errorf(ErrInvalid, "the volume handle %q is not Mooring's: %q cannot be an export", s, h.Share)
		}
	} else if err := CheckShareName(h.Share); err != nil {
		return Handle{}, Errorf(ErrInvalid, "the volume handle %q is not Mooring's: %w", s, err)
	}
	return h, nil
}

// KeyFor returns the file name of the record for a CSI name: the name itself if it is
// safe and at most 80 bytes long, else a hash of it. The same name always gives the
// same key, so that a retry finds its record.
func KeyFor(name string) string {
	if isSafeName(name) && len(name) <= maxKey && !strings.HasPrefix(name, hashPrefix) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hashPrefix + hashEncoding.EncodeToString(sum[:])
}

var hashEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ValidKey reports whether key is a possible result of KeyFor.
func ValidKey(key string) bool {
	if hash, hashed := strings.CutPrefix(key, hashPrefix); hashed {
		sum, err := hashEncoding.DecodeString(hash)
		return err == nil && len(sum) == sha256.Size && hashEncoding.EncodeToString(sum) == hash
	}
	return isSafeName(key) && len(key) <= maxKey
}

// isSafeName reports whether s can be a file name on every system, without quoting, and is not hidden.
func isSafeName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return s != ""
}
