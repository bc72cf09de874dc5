// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
)

// TestHostileHandles calls every RPC of the controller that takes a handle with handles that no volume
// has. All except DeleteVolume report that the volume is not found, as CSI requires.
func TestHostileHandles(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-good", "good")
	write(t, s.at("good/data"), "good")
	const bad, missing, precondition, ok = codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OK
	for _, c := range []struct {
		name, id      string
		deletion, any codes.Code
		says          string
	}{
		{"empty", "", bad, bad, "no volume id"},
		{"long", "nas1/" + strings.Repeat("x", 10_000), bad, missing, "CSI allows 128"},
		{"no share", "pvc-good", ok, missing, "<share>/<key>"},
		{"no key", "nas1/", bad, missing, "cannot be a volume's key"},
		{"up", "nas1/../good", bad, missing, `"nas1/.."`},
		{"up at the end", "nas1/..", bad, missing, `".." cannot be a volume's key`},
		{"up at the start", "../nas1/pvc-good", bad, missing, `"../nas1"`},
		{"Mooring's own", "nas1/.mooring", bad, missing, `".mooring" cannot be a volume's key`},
		{"in Mooring's own", "nas1/.mooring/volumes/pvc-good/record.json", bad, missing, `"nas1/.mooring/volumes/pvc-good"`},
		{"two slashes", "nas1//pvc-good", bad, missing, `"nas1/"`},
		{"a path", "/etc/passwd", bad, missing, `"/etc"`},
		{"a space", "nas1/pvc good", bad, missing, `"pvc good" cannot be a volume's key`},
		{"NUL", "nas1/pvc\x00good", bad, missing, "cannot be a volume's key"},
		{"a new line", "nas1/pvc-good\n", bad, missing, "cannot be a volume's key"},
		{"a hash that is none", "nas1/h-pvc", bad, missing, `"h-pvc" cannot be a volume's key`},
		{"csi-driver-nfs's", "127.0.0.1#exports#good#uuid#delete", bad, missing, "csi-driver-nfs"},
		{"another driver's", "a#b#c##", bad, missing, "csi-driver-nfs"},
		{"capitals", "NAS1/pvc-good", bad, missing, `"NAS1"`},
		{"an unknown share", "nas9/pvc-good", precondition, precondition, `share "nas9" is not in Mooring's configuration`},
		{"an unregistered export", "127.0.0.1:" + s.path + "-2/pvc-good", precondition, precondition, "is not registered"},
		{"an export that goes up", "127.0.0.1:/exports/../exports/pvc-good", bad, missing, "cannot be an export"},
		{"a server that is an option", "-o:/exports/pvc-good", bad, missing, "cannot be an export"},
		{"no such volume", "nas1/pvc-none", ok, missing, "nas1 (127.0.0.1:" + s.path + "): there is no volume pvc-none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			unchanged(t, s.export, func() {
				wantCode(t, s.delete(c.id), c.deletion, c.says)
				for _, err := range callEach(s, c.id) {
					wantCode(t, err, c.any, c.says)
				}
			})
		})
	}
	s.mustDelete(v.VolumeId)
	s.empty()
}

// callEach calls all RPCs of the controller about a volume, except DeleteVolume.
func callEach(s *site, id string) map[string]error {
	_, get := s.controller().ControllerGetVolume(soon(s.t), &csi.ControllerGetVolumeRequest{VolumeId: id})
	_, expand := s.controller().ControllerExpandVolume(soon(s.t), &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 5 << 30},
	})
	_, modify := s.controller().ControllerModifyVolume(soon(s.t), &csi.ControllerModifyVolumeRequest{
		VolumeId: id, MutableParameters: params{"onDelete": "delete", "trashRetention": "1h"},
	})
	_, validate := s.controller().ValidateVolumeCapabilities(soon(s.t), &csi.ValidateVolumeCapabilitiesRequest{
		VolumeId: id, VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
	})
	return map[string]error{"get": get, "expand": expand, "modify": modify, "validate": validate}
}

// TestHostileStages asks a node for mounts that belong to no volume. The node does not read records: a PV
// may have been written by hand.
func TestHostileStages(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-good", "good")
	symlink(t, "/etc", s.at("link"))
	node := s.start("node", "node")
	place := func(share, subDir string) map[string]string { return params{"share": share, "subDir": subDir} }
	export := params{"server": "127.0.0.1", "share": s.path + "-2", "subDir": "good"}
	for _, c := range []struct {
		name    string
		context map[string]string
		code    codes.Code
		says    []string
	}{
		{"nothing", nil, codes.InvalidArgument, []string{"no share"}},
		{"no directory", place("nas1", ""), codes.InvalidArgument, []string{"directory is empty"}},
		{"up", place("nas1", ".."), codes.InvalidArgument, []string{`the name ".."`}},
		{"up and down", place("nas1", "../"+filepath.Base(s.path)+"/good"), codes.InvalidArgument, []string{`the name ".."`}},
		{"absolute", place("nas1", "/good"), codes.InvalidArgument, []string{"begins with /"}},
		{"Mooring's own", place("nas1", ".mooring/volumes"), codes.InvalidArgument, []string{"Mooring's own"}},
		{"NUL", place("nas1", "good\x00"), codes.InvalidArgument, []string{"control characters"}},
		{"an unknown share", place("nas9", "good"), codes.FailedPrecondition, []string{`"nas9"`, "is not in Mooring's configuration"}},
		{"an unregistered export", export, codes.FailedPrecondition, []string{"127.0.0.1:" + s.path + "-2 is not registered"}},
		{"a server that is an option", params(export).with("server", "--bind"), codes.FailedPrecondition, []string{"--bind"}},
		{"no such directory", place("nas1", "missing"), codes.FailedPrecondition, []string{"nas1/pvc-good", "127.0.0.1:" + s.path + "/missing", "does not exist on the server"}},
		{"a link", place("nas1", "link"), codes.FailedPrecondition, []string{"nas1/pvc-good", "127.0.0.1:" + s.path + "/link"}},
		{"below a link", place("nas1", "link/ssl"), codes.FailedPrecondition, []string{"nas1/pvc-good", "127.0.0.1:" + s.path + "/link/ssl"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			unchanged(t, s.export, func() {
				a := s.seat(node, &csi.Volume{VolumeId: v.VolumeId, VolumeContext: c.context})
				wantCode(t, a.hold(), c.code, c.says...)
				a.mounted()
			})
		})
	}
	s.mustDelete(v.VolumeId)
}

// TestHostileNodeCalls calls the RPCs of the node with invalid ids and paths.
func TestHostileNodeCalls(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-good", "good")
	a := s.held(s.start("node", "node"), v)
	a.must(a.publish("pod", false))
	long := strings.Repeat("x", 10_000)
	for _, c := range []struct {
		name, id, target string
		says             string
	}{
		{"no id", "", a.target("more"), "no volume id"},
		{"a long id", "nas1/" + long, a.target("more"), "CSI allows 128"},
		{"no paths", v.VolumeId, "", "path is given"},
		{"relative paths", v.VolumeId, "more", "not absolute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for rpc, err := range a.each(c.id, c.target) {
				switch {
				case rpc == "stats" && c.name == "relative paths":
					wantCode(t, err, codes.NotFound, "more")
				default:
					wantCode(t, err, codes.InvalidArgument, c.says)
				}
			}
			if _, err := os.Lstat(a.target("more")); !os.IsNotExist(err) {
				t.Errorf("the target was made: %v", err)
			}
		})
	}
	a.mounted(holder, "pod")
	for _, c := range []*csi.VolumeCapability{nil, {}, block} {
		b := s.seat(a.node, v)
		b.capability = c
		wantCode(t, b.publish("pod", false), codes.InvalidArgument, " ")
		b.mounted()
	}
	a.leave("pod")
}

// each calls the node's RPCs.
func (a *seat) each(id, target string) map[string]error {
	n := a.node.Node
	_, publish := n.NodePublishVolume(soon(a.t), &csi.NodePublishVolumeRequest{
		VolumeId: id, TargetPath: target, VolumeContext: a.volume.VolumeContext, VolumeCapability: a.capability,
	})
	_, unpublish := n.NodeUnpublishVolume(soon(a.t), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
	_, stats := n.NodeGetVolumeStats(soon(a.t), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: target})
	return map[string]error{"publish": publish, "unpublish": unpublish, "stats": stats}
}
