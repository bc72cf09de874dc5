// SPDX-License-Identifier: Apache-2.0

// Package driver is the CSI plugin: it checks and decodes requests, calls the domain, and encodes
// results and errors. It declares the interfaces that it needs of the domain. Package provision
// implements those of the controller, package publish those of the node.
//
// The kind of an error (volume.Err...) becomes this gRPC code:
//
//	ErrInvalid       InvalidArgument
//	ErrNotFound      NotFound
//	ErrExists        AlreadyExists
//	ErrBusy          Aborted
//	ErrUnavailable   Unavailable
//	ErrTimeout       DeadlineExceeded
//	ErrFull          ResourceExhausted
//	ErrOutOfRange    OutOfRange
//	ErrPrecondition  FailedPrecondition
//	ErrRefused       PermissionDenied
//	ErrDamaged       DataLoss
//
// An error without a kind becomes DeadlineExceeded or Canceled if its context has ended; otherwise
// Internal, which is a bug.
package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// Deadlines of RPCs, unless the caller's own is earlier.
const (
	rpcTimeout     = 60 * time.Second // kubelet waits two minutes
	unmountTimeout = 30 * time.Second
	statsTimeout   = 5 * time.Second
)

var deadlines = map[string]time.Duration{
	"NodeUnstageVolume":   unmountTimeout,
	"NodeUnpublishVolume": unmountTimeout,
	"NodeGetVolumeStats":  statsTimeout,

	"NodeGetVolumeHealth":  statsTimeout,
	"NodeGetStorageHealth": statsTimeout,
}

// Observer is called at the end of each RPC. method and code are among those that Methods and Codes
// return.
type Observer func(method, code string, err error, took time.Duration)

// NewServer returns a gRPC server of the services that are not nil. The context of an RPC ends at
// the caller's deadline, and after 60 seconds at the latest (30 for NodeUnpublishVolume, 5 for the
// statistics and the health of a node), minus up to a second: so the caller gets the reason of a
// failure. A panic fails only its own RPC.
func NewServer(identity *Identity, controller *Controller, node *Node, observe Observer) *grpc.Server {
	s := grpc.NewServer(grpc.ChainUnaryInterceptor(logRPC(observe), limitTime, recoverPanic, encodeError))
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

// Methods returns the full names of a server's RPCs.
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
// "tcp://host:port". It replaces the socket of a process that has ended, and makes the socket's directory
// (mode 0750), but no parent of that: a longer path that does not exist is a mistake.
func Listen(endpoint string) (net.Listener, error) {
	if address, ok := strings.CutPrefix(endpoint, "tcp://"); ok {
		return net.Listen("tcp", address)
	}
	file, err := socketPath(endpoint)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Dir(file), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return listenSocket(file)
}

// listenSocket listens on a Unix socket, and replaces one that a process has left.
func listenSocket(file string) (net.Listener, error) {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("endpoint %s: the file exists and is not a socket", file)
	default:
		if err := os.Remove(file); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", file)
}

// socketPath returns the path of a Unix socket endpoint.
func socketPath(endpoint string) (string, error) {
	file := strings.TrimPrefix(strings.TrimPrefix(endpoint, "unix:"), "//")
	if file == "" || strings.Contains(file, "://") {
		return "", volume.Errorf(volume.ErrInvalid, "endpoint %q is neither unix:///path nor tcp://host:port", endpoint)
	}
	return file, nil
}

// limitTime gives each RPC a deadline a little before the caller's own, or before the documented one: a
// caller whose deadline has passed does not get the reason of the failure.
func limitTime(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	timeout, ok := deadlines[path.Base(info.FullMethod)]
	if !ok {
		timeout = rpcTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	timeout -= min(timeout/10, time.Second)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return handler(ctx, request)
}

// recoverPanic turns a panic into the failure of one RPC.
func recoverPanic(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(ctx).Error(nil, "Panic", "panic", p, "stack", string(debug.Stack()))
			response, err = nil, status.Errorf(codes.Internal, "%s: panic: %v: this is a bug, please report it with the log", info.FullMethod, p)
		}
	}()
	return handler(ctx, request)
}

// encodeError converts the domain's errors to gRPC statuses.
func encodeError(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	response, err := handler(ctx, request)
	if err != nil {
		return nil, toStatus(err)
	}
	return response, nil
}
