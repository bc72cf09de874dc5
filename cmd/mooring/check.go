// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/spf13/cobra"
)

// checkCommand returns the command that checks a configuration file before a driver gets it.
func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Check a configuration file as the driver does at its start", Args: cobra.ExactArgs(1),
		Long: `Check a configuration file as the driver does at its start. Each problem is one line
of the output. FILE is - for standard input. The exit code is 1 if the driver would not
start with the file. No server is contacted.`,
		RunE: func(c *cobra.Command, args []string) error { return checkFile(args[0], c.InOrStdin(), c.OutOrStdout()) },
	}
}

// checkFile writes the problems of a configuration file to out, one a line. If there are any, it returns an error.
func checkFile(name string, in io.Reader, out io.Writer) error {
	data, err := readFile(name, in)
	if err != nil {
		return err
	}
	problems := config.Faults(data)
	for _, p := range problems {
		if _, err := fmt.Fprintf(out, "%s: %s\n", name, strings.Join(strings.Fields(p), " ")); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("the driver does not start with %s: problems found: %d", name, len(problems))
	}
	return nil
}

func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(name)
}
