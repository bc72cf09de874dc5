// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/driver"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/metrics"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/provision"
	"github.com/mooring-csi/mooring/pkg/publish"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
)

const (
	// reloadInterval is how often the configuration is looked at.
	reloadInterval = 10 * time.Second
	// drainTimeout is how long RPCs under way may take to end when the process is to.
	drainTimeout = 5 * time.Second
	// metricsRetryInterval is how soon an address for metrics is tried again that is taken.
	metricsRetryInterval = 30 * time.Second
)

type options struct {
	role             string // as the command has it
	controller, node bool

	endpoint, nodeID, config, driverName, metricsAddress, stateDir, registrationDir, sharesDir, pod string
	hostNetwork                                                                                     bool
	maxVolumes                                                                                      int64
	topology                                                                                        map[string]string
	copies                                                                                          jobs.CopyOptions
}

func (o *options) flags(f *pflag.FlagSet) {
	endpointFlag(f, &o.endpoint, "where to listen for CSI: unix:///path or tcp://host:port")
	f.StringVar(&o.config, "config", "", "the registry of shares, a YAML file, read again when it changes (none: only classes that name server and share)")
	f.StringVar(&o.driverName, "driver-name", "nfs.csi.mooring.dev", "the driver's name in StorageClasses and CSIDriver")
	f.StringVar(&o.metricsAddress, "metrics-address", "", "where to serve /metrics and /healthz, host:port (none: not at all)")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/mooring", "a local directory of this instance's own: mount points, and its name")
	hostname, _ := os.Hostname()
	f.StringVar(&o.nodeID, "node-id", hostname, "this node's name for the orchestrator")
	if o.controller {
		f.StringVar(&o.sharesDir, "shares-dir", "", "a directory in which every share is mounted already, under its name, by kubelet say: nothing is mounted then, and no CAP_SYS_ADMIN is needed")
		f.BoolVar(&o.hostNetwork, "host-network", true, "whether the controller shares a network namespace with pods' NFS mounts: its own mounts then get an NFSv4 client of their own, for which mount(8) is given the server's IPv4 address in IPv6 form")
		f.StringVar(&o.pod, "pod", "", "the pod that this runs in, NAMESPACE/NAME/UID: it has an event when a share is laid out (none: only the log and a metric tell)")
		f.IntVar(&o.copies.PerShare, "copies-per-share", jobs.DefaultCopiesPerShare, "how many snapshots, restores and clones are copied at once on a share; more wait for their turn")
		f.IntVar(&o.copies.Workers, "copy-workers", jobs.DefaultCopyWorkers, "how many calls to the server each of them has under way at once")
	}
	if o.node {
		f.StringVar(&o.registrationDir, "kubelet-registration-dir", "", "kubelet's directory for plugins' sockets, /var/lib/kubelet/plugins_registry: register there (none: node-driver-registrar does that)")
		f.Int64Var(&o.maxVolumes, "max-volumes-per-node", 0, "how many volumes the node takes (0: no limit)")
		f.StringToStringVar(&o.topology, "topology", nil, "key=value,...: labels that kubelet gives the node for the driver; external-provisioner tells the scheduler of space only where there is one")
	}
}

func endpointFlag(f *pflag.FlagSet, endpoint *string, usage string) {
	f.StringVar(endpoint, "endpoint", "unix:///run/mooring/csi.sock", usage)
}

// validate says what is wrong with the flags.
func (o *options) validate() error {
	switch {
	case o.node && (o.nodeID == "" || o.maxVolumes < 0):
		return errors.New("a node needs --node-id, and --max-volumes-per-node cannot be negative")
	case o.controller && (o.copies.PerShare < 1 || o.copies.Workers < 1):
		return errors.New("--copies-per-share and --copy-workers have to be 1 at least")
	}
	return nil
}

// run is the process: it joins the parts and serves until ctx ends.
func run(ctx context.Context, o options) error {
	log := klog.FromContext(ctx)
	log.Info("Mooring starts", "version", version, "controller", o.controller, "node", o.node, "driver", o.driverName, "nodeID", o.nodeID)
	if err := o.validate(); err != nil {
		return err
	}
	source, err := config.Open(o.config)
	if err != nil {
		return err
	}
	if err := child.ReapOrphans(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(o.stateDir, 0o750); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { source.Watch(ctx, reloadInterval) })

	m := metrics.New(metrics.Build{Driver: o.driverName, Version: version, Role: o.role})
	servers := probe.NewServers(probe.Ping)
	kernel := &mount.Kernel{Answers: servers.Answers}
	m.Processes("mount", kernel.Children())
	mounter := m.Timed(kernel)
	m.Servers(servers.Status)

	identity := &driver.Identity{Name: o.driverName, Version: version, Controller: o.controller, Ready: &atomic.Bool{}}
	var controller *driver.Controller
	if o.controller {
		tell, err := newEventRecorder(o)
		if err != nil {
			return err
		}
		shares, close, err := openPool(o, source, mounter, servers, reportLaidOut(ctx, m.LaidOut(), tell))
		if err != nil {
			return err
		}
		defer close()
		controller = newController(ctx, &background, o, shares, m)
		defer background.Wait() // before the pool closes
		defer cancel()
	}
	node, err := newNode(ctx, &background, o, source, mounter, servers, m)
	if err != nil {
		return err
	}
	server := driver.NewServer(identity, controller, node, m.ObserveRPC)
	m.RPCs(driver.Methods(server), driver.Codes())
	serveMetrics(ctx, &background, o.metricsAddress, m.Handler())
	return serve(ctx, &background, o, server, identity.Ready.Store)
}

// serve serves CSI until ctx ends, and has kubelet know of it. It is ready when it listens or, where it
// registers with kubelet, when that has taken it: a rollout that kubelet refuses is to stop.
func serve(ctx context.Context, background *sync.WaitGroup, o options, server *grpc.Server, ready func(bool)) error {
	listener, err := driver.Listen(o.endpoint)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.endpoint, err)
	}
	// From here on, the mode of a new directory is what its class says, at once. The socket
	// has its own already.
	unix.Umask(0)
	background.Go(func() { stopOnDone(ctx, server) })
	ready(o.registrationDir == "")
	klog.FromContext(ctx).Info("Listening", "endpoint", o.endpoint)
	if o.registrationDir != "" {
		registration, socket, err := driver.NewRegistration(o.driverName, o.endpoint, o.registrationDir, ready)
		if err != nil {
			return err
		}
		background.Go(func() { stopOnDone(ctx, registration) })
		background.Go(func() { _ = registration.Serve(socket) })
	}
	return server.Serve(listener)
}

// openPool makes the controller's pool of shares under the state directory, which it holds
// for this process alone: two processes under one name could take each other's work for their own.
func openPool(o options, source *config.Source, mounter metrics.Mounter, servers *probe.Servers, laidOut func(volume.Share, string)) (*pool.Pool, func(), error) {
	maker, unlock, err := lockInstance(o.stateDir)
	if err != nil {
		return nil, nil, err
	}
	dir, err := filepath.Abs(filepath.Join(o.stateDir, "shares"))
	if err != nil {
		return nil, nil, err
	}
	var poolMounter pool.Mounter = mounter
	if o.sharesDir != "" {
		poolMounter = &mount.Premounted{Table: mounter.Table}
	}
	shares := pool.New(source.Current, poolMounter, dir, pool.Options{
		Share: share.Options{Maker: maker, OnInitialized: laidOut}, Premounted: o.sharesDir, OwnClient: o.hostNetwork,
		Servers: servers, Table: mounter.Table,
	})
	table, err := mounter.Table()
	if err != nil {
		return nil, nil, err
	}
	shares.Clean(table)
	return shares, func() {
		shares.Close()
		if table, err := mounter.Table(); err == nil {
			shares.Clean(table) // what was replaced and still in use
		}
		unlock()
	}, nil
}

// reportLaidOut returns what is told of a share that this process has laid out: that there was nothing of
// Mooring's is as it should be once.
func reportLaidOut(ctx context.Context, count func(), tell recordEvent) func(volume.Share, string) {
	return func(def volume.Share, id string) {
		count()
		klog.FromContext(ctx).Info("Share laid out: nothing of Mooring's was there", "share", def.String(), "id", id)
		go tell(ctx, "ShareLaidOut", fmt.Sprintf("share %s is laid out, with the id %s: nothing of Mooring's was there before; if there should have been, its disk is not mounted on the server", def, id))
	}
}

// sweepInterval is how often is looked for snapshot groups that nobody finished.
const sweepInterval = time.Hour

// newController returns the controller service, and starts what it does in the background.
func newController(ctx context.Context, background *sync.WaitGroup, o options, shares *pool.Pool, m *metrics.Metrics) *driver.Controller {
	purger := jobs.NewPurger(shares)
	copier := jobs.NewCopier(shares, purger, o.copies)
	watcher := jobs.NewWatcher(shares)
	service := provision.New(shares, purger, copier, watcher.Fault)
	m.Trash(purger.Status)
	m.Copies(copier.Status)
	m.Shares(shares.Opened, shares.Versions, watcher.Status)
	background.Go(func() { watcher.Run(ctx) })
	background.Go(func() { purger.Run(ctx) })
	background.Go(func() { copier.Run(ctx) })
	background.Go(func() {
		tick := time.NewTicker(sweepInterval)
		defer tick.Stop()
		for ctx.Err() == nil {
			service.Groups.Sweep(ctx)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	return &driver.Controller{
		SnapshotController: driver.SnapshotController{Snapshots: service.Snapshots},
		Volumes:            service.Volumes, Groups: service.Groups, Health: service.Health,
	}
}

// newNode returns the node service, or nil where this process has none.
func newNode(ctx context.Context, background *sync.WaitGroup, o options, source *config.Source, mounter metrics.Mounter, servers *probe.Servers, m *metrics.Metrics) (*driver.Node, error) {
	if !o.node {
		return nil, nil
	}
	// Before it listens: of two, the end of one would take the other's sockets away.
	locked, err := lockFile(o.stateDir, "node.lock", "node")
	if err != nil {
		return nil, err
	}
	background.Go(func() {
		<-ctx.Done()
		_ = locked.Close()
	})
	dir, err := filepath.Abs(filepath.Join(o.stateDir, "node"))
	if err != nil {
		return nil, err
	}
	asker, children := probe.NewWorker(), &publish.ChildRunner{}
	m.Processes("ask", asker)
	m.Queries(asker.QueueStats)
	m.Processes("show", &children.Runner)
	node, err := publish.New(source.Current, mounter, probe.NewMounts(servers, asker.Query), dir, children.Do)
	if err != nil {
		return nil, err
	}
	if err := asker.Start(); err != nil {
		return nil, err
	}
	background.Go(func() { node.Inlines.Tidy(ctx) })
	return &driver.Node{
		Pods: node.Pods, Health: node.Health,
		ID: o.nodeID, MaxVolumes: o.maxVolumes, Topology: o.topology,
	}, nil
}

// serveMetrics serves them in the background, if there is an address to do it at. Where that is
// taken, as by another replica on the same host network, it is tried again: metrics are no
// reason not to serve volumes.
func serveMetrics(ctx context.Context, background *sync.WaitGroup, address string, handler http.Handler) {
	if address == "" {
		return
	}
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	background.Go(func() {
		for {
			err := server.ListenAndServe()
			if errors.Is(err, http.ErrServerClosed) {
				return
			}
			klog.FromContext(ctx).Error(err, "Metrics are not served so far", "address", address)
			select {
			case <-ctx.Done():
				return
			case <-time.After(metricsRetryInterval):
			}
		}
	})
	background.Go(func() {
		<-ctx.Done()
		_ = server.Close()
	})
}

// stopOnDone stops the server when ctx ends: gently first, and then whatever is under way.
func stopOnDone(ctx context.Context, server *grpc.Server) {
	<-ctx.Done()
	timer := time.AfterFunc(drainTimeout, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}
