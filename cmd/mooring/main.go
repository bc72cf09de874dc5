// SPDX-License-Identifier: Apache-2.0

// Command mooring is the CSI driver: the controller, the node plugin, or both.
//
// It connects the packages. An RPC takes this path:
//
//	controller  driver.Controller -> provision.Service -> pool.Pool -> share.Share
//	  copies      jobs.Copier     -> share.CopyJob, copytree.Copy
//	  trash       jobs.Purger     -> share.Trash, copytree.Removal
//	  heartbeats  jobs.Watcher    -> share.Share.Heartbeat
//	node        driver.Node       -> publish.Service -> mount.Kernel, probe.Mounts
//	  in a child  publish.ChildRunner -> publish.Child -> package mount, share.Inline
//
// The state directory is a local directory of the driver. In it the directory "shares" has the
// controller's mounts, and "node" the records of package publish.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/mooring-csi/mooring/pkg/driver"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/publish"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// version is set by the linker.
var version = "dev"

func main() {
	if done, err := runAsChild(os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := command().ExecuteContext(ctx)
	stop()
	klog.Flush()
	if err == nil {
		return
	}
	if _, done := errors.AsType[loggedError](err); !done {
		fmt.Fprintln(os.Stderr, "mooring:", err)
	}
	os.Exit(1)
}

// runAsChild runs the process as a child of the driver, if its arguments say so.
func runAsChild(args []string) (done bool, err error) {
	switch {
	case len(args) == 1 && args[0] == probe.ChildCommand:
		return true, probe.Child(os.Stdin, os.Stdout)
	case len(args) == 1 && args[0] == publish.ChildCommand:
		return true, publish.Child(os.Stdin, os.Stdout)
	}
	return false, nil
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "mooring",
		Short:         "A CSI driver that gives each volume a directory on an NFS server",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			DisableDefaultCmd: true,
		},
	}
	for _, role := range []struct {
		use, short       string
		controller, node bool
	}{
		{"controller", "Create, delete, resize and list volumes", true, false},
		{"node", "Mount volumes for the pods of this node", false, true},
		{"all", "Run controller and node in one process", true, true},
	} {
		o := options{role: role.use, controller: role.controller, node: role.node}
		c := &cobra.Command{
			Use: role.use, Short: role.short, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return logError(o.logFormat, run(c.Context(), o)) },
		}
		o.flags(c.Flags())
		root.AddCommand(c)
	}
	alive := &cobra.Command{
		Use: "alive", Short: "Check whether the driver at an endpoint answers, for an orchestrator's probes", Args: cobra.NoArgs,
	}
	var endpoint string
	endpointFlag(alive.Flags(), &endpoint, "CSI endpoint of the driver")
	ready := alive.Flags().Bool("ready", false, "also check whether it is ready: on a node, whether kubelet has registered it")
	alive.RunE = func(c *cobra.Command, _ []string) error { return driver.Alive(c.Context(), endpoint, *ready) }
	root.AddCommand(alive, checkCommand())
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	root.PersistentFlags().AddGoFlagSet(logging)
	return root
}
