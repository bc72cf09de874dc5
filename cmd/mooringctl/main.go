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

	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// Exit statuses.
const (
	exitFailed   = 1 // a failure or, of commands that search for problems, a finding
	exitUsage    = 2 // wrong arguments
	exitWarnings = 1 // doctor: there are warnings
	exitBroken   = 3 // doctor: something is broken
)

// options are the options of all commands.
type options struct {
	config    string   // the registry's file
	sharesDir string   // where the shares are mounted already, each under its name; "": nowhere
	shares    []string // only these
	running   bool     // the arguments are checked, and the command runs
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
	o := &options{}
	err := o.command().ExecuteContext(ctx)
	stop()
	status := o.status(err)
	if _, printed := errors.AsType[exit](err); err != nil && !printed {
		fmt.Fprintln(os.Stderr, "mooringctl:", sanitize(err.Error()))
		if !o.running {
			fmt.Fprintln(os.Stderr, "mooringctl COMMAND --help shows the arguments and options.")
		}
	}
	os.Exit(status)
}

// status returns the exit status for the error of a command. Before the command runs, all errors are
// about its arguments.
func (o *options) status(err error) int {
	status, ok := errors.AsType[exit](err)
	switch {
	case err == nil:
		return 0
	case ok:
		return int(status)
	case !o.running, errors.Is(err, volume.ErrInvalid):
		return exitUsage
	}
	return exitFailed
}

// command returns mooringctl with all its commands.
func (o *options) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "mooringctl",
		Short:         "List what is on Mooring's shares, find what is wrong with them, and restore deleted volumes",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if err := c.ValidateFlagGroups(); err != nil { // which cobra does only after this
				return err
			}
			if c.Flags().Changed("share") && len(o.shares) == 0 { // --share "$UNSET": no share at all is not what is meant
				return errors.New("--share names no share")
			}
			o.running = true
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&o.config, "config", "/etc/mooring/config.yaml", "the file that registers the shares")
	f.StringVar(&o.sharesDir, "shares-dir", "", "a directory in which the shares are mounted already, each under its name (none: the command mounts them while it runs)")
	f.StringSliceVar(&o.shares, "share", nil, "only these shares")
	_ = root.RegisterFlagCompletionFunc("share", o.completeShares)
	for _, make := range []func(*options) *cobra.Command{
		doctorCommand,
		healthCommand,
		describeCommand,
		sharesCommand,
		shareCommand,
		volumesCommand,
		snapshotsCommand,
		trashCommand,
		jobsCommand,
		usageCommand,
		orphansCommand,
		checkCommand,
		versionCommand,
	} {
		root.AddCommand(make(o))
	}
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.HasSubCommands() { // else cobra shows the help for a wrong one, and succeeds
			c.Args, c.RunE = cobra.NoArgs, func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	return root
}
