// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// kubeletShares is where kubelet mounts the shares in the controller's container, if the chart has
// controller.mountShares: kubelet.
const kubeletShares = "/shares"

// session is the state of one command.
type session struct {
	*admin.Service
	stderr io.Writer
	failed atomic.Bool // a share or a volume has failed, which was reported
	mu     sync.Mutex
}

// open opens the shares, read-only unless change is set. If they are not mounted yet, the program
// executes itself again in a mount namespace of its own.
func (o *options) open(c *cobra.Command, change bool) (*session, func(), error) {
	return o.openWith(c, share.Options{ReadOnly: !change})
}

// openWith is open with options for the shares.
func (o *options) openWith(c *cobra.Command, opt share.Options) (*session, func(), error) {
	debug.SetGCPercent(400)                           // the process is small and short-lived
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // relevant problems are returned as errors
	source, err := config.Open(o.config)
	if err != nil {
		// Not %w: an invalid file is no error of usage.
		return nil, nil, fmt.Errorf("%v: name the file that registers the shares with --config", err)
	}
	if _, err := resolveShares(source.Current(), o.shares); err != nil {
		return nil, nil, err
	}
	registry := source.Current
	servers := probe.NewServers(probe.Ping)
	kernel := &mount.Kernel{Answers: servers.Answers}
	var mounter pool.Mounter = kernel
	dir, premounted := "", o.mountedShares(kernel, registry().Shares)
	if premounted != "" {
		mounter = &mount.Premounted{Table: kernel.Table}
	} else {
		if dir, err = mount.ReexecInMountNS(absolutePath(o.config), absolutePath(os.Getenv("KUBECONFIG"))); err != nil {
			return nil, nil, err
		}
		registry = func() *volume.Registry { return withoutLocks(source.Current()) }
	}
	opt.Maker = maker()
	shares := pool.New(registry, mounter, dir, pool.Options{
		Share: opt, Premounted: premounted,
		Servers: servers, Table: kernel.Table,
	})
	s := &session{stderr: c.ErrOrStderr()}
	s.Service = admin.New(shares, s.report)
	return s, shares.Close, nil
}

// maker returns a unique name, which differs from a controller's: those are 8 hexadecimal digits.
func maker() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return "ctl" + hex.EncodeToString(b)
}

func absolutePath(file string) string {
	if file == "" {
		return ""
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return file
	}
	return path
}

// mountedShares returns the directory in which the shares are mounted already, or "" if they are not.
func (o *options) mountedShares(kernel *mount.Kernel, shares []volume.Share) string {
	if o.sharesDir != "" {
		return o.sharesDir
	}
	table, err := kernel.Table()
	if err != nil {
		return ""
	}
	for _, s := range shares {
		if _, ok := table.At(filepath.Join(kubeletShares, s.Name)); ok {
			return kubeletShares
		}
	}
	return ""
}

// withoutLocks makes shares mount without NFSv3 locks, which mooringctl does not use: for them mount(8)
// may start rpc.statd, which would keep the mount namespace after the process has ended.
func withoutLocks(r *volume.Registry) *volume.Registry {
	copied := *r
	copied.MountOptions = volume.MergeMountOptions(r.MountOptions, []string{"nolock"})
	copied.Shares = nil
	for _, s := range r.Shares {
		s.MountOptions = volume.MergeMountOptions(s.MountOptions, []string{"nolock"})
		copied.Shares = append(copied.Shares, s)
	}
	return &copied
}

func (o *options) filter(namespace string) admin.Filter {
	return admin.Filter{Shares: o.shares, Namespace: namespace}
}

// report prints an error of a part, while the command continues.
func (s *session) report(err error) {
	s.failed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.stderr, "mooringctl:", sanitize(err.Error()))
}

// emptyMessage returns the message for an empty list, which is "" if a share has failed.
func (s *session) emptyMessage(message string) func() string {
	return func() string {
		if s.failed.Load() {
			return ""
		}
		return message + "\n"
	}
}

// finish returns the error of the command.
func (s *session) finish(err error) error {
	if err != nil {
		return err
	}
	if s.failed.Load() {
		return exit(exitFailed)
	}
	return nil
}

// runList returns the RunE of a command that prints a list: it calls do with the shares open read-only.
func (o *options) runList(l *listOptions, do func(c *cobra.Command, s *session) error) func(*cobra.Command, []string) error {
	return o.runListWith(l, share.Options{ReadOnly: true}, do)
}

// runListWith is runList with options for the shares.
func (o *options) runListWith(l *listOptions, opt share.Options, do func(c *cobra.Command, s *session) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		s, end, err := o.openWith(c, opt)
		if err != nil {
			return err
		}
		defer end()
		return s.finish(do(c, s))
	}
}

// clusterOptions are the flags of commands that call the API server.
type clusterOptions struct{ kubeconfig, driver string }

func (k *clusterOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.kubeconfig, "kubeconfig", "", "the kubeconfig file of the cluster (none: that of KUBECONFIG, or the pod's service account)")
	c.Flags().StringVar(&k.driver, "driver-name", "nfs.csi.mooring.dev", "the driver's name in the cluster")
}

// open returns a client of the cluster, or nil if none is configured.
func (k *clusterOptions) open() (*kube.Client, error) {
	client, err := kube.Open(k.kubeconfig, os.Getenv("KUBECONFIG"))
	if errors.Is(err, kube.ErrNoCluster) {
		return nil, nil
	}
	return client, err
}
