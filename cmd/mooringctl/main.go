// SPDX-License-Identifier: Apache-2.0

// Command mooringctl is the tool for administrators: it lists what is on the shares, finds what is wrong
// with them, and restores deleted volumes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// Exit statuses. Any other failure is exitFailed.
const (
	exitFailed   = 1
	exitWarnings = 1 // doctor: there are warnings
	exitBroken   = 2 // doctor: something is broken
)

// options are the options of all commands.
type options struct {
	config    string   // the registry's file
	sharesDir string   // where the shares are mounted already, each under its name; "": nowhere
	shares    []string // only these
	output    string   // doctor's format
}

// exit is an error that sets the exit status: everything else is printed already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if done, err := runAsChild(os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := command().ExecuteContext(ctx)
	stop()
	var status exit
	switch {
	case errors.As(err, &status):
		os.Exit(int(status))
	case err != nil:
		fmt.Fprintln(os.Stderr, "mooringctl:", sanitize(err.Error()))
		os.Exit(exitFailed)
	}
}

func command() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "mooringctl",
		Short:         "List what is on Mooring's shares, find what is wrong with them, and restore deleted volumes",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&o.config, "config", "/etc/mooring/config.yaml", "the file that registers the shares")
	f.StringVar(&o.sharesDir, "shares-dir", "", "a directory in which the shares are mounted already, each under its name (none: the command mounts them while it runs)")
	f.StringSliceVar(&o.shares, "share", nil, "only these shares")
	_ = root.RegisterFlagCompletionFunc("share", o.completeShares)
	for _, make := range []func(*options) *cobra.Command{
		doctorCommand,
		sharesCommand,
		shareCommand,
		volumesCommand,
		snapshotsCommand,
		trashCommand,
		jobsCommand,
		usageCommand,
		orphansCommand,
		checkCommand,
	} {
		root.AddCommand(make(o))
	}
	return root
}
