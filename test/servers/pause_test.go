// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/test/lab"
)

var pausedCases = regexp.MustCompile(`(?m)^ +\S+: (\d+) cases;`)

// paused stops each operation of pkg/share at its decisive step, has another machine take its place, and
// lets the first continue: TestPauseOnMounts of MOORING_SHARE_TEST. Both processes, and the check of the
// result, are different NFS clients. It writes to an empty directory of the server.
func paused(t *testing.T, g *guest, r try, out *result) {
	program := os.Getenv("MOORING_SHARE_TEST")
	if program == "" {
		t.Fatal("MOORING_SHARE_TEST does not say where the test of pkg/share is: run this by make servers")
	}
	path := g.share()
	var dirs []string
	for i, more := range []string{"lookupcache=none,noac", "lookupcache=positive", "lookupcache=positive"} {
		dir := t.TempDir()
		options := strings.Join([]string{"nosharecache,softerr,timeo=50,retrans=2", more, r.all()}, ",")
		if err := mountAs(fmt.Sprint("machine-", i), fmt.Sprintf("127.0.0.%d:%s", i+2, path), dir, options); err != nil {
			out.Broken = append(out.Broken, fmt.Sprintf("paused: %v", err))
			return
		}
		t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
		dirs = append(dirs, dir)
	}
	cmd := exec.Command(program, "-test.run", "^TestPauseOnMounts$", "-test.v", "-test.timeout", "20m")
	cmd.Env = append(os.Environ(), "MOORING_PAUSE="+strings.Join(dirs, ":"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		out.Broken = append(out.Broken, fmt.Sprintf("paused: %v: %s", err, failures(string(text))))
	}
	if m := pausedCases.FindStringSubmatch(string(text)); m != nil {
		out.Paused = m[1]
	}
	if n, _ := lab.Mounts(os.Getpid()); n > len(dirs) {
		out.Broken = append(out.Broken, fmt.Sprintf("paused: %d NFS mounts are left", n-len(dirs)))
	}
}

// failures returns the lines of a test's output that say what failed.
func failures(output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, "_test.go:") || strings.Contains(line, "--- FAIL") || strings.Contains(line, "panic:") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines[:min(len(lines), 20)], "; ")
}
