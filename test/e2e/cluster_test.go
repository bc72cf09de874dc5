// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e tests the image, the chart and the examples on the cluster of "cluster up". The tests run in
// the order of their files, and share the cluster but no volumes.
package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	namespace = "mooring"
	driver    = "nfs.csi.mooring.dev"
	nas       = "10.89.0.9"
	managed   = "managed-nfs-storage"
	examples  = "../../deploy/examples"
)

// run runs the script cluster, with input on its standard input.
func run(input string, args ...string) (string, error) {
	cmd := exec.Command("./cluster", args...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("cluster %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// k runs kubectl, and fails the test if that fails.
func k(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run("", append([]string{"k"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// on runs a script as root in a guest.
func on(t *testing.T, guest, script string) string {
	t.Helper()
	out, err := run(script, "sh", guest)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withCluster returns an environment in which kubectl and helm are this cluster's.
func withCluster(t *testing.T) []string {
	t.Helper()
	cluster, err := filepath.Abs("cluster")
	if err != nil {
		t.Fatal(err)
	}
	bin, path := t.TempDir(), os.Getenv("PATH")
	for program, as := range map[string]string{"helm": "helm", "kubectl": "k"} {
		// With the original PATH: cluster must find the real program, and not this one.
		script := fmt.Sprintf("#!/bin/sh\nPATH='%s' exec %s %s \"$@\"\n", path, cluster, as)
		if err := os.WriteFile(filepath.Join(bin, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return append(os.Environ(), "PATH="+bin+":"+path)
}

// server runs a script on the NFS server, in the export.
func server(t *testing.T, script string) string {
	t.Helper()
	return on(t, "nas", "cd /nas/export; "+script)
}

// waitTimeout is the timeout for what must happen, no matter how soon: the machine may be slow or busy.
const waitTimeout = 5 * time.Minute

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(waitTimeout); !done(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			out, _ := run("", "k", "get", "events", "--sort-by=.lastTimestamp")
			t.Fatalf("not after %v: %s; the events are\n%s", waitTimeout, what, tail(out, 3000))
		}
	}
}

func tail(s string, most int) string { return s[max(0, len(s)-most):] }

// apply applies an example, and deletes it when the test ends.
func apply(t *testing.T, example string) {
	t.Helper()
	file := filepath.Join(examples, example)
	k(t, "apply", "-f", file)
	t.Cleanup(func() { remove(t, example) })
}

// remove deletes an example, except the class that the chart has made.
func remove(t *testing.T, example string) {
	t.Helper()
	if _, err := run("", "k", "delete", "--ignore-not-found", "--timeout=5m", "-f", filepath.Join(examples, example)); err != nil {
		t.Error(err)
	}
}

// running waits until a pod runs.
func running(t *testing.T, pod string) {
	t.Helper()
	eventually(t, pod+" runs", func() bool {
		out, err := run("", "k", "get", "pod", pod, "-o", "jsonpath={.status.phase} {.metadata.deletionTimestamp}")
		return err == nil && out == "Running"
	})
}

// in runs a shell script in a pod.
func in(t *testing.T, pod, script string) string {
	t.Helper()
	return k(t, "exec", pod, "--", "sh", "-c", script)
}

// directoryOf returns the directory of a claim's volume on the share.
func directoryOf(t *testing.T, claim string) string {
	t.Helper()
	volume := k(t, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
	return k(t, "get", "pv", volume, "-o", "jsonpath={.spec.csi.volumeAttributes.subDir}")
}

// gone waits until a name does not exist on the share.
func gone(t *testing.T, path string) {
	t.Helper()
	eventually(t, path+" is gone from the server", func() bool { return server(t, "ls -d '"+path+"' 2>/dev/null || true") == "" })
}

// imageTag returns the tag of the image on the nodes.
func imageTag(t *testing.T) string {
	t.Helper()
	archive, err := exec.Command("tar", "-xOf", os.Getenv("MOORING_IMAGE"), "manifest.json").Output()
	if err != nil {
		t.Fatal("MOORING_IMAGE is to be an archive of the image: ", err)
	}
	return string(regexp.MustCompile(`"RepoTags":\["[^"]*:([^":]+)"`).FindSubmatch(archive)[1])
}

// uninstall uninstalls the chart and waits until everything of it is gone.
func uninstall(t *testing.T, flags ...string) {
	t.Helper()
	if _, err := run("", append([]string{"helm", "uninstall", "mooring", "-n", namespace, "--wait", "--timeout=5m"}, flags...)...); err != nil {
		t.Fatal(err)
	}
}

// install installs the chart, or upgrades it, with more values.
func install(t *testing.T, values ...string) {
	t.Helper()
	args := []string{
		"helm", "upgrade", "--install", "mooring", "../../charts/mooring", "-n", namespace, "--create-namespace", "--wait", "--timeout=5m",
		"--set", "image.repository=docker.io/library/mooring",
		"--set-string", "image.tag=" + imageTag(t), // may have only digits
		"--set", "shares[0].name=nas1,shares[0].servers[0]=" + nas + ",shares[0].path=/export,shares[0].inline=true",
	}
	for _, v := range values {
		args = append(args, "--set", v)
	}
	if _, err := run("", args...); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"node-1", "node-2"} {
		eventually(t, "the driver is registered on "+node, func() bool { return slices.Contains(drivers(t, node), driver) })
	}
}

func drivers(t *testing.T, node string) []string {
	t.Helper()
	return strings.Fields(k(t, "get", "csinode", node, "-o", "jsonpath={.spec.drivers[*].name}"))
}

// TestInstall loads the image on the nodes, and installs the chart.
func TestInstall(t *testing.T) {
	if _, err := run("", "load", os.Getenv("MOORING_IMAGE"), os.Getenv("MOORING_SERVER")); err != nil {
		t.Fatal(err)
	}
	server(t, "mkdir -p models archive; echo a model > models/one; echo kept > archive/file; chmod 777 archive")
	install(t)
	if got := k(t, "get", "storageclass", managed, "-o", "jsonpath={.provisioner}"); got != driver {
		t.Errorf("the class is %q's", got)
	}
}
