// SPDX-License-Identifier: Apache-2.0

// Package config reads the registry of shares from its YAML file: strictly, so that a typo
// is an error and not a default, and again whenever the file changes.
package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"sigs.k8s.io/yaml"
)

// file is the registry as it is written.
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
	MountOptions *[]string `json:"mountOptions"` // nil: nodev, nosuid; an empty list lifts them
	SubDir       string    `json:"subDir"`
}

// Default returns the registry of an installation without a file: no share, and
// csi-driver-nfs's classes, which name server and path themselves, allowed.
func Default() *volume.Registry {
	return &volume.Registry{
		SubDir:       volume.MustTemplate(volume.DefaultSubDir),
		MountOptions: []string{"nodev", "nosuid"},
		Unregistered: true,
	}
}

// moreDocuments finds a line that begins or ends a YAML document after one that is neither
// empty nor a comment nor a directive.
var secondDocument = regexp.MustCompile(`(?m)^[ \t]*[^#%\s].*\n(.*\n)*(---|\.\.\.)([ \t\r]|$)`)

// Parse reads a registry. All that is wrong is in the one error, which is volume.ErrInvalid.
func Parse(data []byte) (*volume.Registry, error) {
	var f file
	if len(bytes.TrimSpace(data)) == 0 {
		// A file that is just being written anew, by something other than a rename.
		return nil, volume.Errorf(volume.ErrInvalid, "it is empty; an installation without shares says shares: []")
	}
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		return nil, volume.Errorf(volume.ErrInvalid, "it is not the YAML that is expected: %w", err)
	}
	if secondDocument.Match(data) {
		return nil, volume.Errorf(volume.ErrInvalid, "it has more than one YAML document, of which only the first would be read")
	}
	var faults []string
	wrong := func(where string, err error) {
		if err != nil {
			faults = append(faults, where+": "+err.Error())
		}
	}

	r := Default()
	if f.Defaults.MountOptions != nil {
		r.MountOptions = volume.SplitMountOptions(*f.Defaults.MountOptions)
		wrong("defaults.mountOptions", volume.CheckMountOptions(r.MountOptions))
	}
	if f.Defaults.SubDir != "" {
		template, err := volume.ParseTemplate(f.Defaults.SubDir)
		if err == nil {
			_, err = template.ExpandDefault(volume.Names{PVC: "pvc", Namespace: "namespace", PV: "pv"})
		}
		wrong("defaults.subDir", err)
		r.SubDir = template
	}
	switch f.Unregistered {
	case "allow":
	case "", "refuse":
		r.Unregistered = false
	default:
		wrong("unregistered", fmt.Errorf("%q is neither allow nor refuse", f.Unregistered))
	}
	for i, e := range f.Shares {
		where := fmt.Sprintf("shares[%d] (%s)", i, e.Name)
		s := e.toShare(func(field string, err error) { wrong(where+field, err) })
		s.MountOptions = volume.MergeMountOptions(r.MountOptions, e.MountOptions)
		for _, o := range r.Shares {
			if o.Name == e.Name {
				wrong(where, fmt.Errorf("the name is taken by a share above"))
			}
			wrong(where, checkSeparate(s, o))
		}
		r.Shares = append(r.Shares, s)
	}
	if faults != nil {
		return nil, volume.Errorf(volume.ErrInvalid, "%s", strings.Join(faults, "; "))
	}
	return r, nil
}

// apart says what is wrong with a share beside another, if anything.
func checkSeparate(s, o volume.Share) error {
	if o.Overlaps(s) {
		return fmt.Errorf("it is, or lies inside, or holds share %s: a volume of one would hold the other's", o)
	}
	if s.ID != "" && o.ID == s.ID {
		return fmt.Errorf("its id is that of share %s: a copy keeps the id, until mooringctl share reidentify gives it one of its own", o)
	}
	return nil
}

// check converts an entry, and says what is wrong with which of its fields.
func (e shareEntry) toShare(wrong func(field string, err error)) volume.Share {
	wrong("", volume.CheckShareName(e.Name))
	if len(e.Servers) == 0 {
		wrong(".servers", fmt.Errorf("no address is given"))
	}
	for _, server := range e.Servers {
		wrong(".servers", volume.CheckServer(server))
	}
	wrong(".path", volume.CheckExportPath(e.Path))
	id := ""
	if e.ID != "" {
		var err error
		id, err = volume.ParseShareID(e.ID)
		wrong(".id", err)
	}
	wrong(".mountOptions", volume.CheckMountOptions(e.MountOptions))
	if e.MaxVolumes < 0 {
		wrong(".maxVolumes", fmt.Errorf("%d is negative", e.MaxVolumes))
	}
	var retention time.Duration
	if e.TrashRetention != "" {
		var err error
		if retention, err = time.ParseDuration(e.TrashRetention); err == nil && retention < 0 {
			err = fmt.Errorf("%v is negative", retention)
		}
		wrong(".trashRetention", err)
	}
	return volume.Share{
		Name: e.Name, Servers: e.Servers, Path: e.Path, ID: id, Inline: e.Inline, MaxVolumes: e.MaxVolumes, TrashRetention: retention,
	}
}
