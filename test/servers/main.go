// SPDX-License-Identifier: Apache-2.0

// Servers tests Mooring on many kinds of NFS server: make servers.
//
// Each server runs in a guest of its own, one after the other, started by test/servers/server. TestServer
// tests it there with the real program, with several versions of NFS:
//
//   - the output of mooringctl doctor,
//   - csi-sanity,
//   - the life of a volume with its snapshots, copies and its way through the trash,
//   - a clone of a tree with entries of all kinds, compared entry by entry,
//   - the server killed and restarted in the middle of a copy and of 20 creations.
//
// servers.go lists what a server lacks, so that a run fails when that changes. The results are kept in one
// file per server, and the table of all of them is written.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	build := flag.String("build", "build", "where servers.test is, and the results go: servers/NAME.json, servers.md")
	lab := flag.String("lab", "test/lab/run", "the program that runs others in the lab")
	flag.Parse()
	if err := run(*build, *lab, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

// run tests the named servers, or all without names, and writes the table.
func run(build, lab string, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(servers, func(s server) bool { return s.name == name }) {
			return fmt.Errorf("there is no server %q: the servers are %s", name, strings.Join(serverNames(), ", "))
		}
	}
	results := filepath.Join(build, "servers")
	if err := os.MkdirAll(results, 0o755); err != nil {
		return err
	}
	var failed []string
	for _, s := range servers {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "servers:", s.name)
		if err := s.judge(build, results, lab); err != nil {
			fmt.Fprintf(os.Stderr, "servers: %s: %v\n", s.name, err)
			failed = append(failed, s.name)
		}
	}
	table, err := markdown(results)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(build, "servers.md"), []byte(table), 0o644); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("not as expected: %s; what each said is in %s", strings.Join(failed, ", "), results)
	}
	return nil
}

// judge runs TestServer in a guest for the server. Its output is kept beside the results.
func (s server) judge(build, results, lab string) error {
	log, err := os.Create(filepath.Join(results, s.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(lab, filepath.Join(build, "servers.test"), "-test.run", "^TestServer$", "-test.v", "-test.timeout", "60m")
	cmd.Env = append(os.Environ(), "MOORING_SERVER="+s.name, "MOORING_LAB_WRITE="+results,
		"MOORING_LAB_MEM="+s.memory(), "MOORING_LAB_TIMEOUT=3600", "MOORING_LAB_KERNEL=uml")
	cmd.Stdout, cmd.Stderr = log, log
	return cmd.Run()
}

func serverNames() (names []string) {
	for _, s := range servers {
		names = append(names, s.name)
	}
	return names
}
