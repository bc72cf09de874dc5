// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"context"
	"path"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// logRPC writes one log line per RPC, without secrets, and calls the observer. A call that another one
// delays (Aborted) is repeated by its caller, and is not logged as an error.
func logRPC(observe Observer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		method := path.Base(info.FullMethod)
		log := klog.FromContext(ctx).WithValues("rpc", method).WithValues(describeObject(request)...)
		log.V(5).Info("RPC begins", "request", protosanitizer.StripSecrets(request))
		start := time.Now()
		response, err := handler(klog.NewContext(ctx, log), request)
		took := time.Since(start)
		code := status.Code(err)
		observe(info.FullMethod, code.String(), err, took)
		log = log.WithValues(describePlace(request, response)...).WithValues("duration", took.Round(time.Microsecond), "code", code)
		switch {
		case code == codes.Aborted:
			log.Info("RPC must be repeated", "reason", err.Error())
		case err != nil:
			log.Error(err, "RPC failed")
		case quietMethods[method]:
			log.V(4).Info("RPC done")
		default:
			log.Info("RPC done")
		}
		return response, err
	}
}

// quietMethods are the RPCs that sidecars and kubelet repeat often: their success is not logged.
var quietMethods = map[string]bool{
	"Probe": true, "GetPluginInfo": true, "GetPluginCapabilities": true, "ControllerGetCapabilities": true,
	"NodeGetCapabilities": true, "NodeGetVolumeStats": true, "GetCapacity": true,
	"NodeGetVolumeHealth": true, "NodeGetStorageHealth": true, "ControllerGetVolumeHealth": true, "ControllerListVolumeHealth": true,
}

// describeObject returns the object of a request as keys and values of the log, and the objects of
// Kubernetes that the request names: the claim and the VolumeSnapshot if the sidecar has
// --extra-create-metadata, the pod if the CSIDriver has podInfoOnMount.
func describeObject(request any) []any {
	var values []any
	add := func(key, value string) {
		if value != "" {
			values = append(values, key, value)
		}
	}
	switch r := request.(type) {
	case interface{ GetVolumeId() string }:
		add("volume", r.GetVolumeId())
	case interface{ GetSnapshotId() string }:
		add("snapshot", r.GetSnapshotId())
	case interface{ GetGroupSnapshotId() string }:
		add("group", r.GetGroupSnapshotId())
	case interface{ GetName() string }:
		add("name", r.GetName())
	}
	if r, ok := request.(interface{ GetSourceVolumeId() string }); ok {
		add("source", r.GetSourceVolumeId())
	}
	attributes := attributesOf(request)
	for _, object := range []struct{ key, namespace, name string }{
		{"claim", contextKubernetes + "pvc/namespace", contextKubernetes + "pvc/name"},
		{"volumeSnapshot", contextKubernetes + "volumesnapshot/namespace", contextKubernetes + "volumesnapshot/name"},
		{"pod", contextPodNamespace, contextPodName},
	} {
		if name := attributes[object.name]; name != "" {
			add(object.key, attributes[object.namespace]+"/"+name)
		}
	}
	return values
}

// describePlace returns the share and the directory of an RPC as keys and values of the log, and the
// id of a new volume. The share is the one that the response or the request names, else the class.
func describePlace(request, response any) []any {
	var values []any
	attributes := attributesOf(request)
	if r, ok := response.(*csi.CreateVolumeResponse); ok {
		values = append(values, "volume", r.GetVolume().GetVolumeId())
		attributes = r.GetVolume().GetVolumeContext()
	}
	share, directory := attributes[contextShare], ""
	if l, err := decodeLocation(attributes); err == nil {
		share, directory = l.Share, l.Directory
	} else if server := attributes[contextServer]; server != "" {
		share = volume.ExportName(server, path.Clean("/"+share))
	}
	if share == "" {
		share = shareOf(request)
	}
	if share != "" {
		values = append(values, "share", share)
	}
	if directory != "" {
		values = append(values, "directory", directory)
	}
	return values
}

// attributesOf returns the volume context of a request, or the parameters of its class.
func attributesOf(request any) map[string]string {
	switch r := request.(type) {
	case interface{ GetVolumeContext() map[string]string }:
		return r.GetVolumeContext()
	case interface{ GetParameters() map[string]string }:
		return r.GetParameters()
	}
	return nil
}

// shareOf returns the share in the id of a request's object, or "" if the id has none.
func shareOf(request any) string {
	var id string
	if r, ok := request.(interface{ GetVolumeId() string }); ok {
		id = r.GetVolumeId()
	}
	if r, ok := request.(interface{ GetSnapshotId() string }); ok {
		id = cmp.Or(id, r.GetSnapshotId())
	}
	if r, ok := request.(interface{ GetSourceVolumeId() string }); ok {
		id = cmp.Or(id, r.GetSourceVolumeId())
	}
	h, err := volume.ParseHandle(id)
	if err != nil {
		return ""
	}
	return h.Share
}
