// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// damage is what can be wrong with a record.
type damage struct {
	name   string
	change func(record []byte) []byte
	code   codes.Code
	says   string
}

var damages = []damage{
	{"truncated", func(r []byte) []byte { return r[:len(r)/2] }, codes.DataLoss, "not whole JSON"},
	{"empty", func([]byte) []byte { return nil }, codes.DataLoss, "not whole JSON"},
	{"zeros", func(r []byte) []byte { return make([]byte, len(r)) }, codes.DataLoss, "not whole JSON"},
	{"not JSON", func([]byte) []byte { return []byte("directory: good\n") }, codes.DataLoss, "not whole JSON"},
	{"two records", func(r []byte) []byte { return append(r, r...) }, codes.DataLoss, "not whole JSON"},
	{"of a newer version", field("version", 2), codes.FailedPrecondition, "of version 2, and this Mooring knows 1: upgrade Mooring"},
	{"of no version", field("version", 0), codes.DataLoss, "its version is 0"},
	{"with a field too many", field("colour", "red"), codes.DataLoss, `unknown field "colour"`},
	{"of another key", field("key", "pvc-other"), codes.DataLoss, `that of "pvc-other"`},
	{"of another name", field("name", "pvc-other"), codes.DataLoss, `its name is "pvc-other"`},
	{"half ready", field("ready", 2), codes.DataLoss, "ready is 2"},
	{"of a negative size", field("capacityBytes", -1), codes.DataLoss, "capacity is -1"},
	{"to be burnt", field("onDelete", "burn"), codes.DataLoss, `onDelete is "burn"`},
	{"of the share", field("directory", "."), codes.DataLoss, `the name "." in it`},
	{"of what is above", field("directory", ".."), codes.DataLoss, `the name ".." in it`},
	{"of what is beside", field("directory", "good/../other"), codes.DataLoss, `the name ".." in it`},
	{"of an absolute path", field("directory", "/etc"), codes.DataLoss, "begins with /"},
	{"of Mooring's own", field("directory", ".mooring/volumes"), codes.DataLoss, "Mooring's own"},
}

// noCache has the controller see at once what the server's other clients change. A record that
// somebody else replaces would be seen within a minute else.
const noCache = "mountOptions: [noac]"

// field changes one field of a record, and nothing of how it is written.
func field(name string, value any) func([]byte) []byte {
	return func(record []byte) []byte {
		text, _ := json.Marshal(value)
		var out []byte
		found := false
		for line := range bytes.Lines(record) {
			if key, _, ok := bytes.Cut(line, []byte(":")); ok && strings.Trim(string(key), ` "`) == name {
				end := line[len(bytes.TrimRight(line, ",\n")):]
				line = append([]byte(`  "`+name+`": `+string(text)), end...)
				found = true
			}
			if !found && bytes.Equal(line, []byte("}\n")) {
				out = append(bytes.TrimRight(out, "\n"), ",\n  \""+name+"\": "+string(text)+"\n"...)
			}
			out = append(out, line...)
		}
		return out
	}
}

// TestDamagedRecords has every RPC meet a record that cannot be believed, where the record was
// written in place, so that the claim, which is a link to it, is the same, and where it was
// replaced. Nothing on the share may change.
func TestDamagedRecords(t *testing.T) {
	for _, replace := range []bool{false, true} {
		name := map[bool]string{false: "in place", true: "replaced"}[replace]
		t.Run(name, func(t *testing.T) {
			s := newSite(t, noCache)
			good := s.mustCreate("pvc-good", "good")
			other := s.mustCreate("pvc-other", "other")
			write(t, s.at("good/data"), "good")
			write(t, s.at("other/data"), "other")
			file := s.at(".mooring/volumes/pvc-good.json")
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range damages {
				t.Run(d.name, func(t *testing.T) {
					put(t, file, d.change(bytes.Clone(whole)), replace)
					unchanged(t, s.export, func() { s.meets(t, d) })
				})
			}
			put(t, file, whole, replace)
			s.mustDelete(good.VolumeId, other.VolumeId)
			s.empty()
		})
	}
}

// put changes a file of the server.
func put(t *testing.T, file string, data []byte, replace bool) {
	t.Helper()
	to := file
	if replace {
		to += ".new"
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	rename(t, to, file)
}

// meets calls everything on a volume whose record is damaged.
func (s *site) meets(t *testing.T, d damage) {
	t.Helper()
	all := s.each("nas1/pvc-good")
	all["delete"] = s.delete("nas1/pvc-good")
	_, all["create"] = s.create("pvc-good", params{"subDir": "good"})
	for rpc, err := range all {
		t.Run(rpc, func(t *testing.T) {
			wantCode(t, err, d.code, d.says, "pvc-good", "nas1 (127.0.0.1:"+s.path+")")
		})
	}
	r, err := s.controller().ListVolumes(soon(t), &csi.ListVolumesRequest{})
	if err != nil || len(r.Entries) != 1 || r.Entries[0].Volume.VolumeId != "nas1/pvc-other" {
		t.Errorf("the list is %v (%v), and should have the other volume", r, err)
	}
}

// TestLyingRecords has a record name a directory that is not its volume's. Nobody's data is
// destroyed on its word.
func TestLyingRecords(t *testing.T) {
	for _, onDelete := range []string{"delete", "archive", "retain"} {
		t.Run(onDelete, func(t *testing.T) {
			s := newSite(t, noCache)
			s.mustCreate("pvc-good", "good", "onDelete", onDelete)
			s.mustCreate("pvc-other", "other")
			s.mustCreate("pvc-app", "apps/db")
			for _, name := range []string{"good/data", "other/data", "other/sub/data", "foreign/data", "foreign/deep/data", "apps/db/data"} {
				write(t, s.at(name), name)
			}
			symlink(t, "other", s.at("link"))
			whole, err := os.ReadFile(s.at(".mooring/volumes/pvc-good.json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, replace := range []bool{false, true} {
				for _, c := range lies {
					t.Run(c.name+map[bool]string{true: ", replaced"}[replace], func(t *testing.T) {
						put(t, s.at(".mooring/volumes/pvc-good.json"), field("directory", c.directory)(whole), replace)
						defer put(t, s.at(".mooring/volumes/pvc-good.json"), whole, false)
						s.believesNot(t, c.directory, onDelete, c.owner)
					})
				}
			}
			s.mustDelete("nas1/pvc-good", "nas1/pvc-other", "nas1/pvc-app")
		})
	}
}

var lies = []struct{ name, directory, owner string }{
	{"another volume's", "other", "pvc-other"},
	{"inside another volume's", "other/sub", "no volume"},
	{"around other volumes", "apps", "no volume"},
	{"nobody's", "foreign", "no volume"},
	{"nobody's, nested", "foreign/deep", "no volume"},
	{"a link to another volume's", "link", "no volume"},
	{"below a link", "link/sub", "no volume"},
}

// believesNot meets a record that says that its volume's directory is another than "good".
func (s *site) believesNot(t *testing.T, directory, onDelete, owner string) {
	t.Helper()
	unchanged(t, s.export, func() {
		_, err := s.create("pvc-good", params{"subDir": "good", "onDelete": onDelete})
		wantCode(t, err, codes.AlreadyExists, "pvc-good", directory, `"good"`)
	})
	before := tree(t, s.export)
	err := s.delete("nas1/pvc-good")
	if onDelete == "retain" && owner == "no volume" {
		// It looks like a deletion that was interrupted after the claim, and destroys nothing.
		wantCode(t, err, codes.OK)
		delete(before, ".mooring/volumes/pvc-good.json")
	} else {
		code, says := codes.DataLoss, []string{"pvc-good", owner + " has the claim on that", "nothing was changed"}
		if strings.HasPrefix(directory, "link") {
			code, says = codes.FailedPrecondition, []string{"symbolic link"}
		}
		wantCode(t, err, code, append(says, "nas1 (127.0.0.1:"+s.path+")", directory)...)
	}
	if d := differences(before, tree(t, s.export)); d != nil {
		t.Errorf("the share was changed:\n%s", strings.Join(d, "\n"))
	}
	if err == nil {
		return
	}
	// What destroys nothing takes the record at its word, and changes nothing else.
	for rpc, err := range s.each("nas1/pvc-good") {
		if err != nil {
			t.Errorf("%s: %v", rpc, err)
		}
	}
	after := tree(t, s.export)
	after[".mooring/volumes/pvc-good.json"] = before[".mooring/volumes/pvc-good.json"]
	if d := differences(before, after); d != nil {
		t.Errorf("the share was changed:\n%s", strings.Join(d, "\n"))
	}
}
