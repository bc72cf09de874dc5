// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// aliveTimeout bounds the call of Alive.
const aliveTimeout = 5 * time.Second

// Registration registers the node plugin with kubelet by kubelet's plugin registration API, as
// node-driver-registrar does from a container of its own.
type Registration struct {
	registerapi.UnimplementedRegistrationServer
	Name string // the driver's
	// Socket is the path of the CSI socket, which is the same for kubelet.
	Socket string
	// Registered is called with the result of each registration.
	Registered func(bool)
}

// NewRegistration returns a server that registers a driver with kubelet, and its listener, a socket in
// kubelet's plugin directory dir. It calls registered with the result. It returns ErrInvalid if endpoint
// is not an absolute path.
func NewRegistration(name, endpoint, dir string, registered func(bool)) (*grpc.Server, net.Listener, error) {
	socket, err := socketPath(endpoint)
	if err != nil {
		return nil, nil, err
	}
	if !filepath.IsAbs(socket) {
		return nil, nil, volume.Errorf(volume.ErrInvalid, "kubelet needs the absolute path of the socket, not %q", endpoint)
	}
	listener, err := listenPrivate(filepath.Join(dir, name+"-reg.sock"))
	if err != nil {
		return nil, nil, fmt.Errorf("register with kubelet: %w", err)
	}
	s := grpc.NewServer()
	registerapi.RegisterRegistrationServer(s, &Registration{Name: name, Socket: socket, Registered: registered})
	return s, listener, nil
}

// listenPrivate listens on a socket that only root, as which kubelet runs, can use.
func listenPrivate(socket string) (net.Listener, error) {
	listener, err := listenSocket(socket)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(socket, 0o700)
}

// GetInfo returns what kubelet registers.
func (r *Registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.CSIPlugin, Name: r.Name, Endpoint: r.Socket,
		SupportedVersions: []string{"1.0.0"}, // of CSI; kubelet checks only the major version
	}, nil
}

// NotifyRegistrationStatus receives the result of the registration. After a failure kubelet tries again
// by itself.
func (r *Registration) NotifyRegistrationStatus(ctx context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	r.Registered(s.GetPluginRegistered())
	if s.GetPluginRegistered() {
		klog.FromContext(ctx).Info("Registered with kubelet", "driver", r.Name, "socket", r.Socket)
	} else {
		klog.FromContext(ctx).Error(nil, "kubelet has rejected the driver, and no pod on this node gets a volume: check for another driver with this name, and whether the socket has the same path for kubelet",
			"driver", r.Name, "socket", r.Socket, "kubeletSays", s.GetError())
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// Alive calls the driver at an endpoint, as any client would. It returns an error if the driver does not
// answer or, with ready, if it is not ready. The driver calls no NFS server for that, so that a dead one
// does not make the orchestrator restart the driver.
func Alive(ctx context.Context, endpoint string, ready bool) error {
	target, isTCP := strings.CutPrefix(endpoint, "tcp://")
	if !isTCP {
		socket, err := socketPath(endpoint)
		if err != nil {
			return err
		}
		if socket, err = filepath.Abs(socket); err != nil {
			return err
		}
		target = "unix://" + socket
	}
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	if err != nil {
		return fmt.Errorf("the driver at %s does not answer: %w", endpoint, err)
	}
	if ready && !r.GetReady().GetValue() {
		return fmt.Errorf("the driver at %s is not ready: it has just started, or kubelet has not registered it (see its log)", endpoint)
	}
	return nil
}
