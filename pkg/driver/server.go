// SPDX-License-Identifier: Apache-2.0

// Package driver is the CSI plugin: it turns RPCs into calls of the domain and errors into
// codes, and nothing else. The interfaces it needs of the domain are declared here.
package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// Deadlines by which RPCs have answered, which hold where the caller's own is not earlier.
const (
	rpcPatience   = 60 * time.Second // kubelet waits two minutes
	unmountWithin = 30 * time.Second
	statsWithin   = 5 * time.Second
)

var deadlines = map[string]time.Duration{
	"NodeUnstageVolume":   unmountWithin,
	"NodeUnpublishVolume": unmountWithin,
	"NodeGetVolumeStats":  statsWithin,

	"NodeGetVolumeHealth":  statsWithin,
	"NodeGetStorageHealth": statsWithin,
}

// Observer is told of each RPC when it has ended. method and code are of those that Methods
// and Codes return.
type Observer func(method, code string, err error, took time.Duration)

// NewServer returns a gRPC server of the services that are not nil.
func NewServer(identity *Identity, controller *Controller, node *Node, observe Observer) *grpc.Server {
	s := grpc.NewServer(grpc.ChainUnaryInterceptor(logged(observe), bounded, recovered, coded))
	csi.RegisterIdentityServer(s, identity)
	if controller != nil {
		csi.RegisterControllerServer(s, controller)
		csi.RegisterGroupControllerServer(s, &GroupController{Groups: controller.Groups})
	}
	if node != nil {
		csi.RegisterNodeServer(s, node)
	}
	return s
}

// Methods returns the full names of the RPCs that a server has.
func Methods(s *grpc.Server) []string {
	var all []string
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			all = append(all, "/"+service+"/"+m.Name)
		}
	}
	return all
}

// Listen opens the socket of a CSI endpoint: "unix:///path", "unix:path", a plain path, or
// "tcp://host:port". A socket that a dead process has left is replaced.
func Listen(endpoint string) (net.Listener, error) {
	if address, ok := strings.CutPrefix(endpoint, "tcp://"); ok {
		return net.Listen("tcp", address)
	}
	file, err := socketOf(endpoint)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("endpoint %s: there is a file that is no socket", file)
	default:
		if err := os.Remove(file); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", file)
}

// socketOf returns the path of an endpoint that is a socket.
func socketOf(endpoint string) (string, error) {
	file := strings.TrimPrefix(strings.TrimPrefix(endpoint, "unix:"), "//")
	if file == "" || strings.Contains(file, "://") {
		return "", volume.Errorf(volume.ErrInvalid, "endpoint %q is neither unix:///path nor tcp://host:port", endpoint)
	}
	return file, nil
}

// logged writes one line per RPC, without secrets, and tells the observer.
func logged(observe Observer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		method := path.Base(info.FullMethod)
		log := klog.FromContext(ctx).WithValues("rpc", method)
		if v, ok := request.(interface{ GetVolumeId() string }); ok {
			log = log.WithValues("volume", v.GetVolumeId())
		} else if v, ok := request.(interface{ GetSnapshotId() string }); ok {
			log = log.WithValues("snapshot", v.GetSnapshotId())
		} else if v, ok := request.(interface{ GetGroupSnapshotId() string }); ok {
			log = log.WithValues("group", v.GetGroupSnapshotId())
		} else if v, ok := request.(interface{ GetName() string }); ok {
			log = log.WithValues("name", v.GetName())
		}
		log.V(5).Info("RPC begins", "request", protosanitizer.StripSecrets(request))
		start := time.Now()
		response, err := handler(klog.NewContext(ctx, log), request)
		took := time.Since(start)
		code := status.Code(err)
		observe(info.FullMethod, code.String(), err, took)
		log = log.WithValues("duration", took.Round(time.Microsecond), "code", code)
		switch {
		case err != nil:
			log.Error(err, "RPC failed")
		case quiet[method]:
			log.V(4).Info("RPC done")
		default:
			log.Info("RPC done")
		}
		return response, err
	}
}

// quiet are the RPCs that sidecars and kubelet make again and again.
var quiet = map[string]bool{
	"Probe": true, "GetPluginInfo": true, "GetPluginCapabilities": true, "ControllerGetCapabilities": true,
	"NodeGetCapabilities": true, "NodeGetVolumeStats": true, "GetCapacity": true,
	"NodeGetVolumeHealth": true, "NodeGetStorageHealth": true, "ControllerGetVolumeHealth": true, "ControllerListVolumeHealth": true,
}

// bounded gives each RPC a deadline, a little before the caller's own, or before what is promised: who
// has given up does not hear the reason, and an answer is to be there by then.
func bounded(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	within, ok := deadlines[path.Base(info.FullMethod)]
	if !ok {
		within = rpcPatience
	}
	if until, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(until))
	}
	within -= min(within/10, time.Second)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return handler(ctx, request)
}

// recovered makes a panic one RPC's failure.
func recovered(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(ctx).Error(nil, "Panic", "panic", p, "stack", string(debug.Stack()))
			response, err = nil, status.Errorf(codes.Internal, "%s: panic: %v: this is a bug, please report it with the log", info.FullMethod, p)
		}
	}()
	return handler(ctx, request)
}

// coded gives the domain's errors their codes.
func coded(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	response, err := handler(ctx, request)
	if err != nil {
		return nil, toStatus(err)
	}
	return response, nil
}
