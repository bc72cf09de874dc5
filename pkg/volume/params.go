// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OnDelete says what happens to the directory of a deleted volume. If it is not given, it is Delete,
// or Retain for a directory that was adopted.
type OnDelete string

const (
	Delete  OnDelete = "delete"  // moved to the trash, and purged
	Retain  OnDelete = "retain"  // kept in its place
	Archive OnDelete = "archive" // renamed to archived-<name>
)

// DefaultMode is the mode of a new directory if the class gives none: the one that mkdir gives
// root under the usual umask.
const DefaultMode = 0o755

// Params are the parsed parameters of a StorageClass.
type Params struct {
	Shares []string // registered names; "*" alone is every one. Exactly one element "server:/path" for an unregistered export
	SubDir Template // zero: the configuration's
	Names  Names

	OnDelete      OnDelete // "": not given
	Mode          *uint32  // permission bits with setuid, setgid and sticky; nil: not given
	UID, GID      *uint32
	Adopt         bool           // existingDirectory: adopt
	CheckCapacity bool           // capacity: checked
	Retention     *time.Duration // in the trash; nil: the share's
	Shallow       bool           // restore: shallow
}

// reservedPrefix is the prefix of the keys in which external-provisioner passes metadata.
const reservedPrefix = "csi.storage.k8s.io/"

// ParameterHelp describes each key of a StorageClass's parameters; no other keys are allowed. A
// test checks the README's table against it.
var ParameterHelp = map[string]string{
	"share":             "registered share, several with commas, or * for all; with server, the path of an export",
	"server":            "host name or address of a server, for an export that is not registered",
	"subDir":            "template of the volume's directory, relative to the share",
	"onDelete":          "delete, retain or archive",
	"mountPermissions":  "mode of the new directory, octal",
	"uid":               "owner of the new directory",
	"gid":               "group of the new directory",
	"existingDirectory": "refuse or adopt a directory that exists already",
	"capacity":          "unchecked, or checked against the share's free space",
	"trashRetention":    "how long a deleted volume can be brought back",
	"restore":           "copy, or shallow: a read-only volume is the snapshot itself",
}

// mutableParameters are the parameters that a VolumeAttributesClass can change for an existing volume.
var mutableParameters = map[string]bool{"onDelete": true, "trashRetention": true}

// ParseParams parses the parameters of CreateVolume. Keys are case-insensitive, as in
// csi-driver-nfs. The error is ErrInvalid, and contains all faults.
func ParseParams(parameters map[string]string) (Params, error) {
	p := parser{values: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		p.add(key, parameters[key])
	}
	params := Params{
		Names: Names{
			PVC:       parameters[reservedPrefix+"pvc/name"],
			Namespace: parameters[reservedPrefix+"pvc/namespace"],
			PV:        parameters[reservedPrefix+"pv/name"],
		},
		Shares:        p.shares(),
		SubDir:        p.template("subDir"),
		OnDelete:      p.onDelete(),
		Mode:          p.mode(),
		UID:           p.id("uid"),
		GID:           p.id("gid"),
		Adopt:         p.oneOf("existingDirectory", "refuse", "adopt") == "adopt",
		CheckCapacity: p.oneOf("capacity", "unchecked", "checked") == "checked",
		Shallow:       p.oneOf("restore", "copy", "shallow") == "shallow",
	}
	params.Retention = p.retention()
	return params, p.err("the class's parameters cannot be used")
}

// deletionPolicy is a field of snapshot classes that some users also put among the parameters, as
// Kubernetes' own tests of groups do. A driver ignores it.
const deletionPolicy = "deletionPolicy"

// CheckSnapshotParams refuses every parameter of a VolumeSnapshotClass: there are none. It ignores
// those that external-snapshotter adds. The error is ErrInvalid.
func CheckSnapshotParams(parameters map[string]string) error {
	p := parser{}
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		if !strings.HasPrefix(key, reservedPrefix) && key != deletionPolicy {
			p.addFault("%q is not a parameter", key)
		}
	}
	return p.err("a snapshot class takes no parameters")
}

// Mutable are the properties that ControllerModifyVolume can change.
type Mutable struct {
	OnDelete  OnDelete // "": unchanged
	Retention *time.Duration
}

// ParseMutable parses the parameters of a VolumeAttributesClass. The error is ErrInvalid.
func ParseMutable(parameters map[string]string) (Mutable, error) {
	p := parser{values: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		p.add(key, parameters[key])
	}
	for _, key := range slices.Sorted(maps.Keys(p.values)) {
		if !mutableParameters[key] {
			p.addFault("%s cannot be changed after the volume was created", key)
		}
	}
	m := Mutable{OnDelete: p.onDelete(), Retention: p.retention()}
	return m, p.err("the mutable parameters cannot be used")
}

// parser collects all faults, so that a user corrects a class once and not key by key.
type parser struct {
	values map[string]string
	faults []string
}

func (p *parser) addFault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func (p *parser) err(what string) error {
	if p.faults == nil {
		return nil
	}
	return Errorf(ErrInvalid, "%s: %s", what, strings.Join(p.faults, "; "))
}

func (p *parser) add(key, value string) {
	if strings.HasPrefix(key, reservedPrefix) {
		return
	}
	for known := range ParameterHelp {
		if strings.EqualFold(key, known) {
			if _, twice := p.values[known]; twice {
				p.addFault("%s is given twice, in different spellings", known)
			}
			p.values[known] = value
			return
		}
	}
	p.addFault("%q is not a parameter; there are %s", key, strings.Join(slices.Sorted(maps.Keys(ParameterHelp)), ", "))
}

func (p *parser) oneOf(key string, first string, more ...string) string {
	value := cmp.Or(p.values[key], first)
	for _, allowed := range append(more, first) {
		if strings.EqualFold(value, allowed) {
			return allowed
		}
	}
	p.addFault("%s is %q, and can be %s", key, value, strings.Join(append([]string{first}, more...), " or "))
	return first
}

func (p *parser) onDelete() OnDelete {
	if p.values["onDelete"] == "" {
		return ""
	}
	return OnDelete(p.oneOf("onDelete", string(Delete), string(Retain), string(Archive)))
}

func (p *parser) shares() []string {
	share, server := p.values["share"], p.values["server"]
	if server != "" {
		server = strings.TrimSuffix(strings.TrimPrefix(server, "["), "]")
		share = canonicalPath(share) // csi-driver-nfs accepts any spelling
		if err := checkExport(server, share); err != nil {
			p.addFault("%v", err)
		}
		if p.values["share"] == "" {
			p.addFault("share is missing: with server, it is the path of the export")
		}
		return []string{ExportName(server, share)}
	}
	switch {
	case share == "":
		p.addFault("share is missing: name a registered share, or give server and share for an export that is not registered")
		return nil
	case strings.HasPrefix(share, "/"):
		p.addFault("share is the path %q, which needs a server beside it", share)
		return nil
	case share == "*":
		return []string{"*"}
	}
	var names []string
	for name := range strings.SplitSeq(share, ",") {
		name = strings.TrimSpace(name)
		if err := CheckShareName(name); err != nil {
			p.addFault("share: %v", err)
		}
		if slices.Contains(names, name) {
			p.addFault("share names %q twice", name)
		}
		names = append(names, name)
	}
	return names
}

func (p *parser) template(key string) Template {
	t, err := ParseTemplate(p.values[key])
	if err != nil {
		p.addFault("%v", err)
	}
	return t
}

// mode parses mountPermissions. For csi-driver-nfs 0 means "not given".
func (p *parser) mode() *uint32 {
	value := p.values["mountPermissions"]
	if value == "" {
		return nil
	}
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o7777 || strings.HasPrefix(value, "+") {
		p.addFault("mountPermissions is %q, and should be an octal mode of at most 7777, like 0770", value)
		return nil
	}
	if n == 0 {
		return nil
	}
	mode := uint32(n)
	return &mode
}

func (p *parser) id(key string) *uint32 {
	value := p.values[key]
	if value == "" {
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == 1<<32-1 || strings.HasPrefix(value, "+") { // -1 means "unchanged" to chown(2)
		p.addFault("%s is %q, and should be a number from 0 to 4294967294", key, value)
		return nil
	}
	id := uint32(n)
	return &id
}

func (p *parser) retention() *time.Duration {
	value := p.values["trashRetention"]
	if value == "" {
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		p.addFault("trashRetention is %q, and should be a duration like 24h or 0s", value)
		return nil
	}
	return &d
}
