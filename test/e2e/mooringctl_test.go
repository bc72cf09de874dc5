// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// plugin runs "kubectl mooring", with this cluster's kubectl in the PATH.
func plugin(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.Command("../../deploy/kubectl-mooring", args...)
	cmd.Env = withCluster(t)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestPlugin lists volumes as an operator, and restores a deleted claim.
func TestPlugin(t *testing.T) {
	for _, where := range []string{"controller", "kubelet"} {
		t.Run("the shares are mounted by "+where, func(t *testing.T) {
			install(t, "controller.mountShares="+where)
			testPlugin(t, where)
		})
	}
	install(t)
}

func testPlugin(t *testing.T, where string) {
	var exit *exec.ExitError
	// A warning is not a failure: the server of the lab loses times.
	if out, errs, err := plugin(t, "doctor"); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) || !strings.Contains(out, "✓ can be written") || strings.Contains(out, "✗") {
		t.Errorf("doctor: %v\n%s%s", err, out, errs)
	}
	class, claim := "binned-"+where, "binned-"+where+"-0"
	manifest(t, fmt.Sprintf(`{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: %s}, provisioner: %s, parameters: {share: nas1, trashRetention: 1h}}`, class, driver))
	t.Cleanup(func() { k(t, "delete", "storageclass", class) })
	pod := writers(t, class, class, 1)[0]
	eventually(t, "it has written", func() bool { return in(t, pod, "wc -l < /data/log 2>/dev/null || true") != "0" })
	first := in(t, pod, "head -n 1 /data/log")
	if out, errs, err := plugin(t, "volumes", "-n", "default"); err != nil || !strings.Contains(out, claim) {
		t.Errorf("volumes: %v\n%s%s", err, out, errs)
	}
	k(t, "delete", "pod", pod)
	volume := k(t, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
	k(t, "delete", "pvc", claim)
	eventually(t, "it is in the trash", func() bool {
		out, errs, err := plugin(t, "trash", "list")
		if err != nil {
			t.Fatalf("trash list: %v\n%s%s", err, out, errs)
		}
		return strings.Contains(out, volume)
	})
	eventually(t, "the PersistentVolume is gone", func() bool { return k(t, "get", "pv", volume, "--ignore-not-found") == "" })
	out, errs, err := plugin(t, "trash", "restore", "nas1/"+volume)
	if err != nil {
		t.Fatalf("trash restore: %v\n%s%s", err, out, errs)
	}
	manifest(t, out)
	eventually(t, "the claim is bound again", func() bool { return bound(t, claim) })
	k(t, "run", pod, "--image=busybox:1.37", "--restart=Never", "--labels=made="+class, "--overrides", fmt.Sprintf(
		`{"spec":{"containers":[{"name":"main","image":"busybox:1.37","command":["sleep","infinity"],"volumeMounts":[{"name":"data","mountPath":"/data"}]}],
		"terminationGracePeriodSeconds":1,"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":%q}}]}}`, claim))
	running(t, pod)
	if got := in(t, pod, "head -n 1 /data/log"); got != first {
		t.Errorf("what was brought back begins with %q, and not %q", got, first)
	}
	if out, errs, err := plugin(t, "orphans"); err != nil || strings.Contains(out, volume) {
		t.Errorf("orphans: %v\n%s%s", err, out, errs)
	}
	k(t, "delete", "pod", pod)
	k(t, "delete", "pvc", claim) // the provisioner deletes the PersistentVolume, as before
	eventually(t, "it is deleted again", func() bool { return k(t, "get", "pv", volume, "--ignore-not-found") == "" })
	if out, errs, err := plugin(t, "trash", "purge", "--yes", "--all"); err != nil {
		t.Errorf("trash purge: %v\n%s%s", err, out, errs)
	}
	if out, errs, err := plugin(t, "trash", "list"); err != nil || strings.Contains(out, volume) {
		t.Errorf("trash list: %v\n%s%s", err, out, errs)
	}
}
