// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestKubeletMounts uses a controller without the right to mount: kubelet mounts the shares.
func TestKubeletMounts(t *testing.T) {
	install(t, "controller.mountShares=kubelet")
	t.Cleanup(func() { install(t) })
	eventually(t, "no controller is there that can mount", func() bool {
		got := k(t, "-n", namespace, "get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "jsonpath={.items[*].spec.containers[0].securityContext.capabilities.add}")
		return got != "" && !strings.Contains(got, "SYS_ADMIN")
	})
	apply(t, "dynamic.yaml")
	running(t, "my-pod")
	eventually(t, "it has written", func() bool { return in(t, "my-pod", "cat /data/file 2>/dev/null || true") != "" })
	in(t, "my-pod", "echo another > /data/theirs; chown 1234:5678 /data/theirs; chmod 400 /data/theirs")
	dir := directoryOf(t, "my-pvc")
	apply(t, "clone.yaml")
	running(t, "clone")
	if got := in(t, "clone", "cat /data/file /data/theirs; stat -c '%u:%g %a' /data/theirs"); got != "written by my-pod\nanother\n1234:5678 400" {
		t.Errorf("the clone has %q", got)
	}
	remove(t, "clone.yaml")
	remove(t, "dynamic.yaml")
	gone(t, dir)
	t.Run("beside pods", func(t *testing.T) { oneMachine(t, "given", ":") })
}

// TestSnapshotController has the chart install the snapshot-controller, in place of the cluster's own.
func TestSnapshotController(t *testing.T) {
	t.Cleanup(func() {
		if _, err := run("", "snapshots", "on"); err != nil {
			t.Error(err)
		}
	})
	if _, err := run("", "snapshots", "off"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { install(t) })
	install(t, "snapshotController.enabled=true")
	apply(t, "dynamic.yaml")
	running(t, "my-pod")
	eventually(t, "it has written", func() bool { return in(t, "my-pod", "cat /data/file 2>/dev/null || true") != "" })
	apply(t, "snapshot.yaml")
	running(t, "restored")
	if got := in(t, "restored", "cat /data/file"); got != "written by my-pod" {
		t.Errorf("the restored claim has %q", got)
	}
	remove(t, "snapshot.yaml")
	eventually(t, "the snapshot is deleted", func() bool { return server(t, "ls .mooring/snapshots") == "" })
}

// localDisk makes the PersistentVolume "disk" of the class "local", for the server: the directory /disk/served of
// node-1.
func localDisk(t *testing.T, size string) {
	t.Helper()
	on(t, "node-1", "mkdir -p /disk/served")
	manifest(t, `{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {
 capacity: {storage: `+size+`}, accessModes: [ReadWriteOnce], storageClassName: local, persistentVolumeReclaimPolicy: Retain, local: {path: /disk/served},
 nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-1]}]}]}}}}
`)
}

// TestServer runs an NFS server in the cluster, and deletes its pod while others write.
func TestServer(t *testing.T) {
	localDisk(t, "6Gi")
	manifest(t, `{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: embedded}, provisioner: `+driver+`, parameters: {share: embedded}}`)
	t.Cleanup(func() {
		install(t)
		for _, args := range [][]string{{"-n", namespace, "pvc", "mooring-server"}, {"pv", "disk"}, {"storageclass", "embedded"}} {
			k(t, append([]string{"delete", "--timeout=5m"}, args...)...)
		}
		if got := on(t, "node-1", "cd /disk/served && find . -path ./export/.mooring -prune -o -print | grep -c served-; rm -rf /disk/served"); got != "0" {
			t.Errorf("%s volumes are left on the disk", got)
		}
	})
	install(t, "server.enabled=true", "server.image.repository=docker.io/library/mooring-server", "server.storage.storageClassName=local", "server.storage.size=5Gi")
	pods := writers(t, "served", "embedded", 4)
	if got := on(t, "node-1", "ls /disk/served/export | grep -c served"); got != "4" {
		t.Errorf("%s volumes are on the disk", got)
	}
	k(t, "-n", namespace, "delete", "pod", "mooring-server-0", "--timeout=5m")
	k(t, "-n", namespace, "rollout", "status", "statefulset/mooring-server", "--timeout=5m")
	start := time.Now()
	unharmed(t, pods)
	t.Logf("all write again %v after the server is ready again", time.Since(start).Round(time.Second))
	k(t, "delete", "pod", "-l", "made=served", "--timeout=5m")
	k(t, "delete", "pvc", "-l", "made=served", "--timeout=5m")
}
