// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// maxFormatSize is more than the format of a share has, in bytes.
const maxFormatSize = 64 << 10

// readFormat reads the id of the share, if it has been laid out.
func (t *probeFile) readFormat() (id string, laidOut bool, err error) {
	in, err := t.root.Resolve(volume.StateDir)
	if errors.Is(err, unix.ENOENT) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer in.Close()
	format, err := volume.ReadFormat(func(name string) ([]byte, error) {
		data, _, err := in.Read(name, maxFormatSize)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return data, err
	})
	if format == nil || err != nil {
		return "", false, err
	}
	return format.ID, true, nil
}

// judgeIdentity says which share it is.
func (s *reportBuilder) judgeIdentity(f *Facts) {
	switch {
	case !f.succeeded(stepFormat):
		s.failure("identity", stepFormat, f)
	case !f.LaidOut && f.Expected != "":
		s.problem("identity", "not-laid-out", "there is no %s, and the configuration says that the share has the id %s", path.Join(volume.StateDir, volume.FormatName), f.Expected)
	case !f.LaidOut:
		s.ok("identity", "nothing of Mooring's is there yet")
	case f.Expected != "" && f.ID != f.Expected:
		s.problem("identity", "another-share", "its id is %q, and the configuration says %s", f.ID, f.Expected)
	case f.ID == "":
		s.problem("identity", "no-id", "it was laid out before there were ids")
	case f.Expected == "":
		s.ok("identity", "%s, of which the configuration says nothing", f.ID)
	default:
		s.ok("identity", "%s, as the configuration says", f.ID)
	}
}

// reportDuplicateIDs says of which shares the ids are the same, of those that are as they should be otherwise.
func reportDuplicateIDs(visits []*shareCheck) {
	names := map[string][]string{} // by id
	for _, v := range visits {
		if v.id != "" {
			names[v.id] = append(names[v.id], v.def.Name)
		}
	}
	for _, v := range visits {
		same := slices.DeleteFunc(slices.Clone(names[v.id]), func(name string) bool { return name == v.def.Name })
		i := slices.IndexFunc(v.findings, func(f Finding) bool { return f.Check == "identity" && f.Status == OK })
		if len(same) == 0 || i < 0 {
			continue
		}
		s := reportBuilder{fill: []string{"{share}", v.def.Name}}
		s.problem("identity", "same-share", "%s, which %s has, too", v.id, strings.Join(same, " and "))
		v.findings[i] = s.all[0]
	}
}
