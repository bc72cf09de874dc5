// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/config"
)

// TestCheck checks configuration files, by name and from standard input.
func TestCheck(t *testing.T) {
	const good = "shares: [{name: nas1, servers: [10.0.0.1], path: /x}]\n"
	for text, wants := range map[string][]string{
		good:          nil,
		"shares: []":  nil,
		"":            {"it is empty"},
		"# Mooring\n": {"it is empty"},
		"null":        {"it is empty"},
		"shares: [":   {"it is not the YAML that is expected"},
		"shares: [" + strings.Repeat("{name: a, servers: [nas], path: /x}, ", 3) + "]": { // one line for each copy
			"shares[1] (a): the name is taken", "shares[2] (a): the name is taken",
		},
		`shares: [{name: "\e[2J", servers: [nas], path: /x}]`: {"shares[0] (?[2J): "},
		"shares: [{name: nas1, servers: ['10.0.0.1:2049'], path: /x/, mountOptions: [bg]}]\nunregistered: maybe\n": {
			`unregistered: "maybe"`, `shares[0] (nas1).servers: "10.0.0.1:2049"`, "shares[0] (nas1).path: ", "shares[0] (nas1).mountOptions: ",
		},
		good + "shares: []\ndefaults: {x: 1}\n": {"it is not the YAML that is expected"}, // an error of several lines
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{file, "-"} {
			var out bytes.Buffer
			c := command()
			c.SetArgs([]string{"check", name})
			c.SetIn(strings.NewReader(text))
			c.SetOut(&out)
			err := c.Execute()
			if (err == nil) != (wants == nil) {
				t.Errorf("%q: the error is %v", text, err)
			}
			if _, driver := config.Open(file); (err == nil) != (driver == nil) {
				t.Errorf("%q: check says %v, and the driver %v", text, err, driver)
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if out.Len() == 0 {
				lines = nil
			}
			if len(lines) != len(wants) {
				t.Errorf("%q: the output is\n%s", text, &out)
				continue
			}
			for i, want := range wants {
				if !strings.HasPrefix(lines[i], name+": "+want) {
					t.Errorf("%q: line %d is %q, and not %q", text, i+1, lines[i], want)
				}
			}
		}
	}
	c := command()
	c.SetArgs([]string{"check", filepath.Join(t.TempDir(), "none")})
	if err := c.Execute(); !os.IsNotExist(err) {
		t.Errorf("the error about a file that does not exist is %v", err)
	}
}
