// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "update docs/mooringctl.md")

const (
	docsPage  = "../../docs/mooringctl.md"
	generated = "<!-- go test ./cmd/mooringctl -update -->\n"
	end       = "<!-- end -->"
)

// TestDocs compares the list of commands in docs/mooringctl.md with the commands.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile(docsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), generated)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no marks for the list of commands", docsPage)
	}
	var b strings.Builder
	b.WriteString(before + generated + "\n")
	root := (&options{}).command()
	for _, c := range root.Commands() {
		documentCommand(&b, c)
	}
	b.WriteString("### All commands\n\n")
	flagTable(&b, root.PersistentFlags())
	b.WriteString(end + after)
	if want := b.String(); want != string(data) {
		if !*update {
			t.Fatalf("%s is out of date: run go test ./cmd/mooringctl -update", docsPage)
		}
		if err := os.WriteFile(docsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func documentCommand(b *strings.Builder, c *cobra.Command) {
	if c.Name() == "help" || c.Name() == "completion" {
		return
	}
	if !c.HasSubCommands() {
		text := c.Short + "."
		if c.Long != "" {
			text = c.Long
		}
		fmt.Fprintf(b, "### `%s`\n\n%s\n\n", strings.TrimSuffix(c.UseLine(), " [flags]"), text)
		if c.Example != "" {
			fmt.Fprintf(b, "```sh\n%s\n```\n\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
		}
		flagTable(b, c.LocalNonPersistentFlags())
	}
	for _, sub := range c.Commands() {
		documentCommand(b, sub)
	}
}

func flagTable(b *strings.Builder, flags *pflag.FlagSet) {
	rows := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "version" {
			return
		}
		if rows++; rows == 1 {
			b.WriteString("| Option | Default | Meaning |\n|---|---|---|\n")
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value := "none"
		if f.DefValue != "" && f.DefValue != "[]" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, value, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
	if rows > 0 {
		b.WriteString("\n")
	}
}
