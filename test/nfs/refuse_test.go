// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// TestRefusedDirectories asks for volumes in directories that no volume can have.
func TestRefusedDirectories(t *testing.T) {
	s := newSite(t)
	s.open()
	const own, up, slash, none = "which is Mooring's own", `has the name ".." in it`, "begins with /", "empty name"
	for _, c := range []struct{ name, subDir, pvc, says string }{
		{"the share", "/", "", slash},
		{"the share as a dot", ".", "", `has the name "." in it`},
		{"the share by way of a name", "a/../..", "", up},
		{"the share, a name and back", "a/..", "", up},
		{"two slashes", "//", "", slash},
		{"above", "..", "", up},
		{"beside", "../other", "", up},
		{"absolute", "/etc", "", slash},
		{"a dot within", "a/./b", "", `has the name "." in it`},
		{"an empty name", "a//b", "", none},
		{"a slash at the end", "a/", "", none},
		{"Mooring's", ".mooring", "", own},
		{"in Mooring's", ".mooring/volumes/x", "", own},
		{"called as Mooring's", "a/.mooring/b", "", own},
		{"Mooring's in capitals", ".MOORING/x", "", own},
		{"Mooring's with a dot", ".mooring./x", "", own},
		{"NUL", "a\x00b", "", "control characters"},
		{"a new line", "a\nb", "", "control characters"},
		{"a long name", strings.Repeat("x", 300), "", "300 bytes"},
		{"a long path", strings.Repeat("x/", 1500) + "x", "", "3001 bytes long"},
		{"a variable that is none", "${pvc.metadata.uid}", "", "${pvc.metadata.uid} is not a variable"},
		{"a variable without an end", "${pvc.metadata.name", "", "is not a variable"},
		{"a value that goes up", "${pvc.metadata.name}", "..", up},
		{"a value that is Mooring's", "${pvc.metadata.name}", ".mooring", own},
		{"a value with a slash", "${pvc.metadata.name}", "a/b", "has a slash in it"},
		{"a value with NUL", "${.PVC.name}", "a\x00b", "control characters"},
		{"a value with a new line", "x/${.PVC.name}", "a\nb", "control characters"},
		{"a value that is empty", "x/${pvc.metadata.name}", "-", "--extra-create-metadata"},
	} {
		t.Run(c.name, func(t *testing.T) {
			unchanged(t, s.export, func() {
				p := params{"subDir": c.subDir}
				if c.pvc != "" {
					p["csi.storage.k8s.io/pvc/name"] = strings.Trim(c.pvc, "-")
				}
				_, err := s.create("pvc-1", p)
				wantCode(t, err, codes.InvalidArgument, c.says, "subDir")
			})
		})
	}
	s.empty()
}

// bytesCodec sends marshalled messages.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (bytesCodec) Unmarshal(_ []byte, _ any) error { return nil }
func (bytesCodec) Name() string                    { return "proto" }

// TestNotUTF8 sends text that is not UTF-8, which protobuf's strings do not allow: the client does not
// send it, and the server does not read it. Package volume tests what it says about such directories.
func TestNotUTF8(t *testing.T) {
	s := newSite(t)
	s.open()
	unchanged(t, s.export, func() {
		_, err := s.create("pvc-1", params{"subDir": "a\xffb"})
		wantCode(t, err, codes.Internal, "invalid UTF-8")

		request, err := proto.Marshal(request("pvc-1", params{"subDir": "a?b"}))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(s.ctl.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		err = conn.Invoke(soon(t), csi.Controller_CreateVolume_FullMethodName,
			bytes.ReplaceAll(request, []byte("a?b"), []byte("a\xffb")), nil, grpc.ForceCodec(bytesCodec{}))
		wantCode(t, err, codes.Internal, "invalid UTF-8")
	})
}

// TestTakenDirectories asks for directories that already belong to other volumes.
func TestTakenDirectories(t *testing.T) {
	s := newSite(t)
	first := s.mustCreate("pvc-first", "apps/db")
	write(t, s.at("apps/db/data"), "first's")
	write(t, s.at("old/data"), "from before")
	mkdir(t, s.at("old/empty"))
	write(t, s.at("file"), "no directory")
	if err := syscall.Mkfifo(s.at("pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	const inside, remove = "no volume can be inside another", "remove or rename it"
	for _, c := range []struct {
		name, subDir, existing string
		says                   []string
	}{
		{"another's", "apps/db", "", []string{`"apps/db"`, "volume pvc-first", "choose a subDir that differs"}},
		{"another's, adopting", "apps/db", "adopt", []string{`"apps/db"`, "volume pvc-first"}},
		{"inside another's", "apps/db/sub", "", []string{`"apps/db"`, "volume pvc-first", inside}},
		{"deep inside another's", "apps/db/a/b/c", "", []string{`"apps/db"`, "volume pvc-first", inside}},
		{"inside another's, adopting", "apps/db/sub", "adopt", []string{"volume pvc-first", inside}},
		{"around another's", "apps", "", []string{`"apps"`, "there are volumes inside it"}},
		{"around another's, adopting", "apps", "adopt", []string{`"apps"`, "there are volumes inside it"}},
		{"with data", "old", "", []string{`"old" exists already`, remove, "existingDirectory: adopt"}},
		{"empty", "old/empty", "", []string{`"old/empty" exists already`, remove}},
		{"a file", "file", "", []string{`"file"`, "a symbolic link or a file is where", "remove it"}},
		{"a file, adopting", "file", "adopt", []string{`"file"`, "a symbolic link or a file is where"}},
		{"below a file", "file/x", "", []string{`"file/x"`, "a symbolic link or a file is where"}},
		{"a pipe", "pipe", "", []string{`"pipe"`, "a symbolic link or a file is where"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			unchanged(t, s.export, func() {
				_, err := s.create("pvc-second", params{"subDir": c.subDir, "existingDirectory": c.existing})
				wantCode(t, err, codes.FailedPrecondition, append(c.says, "share nas1 (127.0.0.1:"+s.path+")")...)
			})
		})
	}
	s.mustDelete(first.VolumeId)
	s.empty("old", "old/data", "old/empty", "file", "pipe")
}

// TestRefusedRequests sends requests that are wrong in themselves.
func TestRefusedRequests(t *testing.T) {
	s := newSite(t)
	s.open()
	const huge = 1 << 60
	with := func(more ...string) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { r.Parameters = params(r.Parameters).with(more...) }
	}
	size := func(required, limit int64, more ...string) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
			with(more...)(r)
		}
	}
	capability := func(c ...*csi.VolumeCapability) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = c }
	}
	for _, c := range []struct {
		name   string
		change func(*csi.CreateVolumeRequest)
		code   codes.Code
		says   []string
	}{
		{"no name", func(r *csi.CreateVolumeRequest) { r.Name = "" }, codes.InvalidArgument, []string{"no volume name"}},
		{"an unknown parameter", with("onDelet", "retain"), codes.InvalidArgument, []string{`"onDelet" is not a parameter`, "onDelete"}},
		{"two wrong parameters", with("uid", "me", "gid", "-1"), codes.InvalidArgument, []string{`uid is "me"`, `gid is "-1"`}},
		{"a parameter twice", with("ondelete", "retain", "onDelete", "delete"), codes.InvalidArgument, []string{"onDelete is given twice"}},
		{"onDelete", with("onDelete", "keep"), codes.InvalidArgument, []string{`onDelete is "keep"`, "delete or retain or archive"}},
		{"a mode of nines", with("mountPermissions", "999"), codes.InvalidArgument, []string{`mountPermissions is "999"`, "octal"}},
		{"a mode that is large", with("mountPermissions", "17777"), codes.InvalidArgument, []string{`mountPermissions is "17777"`}},
		{"the owner -1", with("uid", "4294967295"), codes.InvalidArgument, []string{`uid is "4294967295"`}},
		{"a retention", with("trashRetention", "a while"), codes.InvalidArgument, []string{`trashRetention is "a while"`, "24h"}},
		{"existingDirectory", with("existingDirectory", "yes"), codes.InvalidArgument, []string{"existingDirectory", "adopt"}},
		{"no share", with("share", ""), codes.InvalidArgument, []string{"share is missing"}},
		{"a path without a server", with("share", "/exports"), codes.InvalidArgument, []string{"/exports", "needs a server"}},
		{"a share twice", with("share", "nas1,nas1"), codes.InvalidArgument, []string{`"nas1" twice`}},
		{"an unknown share", with("share", "nas9"), codes.FailedPrecondition, []string{`"nas9"`, "is not in Mooring's configuration", "nas1"}},
		{"one unknown share of two", with("share", "nas1,nas9"), codes.FailedPrecondition, []string{`"nas9"`, "is not in Mooring's configuration"}},
		{"an unregistered export", with("server", "127.0.0.1", "share", "/exports/x"), codes.FailedPrecondition, []string{"127.0.0.1:/exports/x is not registered", "unregistered: allow"}},
		{"a server with an option", with("server", "-o", "share", "/x"), codes.InvalidArgument, []string{`"-o"`, "neither a host name nor an IP address"}},
		{"an export that goes up", with("server", "127.0.0.1", "share", "/exports/../etc"), codes.InvalidArgument, []string{"/exports/../etc", `"/etc"`}},
		{"negative", size(-1, 0), codes.InvalidArgument, []string{"negative", "-1"}},
		{"a negative limit", size(0, -5), codes.InvalidArgument, []string{"negative", "-5"}},
		{"inverted", size(2, 1), codes.InvalidArgument, []string{"inverted", "required 2", "limit 1"}},
		{"over the share", size(huge, 0, "capacity", "checked"), codes.OutOfRange, []string{"nas1", "1152921504606846976 are asked for"}},
		{"a way to check capacity", size(1, 0, "capacity", "free"), codes.InvalidArgument, []string{`capacity is "free"`}},
		{"no capability", capability(), codes.InvalidArgument, []string{"no volume capability"}},
		{"an empty capability", capability(&csi.VolumeCapability{}), codes.InvalidArgument, []string{"no access type"}},
		{"no access mode", capability(lab.Mode(csi.VolumeCapability_AccessMode_UNKNOWN)), codes.InvalidArgument, []string{"no access mode"}},
		{"block", capability(block), codes.InvalidArgument, []string{"block", "volumeMode: Filesystem"}},
		{"one of two is block", capability(lab.RWX(), block), codes.InvalidArgument, []string{"block"}},
		{"ext4", capability(ext4), codes.InvalidArgument, []string{`not "ext4"`, "csi.storage.k8s.io/fstype"}},
		{"a snapshot", func(r *csi.CreateVolumeRequest) {
			r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{}}
		}, codes.InvalidArgument, []string{"no snapshot id is given"}},
		{"a mutable parameter that is none", func(r *csi.CreateVolumeRequest) {
			r.MutableParameters = params{"uid": "0"}
		}, codes.InvalidArgument, []string{"uid cannot be changed"}},
		{"a secret", func(r *csi.CreateVolumeRequest) {
			r.Secrets = params{"mountOptions": "hard,bind"}
		}, codes.InvalidArgument, []string{"the secret's mountOptions cannot be used"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request("pvc-1", nil)
			c.change(r)
			unchanged(t, s.export, func() {
				_, err := s.controller().CreateVolume(soon(t), r)
				wantCode(t, err, c.code, c.says...)
			})
		})
	}
}

var (
	block = &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{}, AccessMode: lab.RWX().AccessMode}
	ext4  = &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}}, AccessMode: lab.RWX().AccessMode,
	}
)

// TestRefusedMountOptions uses options in class and PV that would do more than mount.
func TestRefusedMountOptions(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-good", "")
	node := s.start("node", "node")
	for option, says := range map[string]string{
		"bind": "mounted, not bound", "rw,bind": "mounted, not bound", "remount": "mounted, not remounted",
		"addr=1.2.3.4": "the address is the share's", "nfsvers=4.2,addr=1.2.3.4": "the address is the share's",
		"": "not of the form", "-o": "not of the form", "--bind": "not of the form", "hard,,soft": "not of the form",
		"a b": "not of the form", "hard\nbind": "not of the form", "sec=sys bind": "white space", "sec=sys\nbind": "white space or control", "x-systemd.automount": "fstab", "nofail": "failed",
		`sec="sys`: "quotation marks", `a=\054bind`: "backslash", "bg": "background", "user": "only the driver mounts",
	} {
		t.Run(option, func(t *testing.T) {
			unchanged(t, s.export, func() {
				_, err := s.controller().CreateVolume(soon(t), request("pvc-1", nil, option))
				wantCode(t, err, codes.InvalidArgument, "mount options", says)
				at := s.seat(node, v, option)
				err = at.hold()
				wantCode(t, err, codes.InvalidArgument, "mount options", says)
				at.mounted()
				if _, err := os.Lstat(at.target(holder)); !os.IsNotExist(err) {
					t.Errorf("the target was made: %v", err)
				}
			})
		})
	}
	t.Run("that the kernel does not know", func(t *testing.T) {
		at := s.seat(node, v, "nonsense=1")
		wantCode(t, at.hold(), codes.InvalidArgument, "volume nas1/pvc-good", "127.0.0.1:"+s.path, "option")
		at.mounted()
	})
	s.mustDelete(v.VolumeId)
}
