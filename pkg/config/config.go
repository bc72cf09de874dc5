// SPDX-License-Identifier: Apache-2.0

// Package config reads the registry of shares from its YAML file, and reads it again when the
// file changes. It is strict, so that a typo is an error and not a default.
package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/mooring-csi/mooring/pkg/volume"
	"sigs.k8s.io/yaml"
)

// file is the YAML file of the registry.
type file struct {
	Shares       []shareEntry `json:"shares"`
	Defaults     defaults     `json:"defaults"`
	Unregistered string       `json:"unregistered"`
}

type shareEntry struct {
	Name           string   `json:"name"`
	Servers        []string `json:"servers"`
	Path           string   `json:"path"`
	ID             string   `json:"id"`
	MountOptions   []string `json:"mountOptions"`
	Inline         bool     `json:"inline"`
	TrashRetention string   `json:"trashRetention"`
	MaxVolumes     int      `json:"maxVolumes"`
}

type defaults struct {
	MountOptions *[]string `json:"mountOptions"` // nil: nodev, nosuid; an empty list: none
	SubDir       string    `json:"subDir"`
}

// Default returns the registry of an installation without a file: it has no shares, and allows
// the classes of csi-driver-nfs, which name server and path themselves.
func Default() *volume.Registry {
	return &volume.Registry{
		SubDir:       volume.MustTemplate(volume.DefaultSubDir),
		MountOptions: []string{"nodev", "nosuid"},
		Unregistered: true,
	}
}

// secondDocument matches a line that starts or ends a YAML document after a line that is not
// empty, a comment or a directive.
var secondDocument = regexp.MustCompile(`(?m)^[ \t]*[^#%\s].*\n(.*\n)*(---|\.\.\.)([ \t\r]|$)`)

// Parse reads a registry. Its error is volume.ErrInvalid, and contains all faults.
func Parse(data []byte) (*volume.Registry, error) {
	f, err := decode(data)
	if err != nil {
		return nil, err
	}
	r, faults := f.toRegistry()
	if faults != nil {
		return nil, volume.Errorf(volume.ErrInvalid, "%s", strings.Join(faults, "; "))
	}
	return r, nil
}

// Faults returns the faults for which Parse refuses data, each with its place in the file.
func Faults(data []byte) []string {
	f, err := decode(data)
	if err != nil {
		return []string{err.Error()}
	}
	_, faults := f.toRegistry()
	return faults
}

// decode reads the YAML. The error is volume.ErrInvalid.
func decode(data []byte) (f file, err error) {
	read := &f
	if err := yaml.UnmarshalStrict(data, &read); err != nil {
		return f, volume.Errorf(volume.ErrInvalid, "it is not the YAML that is expected: %w", err)
	}
	switch {
	case secondDocument.Match(data):
		return f, volume.Errorf(volume.ErrInvalid, "it has more than one YAML document, of which only the first would be read")
	case read == nil: // a file that is being rewritten in place, without a rename; it may begin with comments
		return f, volume.Errorf(volume.ErrInvalid, "it is empty; an installation without shares says shares: []")
	}
	return f, nil
}

// toRegistry converts the file, and returns its faults.
func (f file) toRegistry() (r *volume.Registry, faults []string) {
	addFault := func(where string, err error) {
		if err != nil {
			faults = append(faults, strings.Map(printable, where+": "+err.Error()))
		}
	}

	r = Default()
	if f.Defaults.MountOptions != nil {
		r.MountOptions = volume.SplitMountOptions(*f.Defaults.MountOptions)
		addFault("defaults.mountOptions", volume.CheckMountOptions(r.MountOptions))
	}
	if f.Defaults.SubDir != "" {
		var err error
		r.SubDir, err = parseSubDir(f.Defaults.SubDir)
		addFault("defaults.subDir", err)
	}
	switch f.Unregistered {
	case "allow":
	case "", "refuse":
		r.Unregistered = false
	default:
		addFault("unregistered", fmt.Errorf("%q is neither allow nor refuse", f.Unregistered))
	}
	for i, e := range f.Shares {
		where := fmt.Sprintf("shares[%d] (%s)", i, e.Name)
		s := e.toShare(func(field string, err error) { addFault(where+field, err) })
		s.MountOptions = volume.MergeMountOptions(r.MountOptions, e.MountOptions)
		addFault(where, checkAgainst(r.Shares, s))
		r.Shares = append(r.Shares, s)
	}
	return r, faults
}

// printable replaces a character of the file that could control a terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

func parseSubDir(text string) (volume.Template, error) {
	t, err := volume.ParseTemplate(text)
	if err != nil {
		return t, err
	}
	_, err = t.ExpandDefault(volume.Names{PVC: "pvc", Namespace: "namespace", PV: "pv"})
	return t, err
}

// checkAgainst returns an error if a share has the name of one above, or cannot be in one registry with it. It is
// about the first of those: a list of copies has as many conflicts as pairs.
func checkAgainst(above []volume.Share, s volume.Share) error {
	for _, o := range above {
		if o.Name == s.Name {
			return fmt.Errorf("the name is taken by a share above")
		}
		if err := checkSeparate(s, o); err != nil {
			return err
		}
	}
	return nil
}

// checkSeparate returns an error if two shares cannot be in one registry.
func checkSeparate(s, o volume.Share) error {
	if o.Overlaps(s) {
		return fmt.Errorf("it is, or lies inside, or holds share %s: a volume of one would hold the other's", o)
	}
	if s.ID != "" && o.ID == s.ID {
		return fmt.Errorf("its id is that of share %s: a copy keeps the id, until mooringctl share reidentify gives it one of its own", o)
	}
	return nil
}

// toShare converts an entry, and calls addFault with the name of each field for its error or nil.
func (e shareEntry) toShare(addFault func(field string, err error)) volume.Share {
	addFault("", volume.CheckShareName(e.Name))
	if len(e.Servers) == 0 {
		addFault(".servers", fmt.Errorf("no address is given"))
	}
	for _, server := range e.Servers {
		addFault(".servers", volume.CheckServer(server))
	}
	addFault(".path", volume.CheckExportPath(e.Path))
	id := ""
	if e.ID != "" {
		var err error
		id, err = volume.ParseShareID(e.ID)
		addFault(".id", err)
	}
	addFault(".mountOptions", volume.CheckMountOptions(e.MountOptions))
	if e.MaxVolumes < 0 {
		addFault(".maxVolumes", fmt.Errorf("%d is negative", e.MaxVolumes))
	}
	retention, err := parseRetention(e.TrashRetention)
	addFault(".trashRetention", err)
	return volume.Share{
		Name: e.Name, Servers: e.Servers, Path: e.Path, ID: id, Inline: e.Inline, MaxVolumes: e.MaxVolumes, TrashRetention: retention,
	}
}

func parseRetention(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	retention, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	if retention < 0 {
		return 0, fmt.Errorf("%v is negative", retention)
	}
	return retention, nil
}
