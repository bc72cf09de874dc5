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

// maxFormatSize bounds the size of a share's format file, in bytes.
const maxFormatSize = 64 << 10

// readFormat reads the id of the share, if it is laid out.
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

// judgeIdentity compares the id on the share with the configuration.
func (s *reportBuilder) judgeIdentity(f *Facts) {
	switch {
	case !f.succeeded(stepFormat):
		s.failure("identity", stepFormat, f)
	case !f.LaidOut && f.Expected != "":
		s.problem("identity", "not-laid-out", "%s does not exist, but in the configuration the share has the id %s", path.Join(volume.StateDir, volume.FormatName), f.Expected)
	case !f.LaidOut:
		s.ok("identity", "Mooring has not used the share yet")
	case f.Expected != "" && f.ID != f.Expected:
		s.problem("identity", "another-share", "the id is %q, and in the configuration it is %s", f.ID, f.Expected)
	case f.ID == "":
		s.problem("identity", "no-id", "the share was laid out by a version of Mooring without ids")
	case f.Expected == "":
		s.ok("identity", "%s; the configuration has no id", f.ID)
	default:
		s.ok("identity", "%s, as in the configuration", f.ID)
	}
}

// reportDuplicateIDs reports shares that have the same id and no other problem with it.
func reportDuplicateIDs(checks []*shareCheck) {
	names := map[string][]string{} // by id
	for _, sc := range checks {
		if sc.id != "" {
			names[sc.id] = append(names[sc.id], sc.def.Name)
		}
	}
	for _, sc := range checks {
		same := slices.DeleteFunc(slices.Clone(names[sc.id]), func(name string) bool { return name == sc.def.Name })
		i := slices.IndexFunc(sc.findings, func(f Finding) bool { return f.Check == "identity" && f.Status == OK })
		if len(same) == 0 || i < 0 {
			continue
		}
		s := reportBuilder{fill: []string{"{share}", sc.def.Name}}
		s.problem("identity", "same-share", "the id %s, which %s also has", sc.id, strings.Join(same, " and "))
		sc.findings[i] = s.all[0]
	}
}
