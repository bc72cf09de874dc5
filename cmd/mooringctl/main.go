// SPDX-License-Identifier: Apache-2.0

// Command mooringctl is for those who run Mooring: it shows what is on the shares, says what is
// wrong with them, and brings back what was deleted.
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

// Exit statuses. What else fails is failed.
const (
	failed    = 1
	noticed   = 1 // doctor: there are warnings
	diagnosed = 2 // doctor: something is broken
)

// options are those of all commands.
type options struct {
	config    string   // the registry's file
	sharesDir string   // where the shares are mounted already, each under its name; "": nowhere
	shares    []string // only these
	output    string   // doctor's format
}

// exit is an error that only says with which status the program is to end: all else was said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if done, err := asChild(os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(failed)
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
		fmt.Fprintln(os.Stderr, "mooringctl:", harmless(err.Error()))
		os.Exit(failed)
	}
}

func command() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "mooringctl",
		Short:         "See what is on Mooring's shares, what is wrong with them, and bring back what was deleted",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&o.config, "config", "/etc/mooring/config.yaml", "the file that registers the shares")
	f.StringVar(&o.sharesDir, "shares-dir", "", "a directory in which the shares are mounted already, each under its name (none: they are mounted for as long as this runs)")
	f.StringSliceVar(&o.shares, "share", nil, "only these of the shares")
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
