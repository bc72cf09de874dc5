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

var quickStart = regexp.MustCompile("(?s)### In Kubernetes\n.*?```sh\n(helm install .*?)```")

// TestQuickStart does what README.md says, as it stands there, with the address of this server and
// the image that was built: on a cluster without Mooring.
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
	commands := strings.NewReplacer("10.0.0.200", nas, "/export/kubernetes", "/export").Replace(string(m[1]))
	commands = strings.Replace(commands, "--create-namespace", "--create-namespace --set-string image.repository=docker.io/library/mooring,image.tag="+imageTag(t), 1)
	// What a user does between the second and the third: wait.
	commands = strings.Replace(commands, "kubectl exec", "kubectl rollout status deploy/shared --timeout=5m >&2\nkubectl exec", 1)
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
