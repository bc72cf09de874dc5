// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc"
)

// TestLogLine checks what the log line of an RPC says of the objects and the place of its request.
func TestLogLine(t *testing.T) {
	claim := map[string]string{"csi.storage.k8s.io/pvc/namespace": "team", "csi.storage.k8s.io/pvc/name": "data", "share": "nas1", "trashRetention": "1h"}
	for _, c := range []struct {
		request, response any
		want              string
	}{
		{
			&csi.CreateVolumeRequest{Name: "pvc-1", Parameters: claim},
			&csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: "nas1/pvc-1", VolumeContext: map[string]string{"share": "nas1", "subDir": "team/data"}}},
			`name="pvc-1" claim="team/data" volume="nas1/pvc-1" share="nas1" directory="team/data"`,
		},
		{&csi.CreateVolumeRequest{Name: "pvc-1", Parameters: claim}, nil, `name="pvc-1" claim="team/data" share="nas1"`},
		{&csi.CreateVolumeRequest{Name: "pvc-1", Parameters: map[string]string{"server": "10.0.0.1", "share": "/x", "mountPermissions": "0"}}, nil, `name="pvc-1" share="10.0.0.1:/x"`},
		{&csi.DeleteVolumeRequest{VolumeId: "nas1/pvc-1"}, &csi.DeleteVolumeResponse{}, `volume="nas1/pvc-1" share="nas1"`},
		{&csi.DeleteVolumeRequest{VolumeId: "other"}, &csi.DeleteVolumeResponse{}, `volume="other"`},
		{
			&csi.NodePublishVolumeRequest{VolumeId: "nas1/pvc-1", VolumeContext: map[string]string{
				"share": "nas1", "subDir": "team/data", "csi.storage.k8s.io/pod.namespace": "team", "csi.storage.k8s.io/pod.name": "web-0",
			}},
			&csi.NodePublishVolumeResponse{}, `volume="nas1/pvc-1" pod="team/web-0" share="nas1" directory="team/data"`,
		},
		{
			&csi.NodePublishVolumeRequest{VolumeId: "old", VolumeContext: map[string]string{"server": "10.0.0.1", "share": "/x", "subDir": "a"}},
			&csi.NodePublishVolumeResponse{}, `volume="old" share="10.0.0.1:/x" directory="a"`,
		},
		{
			&csi.CreateSnapshotRequest{Name: "snapshot-1", SourceVolumeId: "nas1/pvc-1", Parameters: map[string]string{
				"csi.storage.k8s.io/volumesnapshot/namespace": "team", "csi.storage.k8s.io/volumesnapshot/name": "monday",
			}},
			&csi.CreateSnapshotResponse{}, `name="snapshot-1" source="nas1/pvc-1" volumeSnapshot="team/monday" share="nas1"`,
		},
		{&csi.DeleteSnapshotRequest{SnapshotId: "nas1/s1"}, &csi.DeleteSnapshotResponse{}, `snapshot="nas1/s1" share="nas1"`},
		{&csi.NodeGetInfoRequest{}, &csi.NodeGetInfoResponse{}, ""},
	} {
		log := logTo(t, "2")
		call := logRPC(func(string, string, error, time.Duration) {})
		if _, err := call(context.Background(), c.request, &grpc.UnaryServerInfo{FullMethod: "/csi.v1.X/Y"}, func(context.Context, any) (any, error) {
			return c.response, nil
		}); err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(log.String(), `"RPC done" `)
		line, _, _ = strings.Cut(line, "duration=")
		if want := strings.TrimSpace(`rpc="Y" ` + c.want); strings.TrimSpace(line) != want {
			t.Errorf("%T: the line has %s, want %s", c.request, line, want)
		}
	}
}

// TestLogAborted checks that a call which another one delays is not logged as an error.
func TestLogAborted(t *testing.T) {
	for kind, want := range map[error]string{volume.ErrBusy: "I", volume.ErrUnavailable: "E", volume.ErrInvalid: "E"} {
		log := logTo(t, "2")
		call := logRPC(func(string, string, error, time.Duration) {})
		_, err := call(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "nas1/v1"}, &grpc.UnaryServerInfo{FullMethod: "/csi.v1.X/Y"}, func(context.Context, any) (any, error) {
			return nil, toStatus(volume.Errorf(kind, "a reason"))
		})
		if text := log.String(); err == nil || !strings.HasPrefix(text, want) || !strings.Contains(text, "a reason") {
			t.Errorf("%v is logged as %q, want a line of %s", kind, text, want)
		}
	}
}
