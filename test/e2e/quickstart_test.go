// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var quickStart = regexp.MustCompile("(?s)## Install it in a cluster\n.*?```sh\n(helm install .*?)```")

// TestQuickStart runs the commands of README.md on a cluster without Mooring. It replaces only the address
// of the server and the image.
func TestQuickStart(t *testing.T) {
	uninstall(t, "--ignore-not-found")
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := quickStart.FindSubmatch(readme)
	if m == nil {
		t.Fatal("README.md has no quick start")
	}
	commands := strings.NewReplacer("10.0.0.200", nas, "/export/kubernetes", "/export",
		"registry.example.com/mooring", "docker.io/library/mooring", "image.tag=dev", "image.tag="+imageTag(t)).Replace(string(m[1]))
	t.Cleanup(func() {
		remove(t, "deployment-rwx.yaml")
		uninstall(t)
	})
	cmd := exec.Command("sh", "-ec", commands)
	cmd.Dir = "../.."
	cmd.Env = withCluster(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\nfails: %v\n%s", commands, err, out)
	}
	t.Logf("%s\n%s", commands, out)
	names, _ := pods(t, "app=shared")
	for _, name := range names {
		if !strings.Contains(string(out), name+"\n") {
			t.Errorf("the last command does not show what %s has written", name)
		}
	}
}
