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

// givenShares is where kubelet has mounted the shares for the controller in whose container
// this runs, as the chart has it (controller.mountShares: kubelet).
const givenShares = "/shares"

// session is what one command works with.
type session struct {
	*admin.Service
	stderr io.Writer
	failed atomic.Bool // on a share, or a volume: it was said, and the rest went on
	mu     sync.Mutex
}

// open makes ready for work on the shares, to read only unless change is set. Where they are
// not mounted yet, the program goes on in a mount namespace of its own, from the beginning.
func (o *options) open(c *cobra.Command, change bool) (*session, func(), error) {
	return o.openWith(c, share.Options{ReadOnly: !change})
}

// openWith is open with these options for the shares.
func (o *options) openWith(c *cobra.Command, opt share.Options) (*session, func(), error) {
	debug.SetGCPercent(400)                           // a few MiB, for a few seconds: not worth collecting often
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // what matters comes back as an error
	source, err := config.Open(o.config)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: name the file that registers the shares by --config", err)
	}
	registry := source.Current
	servers := probe.NewServers(probe.Ping)
	kernel := &mount.Kernel{Answers: servers.Answers}
	var mounter pool.Mounter = kernel
	dir, given := "", o.given(kernel, registry().Shares)
	if given != "" {
		mounter = &mount.Premounted{Table: kernel.Table}
	} else {
		if dir, err = mount.ReexecInMountNS(absolute(o.config), absolute(os.Getenv("KUBECONFIG"))); err != nil {
			return nil, nil, err
		}
		registry = func() *volume.Registry { return withoutLocks(source.Current()) }
	}
	opt.Maker = maker()
	shares := pool.New(registry, mounter, dir, pool.Options{
		Share: opt, Premounted: given,
		Servers: servers,
	})
	s := &session{stderr: c.ErrOrStderr()}
	s.Service = admin.New(shares, s.report)
	return s, shares.Close, nil
}

// maker is a name that no controller has, nor another run of this: those have 8 digits alone.
func maker() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return "ctl" + hex.EncodeToString(b)
}

func absolute(file string) string {
	if file == "" {
		return ""
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return file
	}
	return path
}

// given returns the directory in which the shares are mounted already, "" where they are not.
func (o *options) given(kernel *mount.Kernel, shares []volume.Share) string {
	if o.sharesDir != "" {
		return o.sharesDir
	}
	table, err := kernel.Table()
	if err != nil {
		return ""
	}
	for _, s := range shares {
		if _, ok := table.At(filepath.Join(givenShares, s.Name)); ok {
			return givenShares
		}
	}
	return ""
}

// withoutLocks has shares mounted without NFSv3's locks, of which none is taken here: for them
// mount(8) may start rpc.statd, which would keep the mount namespace after us.
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

// report says what fails while the rest goes on.
func (s *session) report(err error) {
	s.failed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.stderr, "mooringctl:", harmless(err.Error()))
}

// unless returns what to say when there is nothing, which is nothing where a share has failed.
func (s *session) unless(nothing string) func() string {
	return func() string {
		if s.failed.Load() {
			return ""
		}
		return nothing + "\n"
	}
}

// end returns the error with which the command is to end.
func (s *session) end(err error) error {
	if err != nil {
		return err
	}
	if s.failed.Load() {
		return exit(failed)
	}
	return nil
}

// lists returns what a command that lists runs: do, with the shares open to be read.
func (o *options) lists(l *listing, do func(c *cobra.Command, s *session) error) func(*cobra.Command, []string) error {
	return o.listsWith(l, share.Options{ReadOnly: true}, do)
}

// listsWith is lists with these options for the shares.
func (o *options) listsWith(l *listing, opt share.Options, do func(c *cobra.Command, s *session) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		if err := l.check(); err != nil {
			return err
		}
		s, end, err := o.openWith(c, opt)
		if err != nil {
			return err
		}
		defer end()
		return s.end(do(c, s))
	}
}

// cluster are the flags of commands that ask a cluster.
type cluster struct{ kubeconfig, driver string }

func (k *cluster) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.kubeconfig, "kubeconfig", "", "a file that says how to reach the cluster (none: KUBECONFIG's, or that of the pod in which this runs)")
	c.Flags().StringVar(&k.driver, "driver-name", "nfs.csi.mooring.dev", "the driver's name in the cluster")
}

// open returns nil where no cluster is known.
func (k *cluster) open() (*kube.Client, error) {
	client, err := kube.Open(k.kubeconfig, os.Getenv("KUBECONFIG"))
	if errors.Is(err, kube.ErrNoCluster) {
		return nil, nil
	}
	return client, err
}

// completeShares completes the names of registered shares.
func (o *options) completeShares(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	source, err := config.Open(o.config)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, s := range source.Current().Shares {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
