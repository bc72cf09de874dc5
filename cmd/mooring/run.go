// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	// reloadInterval is how often the configuration is checked for changes.
	reloadInterval = 10 * time.Second
	// drainTimeout bounds the running RPCs when the process ends.
	drainTimeout = 5 * time.Second
)

type options struct {
	role             string // controller, node, or all
	controller, node bool

	endpoint, nodeID, config, driverName, metricsAddress, pprofAddress, logFormat, stateDir, registrationDir, sharesDir, pod string
	hostNetwork                                                                                                              bool
	maxVolumes                                                                                                               int64
	topology                                                                                                                 map[string]string
	copies                                                                                                                   jobs.CopyOptions
}

func (o *options) flags(f *pflag.FlagSet) {
	endpointFlag(f, &o.endpoint, "CSI endpoint to listen on: unix:///path or tcp://host:port")
	f.StringVar(&o.config, "config", "", "the registry of shares, a YAML file that is reloaded when it changes (none: only classes with server and share work)")
	f.StringVar(&o.driverName, "driver-name", "nfs.csi.mooring.dev", "the driver's name in StorageClasses and CSIDriver")
	f.StringVar(&o.metricsAddress, "metrics-address", "", "address for /metrics, /healthz and /readyz, host:port (none: they are not served)")
	f.StringVar(&o.pprofAddress, "pprof-address", "", "address for Go's profiles at /debug/pprof/, host:port; use 127.0.0.1: anyone who reaches it can read the process's memory (none: they are not served)")
	f.StringVar(&o.logFormat, "log-format", "text", "format of the log: text or json, which has one object a line")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/mooring", "a local directory for this instance alone: mount points, and its name")
	hostname, _ := os.Hostname()
	f.StringVar(&o.nodeID, "node-id", hostname, "this node's name for the orchestrator")
	if o.controller {
		f.StringVar(&o.sharesDir, "shares-dir", "", "a directory in which every share is mounted already, under its name, for example by kubelet: the controller mounts nothing then, and needs no CAP_SYS_ADMIN")
		f.BoolVar(&o.hostNetwork, "host-network", true, "whether the controller shares a network namespace with pods' NFS mounts: then its own mounts get a separate NFSv4 client, by the server's IPv4 address in IPv6 form")
		f.StringVar(&o.pod, "pod", "", "the controller's pod, NAMESPACE/NAME/UID: it gets an event when a share is laid out (none: there are only a log message and a metric)")
		f.IntVar(&o.copies.PerShare, "copies-per-share", jobs.DefaultCopiesPerShare, "how many snapshots, restores and clones are copied at once on a share; others wait")
		f.IntVar(&o.copies.Workers, "copy-workers", jobs.DefaultCopyWorkers, "how many concurrent calls to the server each copy makes")
	}
	if o.node {
		f.StringVar(&o.registrationDir, "kubelet-registration-dir", "", "kubelet's directory for plugins' sockets, /var/lib/kubelet/plugins_registry, in which to register (none: node-driver-registrar registers)")
		f.Int64Var(&o.maxVolumes, "max-volumes-per-node", 0, "how many volumes the node takes (0: no limit)")
		f.StringToStringVar(&o.topology, "topology", nil, "key=value,...: labels that kubelet gives the node for the driver; external-provisioner reports free space to the scheduler only if there is one")
	}
}

func endpointFlag(f *pflag.FlagSet, endpoint *string, usage string) {
	f.StringVar(endpoint, "endpoint", "unix:///run/mooring/csi.sock", usage)
}

// validate returns an error if the flags are invalid.
func (o *options) validate() error {
	switch {
	case o.node && (o.nodeID == "" || o.maxVolumes < 0):
		return errors.New("a node needs --node-id, and --max-volumes-per-node cannot be negative")
	case o.controller && (o.copies.PerShare < 1 || o.copies.Workers < 1):
		return errors.New("--copies-per-share and --copy-workers must be at least 1")
	}
	return errors.Join(checkAddress("--metrics-address", o.metricsAddress), checkAddress("--pprof-address", o.pprofAddress))
}

// checkAddress checks the form of an address to serve at. One that is in use may be free later: see serveHTTP.
func checkAddress(flag, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil && port == "" {
		err = errors.New("it has no port")
	}
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%s must be host:port: %w", flag, err)
	}
	return nil
}

// run connects the parts of the process, and serves until ctx ends.
func run(ctx context.Context, o options) error {
	if err := setLogFormat(o.logFormat, os.Stderr); err != nil {
		return err
	}
	log := klog.FromContext(ctx)
	log.Info("Mooring starts", "version", version, "controller", o.controller, "node", o.node, "driver", o.driverName, "nodeID", o.nodeID)
	if err := o.validate(); err != nil {
		return err
	}
	source, err := config.Open(o.config)
	if err != nil {
		return err
	}
	if err := prepare(ctx, o.stateDir); err != nil {
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
		record, err := newEventRecorder(o)
		if err != nil {
			return err
		}
		shares, closePool, err := openPool(o, source, mounter, servers, reportLaidOut(ctx, m.LaidOut(), record))
		if err != nil {
			return err
		}
		defer closePool()
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
	serveHTTP(ctx, &background, o.metricsAddress, m.Handler(identity.Ready.Load))
	serveHTTP(ctx, &background, o.pprofAddress, profiles())
	return serve(ctx, &background, o, server, identity.Ready.Store)
}

// prepare takes care of what an earlier process may have left, and makes the state directory.
func prepare(ctx context.Context, stateDir string) error {
	if err := child.ReapOrphans(ctx); err != nil {
		return err
	}
	if err := mount.RemoveStaleStatdPID(); err != nil {
		klog.FromContext(ctx).Error(err, "NFSv3 mounts may fail: the process id of an rpc.statd that has ended cannot be removed")
	}
	return os.MkdirAll(stateDir, 0o750)
}

// serve serves CSI until ctx ends, and registers with kubelet if configured. The process is ready when it
// listens or, if it registers, when kubelet has accepted it: a rollout that kubelet rejects must stop.
func serve(ctx context.Context, background *sync.WaitGroup, o options, server *grpc.Server, ready func(bool)) error {
	listener, err := driver.Listen(o.endpoint)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.endpoint, err)
	}
	// From here on, new directories have exactly the mode of their class. The socket was made with
	// the process's umask.
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

// openPool opens the controller's pool of shares in the state directory, and locks that: two processes
// with one name could take each other's work for their own.
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
		defer unlock()
		table, err := mounter.Table()
		if err != nil {
			return
		}
		shares.Clean(table) // mounts that were replaced while in use
	}, nil
}

// reportLaidOut returns a function that reports a share that this process has laid out: that it had no
// Mooring data is normal only the first time.
func reportLaidOut(ctx context.Context, count func(), record recordEvent) func(volume.Share, string) {
	return func(def volume.Share, id string) {
		count()
		klog.FromContext(ctx).Info("Share laid out: it had no Mooring data", "share", def.String(), "id", id)
		go record(ctx, "ShareLaidOut", fmt.Sprintf("share %s is laid out, with the id %s: it had no Mooring data; if you expected some, its disk is not mounted on the server", def, id))
	}
}

// sweepInterval is how often abandoned snapshot groups are removed.
const sweepInterval = time.Hour

// newController returns the controller service, and starts its background work.
func newController(ctx context.Context, background *sync.WaitGroup, o options, shares *pool.Pool, m *metrics.Metrics) *driver.Controller {
	purger := jobs.NewPurger(shares)
	copier := jobs.NewCopier(shares, purger, o.copies)
	watcher := jobs.NewWatcher(shares)
	service := provision.New(shares, purger, copier, watcher.Fault)
	m.Trash(purger.Status)
	m.Copies(copier.Status)
	counter := jobs.NewVolumeCounter(shares)
	m.Volumes(counter.Status)
	m.Shares(shares.Opened, shares.Versions, watcher.Status)
	background.Go(func() { watcher.Run(ctx) })
	background.Go(func() { purger.Run(ctx) })
	background.Go(func() { copier.Run(ctx) })
	background.Go(func() { counter.Run(ctx) })
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

// newNode returns the node service, or nil if this process has none.
func newNode(ctx context.Context, background *sync.WaitGroup, o options, source *config.Source, mounter metrics.Mounter, servers *probe.Servers, m *metrics.Metrics) (*driver.Node, error) {
	if !o.node {
		return nil, nil
	}
	// Before it listens: of two processes, the first to end would remove the sockets of the other.
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
	worker, children := probe.NewWorker(), &publish.ChildRunner{}
	m.Processes("ask", worker)
	m.Queries(worker.QueueStats)
	m.Processes("show", &children.Runner)
	node, err := publish.New(source.Current, mounter, probe.NewMounts(servers, worker.Query), dir, children.Do)
	if err != nil {
		return nil, err
	}
	if err := worker.Start(); err != nil {
		return nil, err
	}
	background.Go(func() { node.Inlines.Tidy(ctx) })
	return &driver.Node{
		Pods: node.Pods, Health: node.Health,
		ID: o.nodeID, MaxVolumes: o.maxVolumes, Topology: o.topology,
	}, nil
}

// stopOnDone stops the server when ctx ends: gracefully first, then by force.
func stopOnDone(ctx context.Context, server *grpc.Server) {
	<-ctx.Done()
	timer := time.AfterFunc(drainTimeout, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}
