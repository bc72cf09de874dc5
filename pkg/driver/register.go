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

// aliveWithin is how long a driver may take to say that it is alive.
const aliveWithin = 5 * time.Second

// Registration tells kubelet of the node plugin, over kubelet's plugin registration API, as
// node-driver-registrar does from a container of its own.
type Registration struct {
	registerapi.UnimplementedRegistrationServer
	Name string // the driver's
	// Socket is where the CSI services are, by a path that is kubelet's too.
	Socket string
	Taken  func(bool)
}

// NewRegistration returns a server that registers the driver of that name and endpoint, and the
// socket in kubelet's plugin directory where kubelet looks for it. taken is told whether kubelet has
// taken the driver.
func NewRegistration(name, endpoint, dir string, taken func(bool)) (*grpc.Server, net.Listener, error) {
	socket, err := socketOf(endpoint)
	if err != nil {
		return nil, nil, err
	}
	if !filepath.IsAbs(socket) {
		return nil, nil, volume.Errorf(volume.ErrInvalid, "kubelet needs the whole path of the socket, not %q", endpoint)
	}
	listener, err := Listen(filepath.Join(dir, name+"-reg.sock"))
	if err == nil {
		err = os.Chmod(filepath.Join(dir, name+"-reg.sock"), 0o700) // kubelet is root
	}
	if err != nil {
		return nil, nil, fmt.Errorf("register with kubelet: %w", err)
	}
	s := grpc.NewServer()
	registerapi.RegisterRegistrationServer(s, &Registration{Name: name, Socket: socket, Taken: taken})
	return s, listener, nil
}

// GetInfo says what there is to be registered.
func (r *Registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.CSIPlugin, Name: r.Name, Endpoint: r.Socket,
		SupportedVersions: []string{"1.0.0"}, // of CSI; kubelet looks at the first number alone
	}, nil
}

// NotifyRegistrationStatus hears whether kubelet has taken the driver. If not, kubelet tries
// again by itself.
func (r *Registration) NotifyRegistrationStatus(ctx context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	r.Taken(s.GetPluginRegistered())
	if s.GetPluginRegistered() {
		klog.FromContext(ctx).Info("Registered with kubelet", "driver", r.Name, "socket", r.Socket)
	} else {
		klog.FromContext(ctx).Error(nil, "kubelet does not take the driver, and no pod gets a volume on this node so far: is another driver of that name here, or the socket's directory another one in kubelet's eyes?",
			"driver", r.Name, "socket", r.Socket, "kubeletSays", s.GetError())
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// Alive asks the driver at an endpoint, as any client would, whether it is there and, if so wished,
// ready. It asks no NFS server, so that no dead one has the driver restarted.
func Alive(ctx context.Context, endpoint string, ready bool) error {
	target, isTCP := strings.CutPrefix(endpoint, "tcp://")
	if !isTCP {
		socket, err := socketOf(endpoint)
		if err != nil {
			return err
		}
		if socket, err = filepath.Abs(socket); err != nil {
			return err
		}
		target = "unix://" + socket
	}
	ctx, cancel := context.WithTimeout(ctx, aliveWithin)
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
		return fmt.Errorf("the driver at %s is not ready: it has just been started, or kubelet has not taken it (see its log)", endpoint)
	}
	return nil
}
