// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

// build is what mooringctl version prints.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"goVersion"`
	Platform string `json:"platform"`
}

func versionCommand(*options) *cobra.Command {
	format := ""
	c := &cobra.Command{
		Use: "version", Args: cobra.NoArgs,
		Short: "Print the version of mooringctl",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkFormat(format, documentFormats); err != nil {
				return err
			}
			b := build{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return printDocument(c.OutOrStdout(), format, b, func(b build) string {
				return "mooringctl version " + b.Version + " (" + b.Go + ", " + b.Platform + ")\n"
			})
		},
	}
	formatFlag(c, &format, documentFormats)
	return c
}
