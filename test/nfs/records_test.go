// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// damage is a kind of damage to a record.
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
	{"of no version", field("version", 0), codes.DataLoss, "its version is 0"},
	{"of another key", field("key", "pvc-other"), codes.DataLoss, `that of "pvc-other"`},
	{"of another name", field("name", "pvc-other"), codes.DataLoss, `its name is "pvc-other"`},
	{"of another nonce", field("nonce", "0"), codes.DataLoss, `its nonce is "0"`},
	{"of a negative size", field("capacityBytes", -1), codes.DataLoss, "capacity is -1"},
	{"to be burnt", field("onDelete", "burn"), codes.DataLoss, `onDelete is "burn"`},
	{"of the share", field("directory", "."), codes.DataLoss, `the name "." in it`},
	{"of what is above", field("directory", ".."), codes.DataLoss, `the name ".." in it`},
	{"of what is beside", field("directory", "good/../other"), codes.DataLoss, `the name ".." in it`},
	{"of an absolute path", field("directory", "/etc"), codes.DataLoss, "begins with /"},
	{"of Mooring's own", field("directory", ".mooring/volumes"), codes.DataLoss, "Mooring's own"},
}

// noCache lets the controller see changes of the server's other clients at once. Otherwise it would see
// a replaced record within a minute.
const noCache = "mountOptions: [noac]"

// field changes one field of a record, and not its format.
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

// TestDamagedRecords calls every RPC for a volume with a damaged record: one that was written in place, so
// that the claim, a hard link to it, has the same content, and one that was replaced. Nothing on the share
// may change.
func TestDamagedRecords(t *testing.T) {
	for _, replace := range []bool{false, true} {
		name := map[bool]string{false: "in place", true: "replaced"}[replace]
		t.Run(name, func(t *testing.T) {
			s := newSite(t, noCache)
			good := s.mustCreate("pvc-good", "good")
			other := s.mustCreate("pvc-other", "other")
			write(t, s.at("good/data"), "good")
			write(t, s.at("other/data"), "other")
			file := s.at(goodRecord)
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range damages {
				t.Run(d.name, func(t *testing.T) {
					writeRecord(t, file, d.change(bytes.Clone(whole)), replace)
					unchanged(t, s.export, func() { callAllRPCs(t, s, d) })
				})
			}
			writeRecord(t, file, whole, replace)
			s.mustDelete(good.VolumeId, other.VolumeId)
			s.empty()
		})
	}
}

// writeRecord writes a file on the server.
func writeRecord(t *testing.T, file string, data []byte, replace bool) {
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

// callAllRPCs calls every RPC for a volume whose record is damaged.
func callAllRPCs(t *testing.T, s *site, d damage) {
	t.Helper()
	all := callEach(s, "nas1/pvc-good")
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

// TestRecordsOfLaterVersions uses a record that requires a feature that this program does not have: calls
// that only read succeed, and others change nothing. Unknown fields that are not required are kept.
func TestRecordsOfLaterVersions(t *testing.T) {
	s := newSite(t, noCache)
	v := s.mustCreate("pvc-good", "good")
	file := s.at(goodRecord)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeRecord(t, file, field("requires", []string{"colours"})(field("version", 2)(whole)), true)
	unchanged(t, s.export, func() {
		all := callEach(s, v.VolumeId)
		all["delete"] = s.delete(v.VolumeId)
		for rpc, err := range all {
			if rpc == "get" || rpc == "validate" {
				wantError(t, err, codes.OK)
			} else {
				wantError(t, err, codes.FailedPrecondition, "volume pvc-good requires colours, which this Mooring does not know: upgrade Mooring", "nas1 (127.0.0.1:"+s.path+")")
			}
		}
	})
	writeRecord(t, file, field("colour", "red")(field("version", 2)(whole)), true)
	for rpc, err := range callEach(s, v.VolumeId) {
		if err != nil {
			t.Errorf("%s: %v", rpc, err)
		}
	}
	modify(s, v.VolumeId, params{"trashRetention": "0s"})
	data, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(data, []byte(`"colour": "red"`)) || !bytes.Contains(data, []byte(`"version": 2`)) || recordOf(s, "pvc-good").Capacity != 5<<30 {
		t.Errorf("after an expansion the record is %s, %v", data, err)
	}
	s.mustDelete(v.VolumeId)
	s.empty()
}

// goodEntry is the entry of the volume whose record is wrong.
const (
	goodEntry  = ".mooring/volumes/pvc-good"
	goodRecord = goodEntry + "/record.json"
	goodMarked = goodEntry + "/deletion"
)

// TestLyingRecords uses a record that names a directory that is not its volume's. No data may be
// destroyed because of it.
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
			whole, err := os.ReadFile(s.at(goodRecord))
			if err != nil {
				t.Fatal(err)
			}
			for _, replace := range []bool{false, true} {
				for _, c := range lies {
					t.Run(c.name+map[bool]string{true: ", replaced"}[replace], func(t *testing.T) {
						lie := field("directory", c.directory)(whole)
						writeRecord(t, s.at(goodRecord), lie, replace)
						defer mend(t, s, whole)
						checkWrongRecord(t, s, c.directory, onDelete)
						if replace {
							writeRecord(t, s.at(goodRecord), lie, replace)
						} else {
							mend(t, s, lie)
						}
						checkDeleteByWrongRecord(t, s, c.directory, onDelete, c.owner)
					})
				}
			}
			s.mustDelete("nas1/pvc-good", "nas1/pvc-other", "nas1/pvc-app")
		})
	}
}

// mend restores the volume, with its claim as a hard link to its record.
func mend(t *testing.T, s *site, record []byte) {
	t.Helper()
	claim := s.at(".mooring/claims/good/taken")
	mkdir(t, s.at(goodEntry))
	if err := os.RemoveAll(s.at(goodMarked)); err != nil {
		t.Fatal(err)
	}
	writeRecord(t, s.at(goodRecord), record, true)
	if err := errors.Join(os.Remove(claim), os.Link(s.at(goodRecord), claim)); err != nil {
		t.Fatal(err)
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

// checkWrongRecord calls every RPC for a record that names another directory than "good".
func checkWrongRecord(t *testing.T, s *site, directory, onDelete string) {
	t.Helper()
	unchanged(t, s.export, func() {
		_, err := s.create("pvc-good", params{"subDir": "good", "onDelete": onDelete})
		wantCode(t, err, codes.AlreadyExists, "pvc-good", directory, `"good"`)
	})
	// Calls that destroy nothing use the directory in the record, and change nothing else.
	before := tree(t, s.export)
	for rpc, err := range callEach(s, "nas1/pvc-good") {
		if err != nil {
			t.Errorf("%s: %v", rpc, err)
		}
	}
	after := tree(t, s.export)
	after[goodRecord] = before[goodRecord]
	if d := differences(before, after); d != nil {
		t.Errorf("the share was changed:\n%s", strings.Join(d, "\n"))
	}
}

// checkDeleteByWrongRecord deletes the volume of such a record: the data of the other directory remains.
func checkDeleteByWrongRecord(t *testing.T, s *site, directory, onDelete, owner string) {
	t.Helper()
	before := tree(t, s.export)
	marked := before[goodRecord]
	delete(before, goodRecord)
	if onDelete == "retain" { // destroys nothing
		wantCode(t, s.delete("nas1/pvc-good"), codes.OK)
		delete(before, goodEntry)
	} else {
		// Marked as deleted, and not usable any more.
		if _, changed := before[goodMarked]; changed {
			before[goodMarked+"/record.json"], before[goodMarked+"/sealed"] = marked, "-rw------- of 0:0, 0 bytes e3b0c44298fc1c14"
		} else {
			before[goodMarked] = marked
		}
		for range 2 {
			wantCode(t, s.delete("nas1/pvc-good"), codes.DataLoss, "pvc-good", owner+" has the claim on that", "the directory was not touched", "nas1 (127.0.0.1:"+s.path+")", directory)
		}
	}
	if d := differences(before, tree(t, s.export)); d != nil {
		t.Errorf("the share was changed:\n%s", strings.Join(d, "\n"))
	}
}
