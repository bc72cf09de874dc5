// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// claims makes a number of claims with a name and class, and deletes them when the test ends.
func claims(t *testing.T, name, class string, count int) {
	t.Helper()
	var all strings.Builder
	for i := range count {
		fmt.Fprintf(&all, `---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: %s-%d, labels: {made: %s}},
 spec: {storageClassName: %s, accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}}
`, name, i, name, class)
	}
	manifest(t, all.String())
	t.Cleanup(func() { _, _ = run("", "k", "delete", "pvc", "-l", "made="+name, "--timeout=5m") })
}

// manifest applies a manifest.
func manifest(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	// kubectl parses a manifest that begins with a brace as JSON.
	if err := os.WriteFile(file, []byte("---\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	k(t, "apply", "-f", file)
}

// phases counts the objects with a label in each phase.
func phases(t *testing.T, kind, label string) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, phase := range strings.Fields(k(t, "get", kind, "-l", label, "-o", "jsonpath={.items[*].status.phase}")) {
		found[phase]++
	}
	return found
}

// writers starts pods on each node that write a line to a claim of their own twice a second.
func writers(t *testing.T, name, class string, count int) []string {
	t.Helper()
	claims(t, name, class, count)
	var all strings.Builder
	var names []string
	for i := range count {
		pod := fmt.Sprintf("%s-%d", name, i)
		names = append(names, pod)
		fmt.Fprintf(&all, `---
{apiVersion: v1, kind: Pod, metadata: {name: %[1]s, labels: {made: %[2]s}},
 spec: {terminationGracePeriodSeconds: 1,
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {made: %[2]s}}}],
  containers: [{name: main, image: "busybox:1.37", volumeMounts: [{name: data, mountPath: /data}],
   command: [sh, -c, "set -e; while :; do date +%%s >> /data/log; sleep 0.5; done"]}],
  volumes: [{name: data, persistentVolumeClaim: {claimName: %[1]s}}]}}
`, pod, name)
	}
	manifest(t, all.String())
	t.Cleanup(func() { _, _ = run("", "k", "delete", "pod", "-l", "made="+name, "--timeout=5m") })
	for _, pod := range names {
		running(t, pod)
	}
	return names
}

// unharmed checks that pods were never restarted, and still write.
func unharmed(t *testing.T, pods []string) {
	t.Helper()
	for _, pod := range pods {
		if got := k(t, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.phase}"); got != "0 Running" {
			t.Errorf("%s: %s", pod, got)
		}
		before := in(t, pod, "wc -l < /data/log")
		eventually(t, pod+" writes", func() bool { return in(t, pod, "wc -l < /data/log") != before })
	}
}

// TestUpgrade upgrades the chart and rolls it back while pods write.
func TestUpgrade(t *testing.T) {
	pods := writers(t, "upgraded", managed, 4)
	mounts := func() string {
		return on(t, "node-1", "grep -c ' /var/lib/kubelet/pods/.* nfs4 ' /proc/self/mounts || true")
	}
	before := mounts()
	install(t, "logLevel=4", "node.extraArgs[0]=--max-volumes-per-node=50")
	unharmed(t, pods)
	if got := k(t, "get", "csinode", "node-1", "-o", "jsonpath={.spec.drivers[0].allocatable.count}"); got != "50" {
		t.Errorf("the upgrade has not come to the node: it takes %q volumes", got)
	}
	if _, err := run("", "helm", "rollback", "mooring", "-n", namespace, "--wait", "--timeout=5m"); err != nil {
		t.Fatal(err)
	}
	unharmed(t, pods)
	if after := mounts(); after != before {
		t.Errorf("%s mounts were %s", after, before)
	}
}

// TestControllerKilled provisions 50 volumes while controllers are killed.
func TestControllerKilled(t *testing.T) {
	claims(t, "killed", managed, 50)
	for range 4 {
		_, _ = run("", "k", "-n", namespace, "delete", "pod", "-l", "app.kubernetes.io/component=controller", "--grace-period=0", "--force")
		time.Sleep(4 * time.Second) // the next one is killed at any point of its work
	}
	eventually(t, "50 claims are bound", func() bool { return phases(t, "pvc", "made=killed")["Bound"] == 50 })
	// Without entries of killed controllers in .mooring/staging: another instance sweeps them an hour later.
	const count = "ls -d default-killed-* 2>/dev/null | wc -l; ls -d .mooring/claims/default-killed-* 2>/dev/null | wc -l; ls .mooring/volumes | wc -l"
	if got := server(t, count+"; ls .mooring/volumes/*/record.json | wc -l"); got != "50\n50\n50\n50" {
		t.Errorf("directories, claims, volumes and records are %q", got)
	}
	k(t, "delete", "pvc", "-l", "made=killed", "--timeout=5m")
	eventually(t, "all are gone", func() bool {
		return server(t, count) == "0\n0\n0"
	})
}

// TestNodeRestarted kills the node plugins while pods come and go.
func TestNodeRestarted(t *testing.T) {
	stay := writers(t, "stays", managed, 2)
	for round := range 3 {
		kill := make(chan error, 1)
		go func() {
			time.Sleep(time.Second) // some of the pods are published, others are not: which ones does not matter
			_, err := run("", "k", "-n", namespace, "delete", "pod", "-l", "app.kubernetes.io/component=node", "--grace-period=0", "--force")
			kill <- err
		}()
		name := fmt.Sprintf("comes-%d", round)
		unharmed(t, writers(t, name, managed, 4))
		if err := <-kill; err != nil {
			t.Error(err)
		}
		k(t, "delete", "pod", "-l", "made="+name, "--timeout=5m")
		k(t, "delete", "pvc", "-l", "made="+name, "--timeout=5m")
	}
	unharmed(t, stay)
	for _, node := range []string{"node-1", "node-2"} {
		eventually(t, "nothing is mounted twice on "+node, func() bool {
			return on(t, node, "awk '$3 == \"nfs4\" || $2 ~ /^.var.lib.kubelet./ {print $2}' /proc/self/mounts | sort | uniq -d") == ""
		})
		if got := on(t, node, "awk '$3 == \"nfs4\" && $2 ~ /comes/' /proc/self/mounts"); got != "" {
			t.Errorf("still mounted on %s: %s", node, got)
		}
	}
}

// started starts a pod with a volume, waits until it runs, deletes it, and returns the time until it ran.
func started(t *testing.T, pod, volume string) time.Duration {
	t.Helper()
	start := time.Now()
	manifest(t, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {terminationGracePeriodSeconds: 0,
 containers: [{name: main, image: "busybox:1.37", command: [sleep, infinity], volumeMounts: [{name: data, mountPath: /data}]}],
 volumes: [{name: data, %s}]}}`, pod, volume))
	running(t, pod)
	took := time.Since(start)
	k(t, "delete", "pod", pod)
	return took
}

// TestTimes measures from the claim to Bound, and from the pod to Running, also for a pod with a volume of
// kubelet's own NFS type, which nfs-subdir-external-provisioner makes.
func TestTimes(t *testing.T) {
	server(t, "mkdir -p plain")
	var binding, ours, kubelets []time.Duration
	for i := range 20 {
		name := fmt.Sprintf("timed-%d", i)
		start := time.Now()
		claims(t, name, managed, 1)
		eventually(t, "it is bound", func() bool { return bound(t, name+"-0") })
		binding = append(binding, time.Since(start))
		ours = append(ours, started(t, name, "persistentVolumeClaim: {claimName: "+name+"-0}"))
		kubelets = append(kubelets, started(t, "plain-"+name, "nfs: {server: "+nas+", path: /export/plain}"))
	}
	for _, times := range [][]time.Duration{binding, ours, kubelets} {
		slices.Sort(times)
	}
	start := time.Now()
	claims(t, "many", managed, 50)
	eventually(t, "50 claims are bound", func() bool { return phases(t, "pvc", "made=many")["Bound"] == 50 })
	t.Logf("medians of 20: claim to Bound %v; pod to Running %v, with kubelet's own NFS volume %v; 50 claims at once Bound after %v", binding[10], ours[10], kubelets[10], time.Since(start))
}

// nfs lists the NFS mounts of a node.
func nfs(t *testing.T, node string) string {
	t.Helper()
	return on(t, node, "awk '$3 ~ /^nfs/ && $2 !~ /^.proc/' /proc/self/mounts")
}

// TestUninstall comes last: nothing of the driver is left.
func TestUninstall(t *testing.T) {
	for _, node := range []string{"node-1", "node-2"} {
		eventually(t, "kubelet has let go of the volumes on "+node, func() bool { return nfs(t, node) == "" })
	}
	uninstall(t)
	for _, kind := range []string{"pods", "deployments", "daemonsets", "configmaps", "serviceaccounts", "roles", "rolebindings", "poddisruptionbudgets"} {
		eventually(t, kind+" are gone", func() bool {
			left := strings.Fields(k(t, "-n", namespace, "get", kind, "-o", "jsonpath={.items[*].metadata.name}"))
			return !slices.ContainsFunc(left, func(name string) bool { return name != "default" && name != "kube-root-ca.crt" })
		})
	}
	for _, kind := range []string{"clusterroles", "clusterrolebindings", "csidrivers", "storageclasses", "volumesnapshotclasses", "persistentvolumes"} {
		if got := k(t, "get", kind, "-o", "name"); strings.Contains(got, "mooring") || kind == "persistentvolumes" && got != "" {
			t.Errorf("%s are left: %s", kind, got)
		}
	}
	for _, node := range []string{"node-1", "node-2"} {
		eventually(t, node+" has forgotten the driver", func() bool { return !slices.Contains(drivers(t, node), driver) })
		if got := on(t, node, "ls /var/lib/kubelet/plugins_registry; awk '$2 ~ /^.var.lib.kubelet.plugins/' /proc/self/mounts") + nfs(t, node); got != "" {
			t.Errorf("on %s is left: %s", node, got)
		}
	}
}
