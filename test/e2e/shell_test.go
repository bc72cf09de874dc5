// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The documentation's server is 10.0.0.200, with /export/kubernetes. nas2.example.com has /tank/volumes.
const documented = "10.0.0.200"

// shell runs blocks of the documentation. Their addresses, paths and images exist as they are.
type shell struct {
	t      *testing.T
	dir    string // a clone of the repository
	env    []string
	blocks map[block]string
	out    map[block]string // of the blocks that were run
	handle string           // of a volume that was deleted
}

// TestShellBlocks runs the shell blocks of README and docs as they are, where a reader would. See replace for
// what differs.
func TestShellBlocks(t *testing.T) {
	clean(t)
	t.Cleanup(func() { clean(t) })
	s := newShell(t)
	monitoringResources(t)
	for _, session := range sessions {
		ok := t.Run(session.name, func(t *testing.T) {
			s.t = t
			if prepare := preparations[session.name]; prepare != nil {
				prepare(s)
			}
			for _, step := range session.steps {
				start := time.Now()
				s.out[step.block] = s.run(step)
				t.Logf("%s: %s: %v\n%s", step.page, step.first, time.Since(start).Round(time.Second), s.out[step.block])
			}
			if check := checks[session.name]; check != nil {
				check(s)
			}
		})
		if !ok {
			t.Fatal("the sessions after this one need what it does")
		}
	}
}

func newShell(t *testing.T) *shell {
	t.Helper()
	programs(t)
	s := &shell{t: t, env: withCluster(t), blocks: shellBlocks(t), out: map[block]string{}}
	// Not in /tmp, which the guests do not share, and new each time: they remember files.
	clone, err := filepath.Abs(root + "/build")
	if err == nil {
		err = os.MkdirAll(clone, 0o755)
	}
	if err == nil {
		clone, err = os.MkdirTemp(clone, "newcomer-")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.dir = clone + "/mooring"
	if _, err := run("", "in", "ip", "route", "replace", documented, "via", nas); err != nil {
		t.Fatal(err)
	}
	on(t, "nas", `set -e
ip addr replace `+documented+`/32 dev eth0
mkdir -p /nas/export/kubernetes /nas/export/tank/volumes /nas/tank
rm -rf /nas/export/kubernetes/* /nas/export/kubernetes/.mooring /nas/export/tank/volumes/* /nas/export/tank/volumes/.mooring
mountpoint -q /nas/tank || mount -n --bind /nas/export/tank /nas/tank
grep -q ^/tank /etc/exports || echo '/tank *(rw,sync,no_root_squash,no_subtree_check)' >>/etc/exports
exportfs -ra`)
	for _, node := range []string{"node-1", "node-2"} {
		on(t, node, onPath+"for name in mooring:dev mooring:dev2 mooring-server:dev; do ctr -n k8s.io images tag --force docker.io/library/${name%:*}:"+imageTag(t)+" registry.example.com/$name; done")
	}
	t.Cleanup(func() { _ = os.RemoveAll(clone) })
	return s
}

// clean removes Mooring and everything that the sessions make, after all of them or some.
func clean(t *testing.T) {
	t.Helper()
	for _, example := range []string{"deployment-rwx.yaml", "snapshot.yaml", "dynamic.yaml", "attributes.yaml"} {
		remove(t, example)
	}
	k(t, "delete", "--ignore-not-found", "--timeout=5m", "namespace", "shop")
	k(t, "delete", "--ignore-not-found", "storageclass", "kept", "local")
	k(t, "delete", "--ignore-not-found", "pv", "disk")
	uninstall(t, "--ignore-not-found")
	// After a failure, volumes are left whose share no longer exists.
	for _, pv := range strings.Fields(k(t, "get", "pv", "-o", "name")) {
		k(t, "patch", pv, "--type=merge", "-p", `{"metadata":{"finalizers":null},"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
		k(t, "delete", pv, "--timeout=5m", "--ignore-not-found")
	}
}

// onPath makes the node's programs of Kubernetes known, as on any node.
const onPath = `PATH=$(dirname "$(readlink "/proc/$(pidof containerd)/exe")"):$PATH; `

// programs puts programs in the PATH. The workstation has kubectl and helm already.
func programs(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	for name, script := range map[string]string{
		"sudo": `exec "$@"`,
		// Only in blocks that need more than Docker: the nodes have the images.
		"docker":     `echo "docker $*"`,
		"mooringctl": `exec kubectl -n mooring exec -i deploy/mooring-controller -c mooring -- mooringctl "$@"`,
		// For a command that ends only when it is told to.
		"stopped": `timeout 10 "$@" || [ $? = 124 ]`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plugin, err := filepath.Abs(root + "/deploy/kubectl-mooring")
	if err == nil {
		err = os.Symlink(plugin, filepath.Join(bin, "kubectl-mooring"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// replace fills in what differs for each reader: handles, names of objects, where the repository and the image are,
// the answer to a question, and the end of a command that never ends.
func (s *shell) replace(script string) string {
	pod := "mooring-node-abcde"
	if strings.Contains(script, pod) {
		pod = k(s.t, "-n", namespace, "get", "pods", "-l", "app.kubernetes.io/component=node", "-o", "jsonpath={.items[0].metadata.name}")
	}
	here, err := filepath.Abs(root)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.NewReplacer(
		"nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b", s.handle,
		"mooring-node-abcde", pod,
		"volumesnapshot my-snap ", "volumesnapshot my-pvc-monday ",
		"https://github.com/mooring-csi/mooring\n", here+" mooring\n",
		"build/image-amd64.tar", os.Getenv("MOORING_IMAGE"),
		"mooringctl jobs --watch", "stopped mooringctl jobs --watch",
		"trash purge ", "trash purge --yes ",
		"share forget ", "share forget --yes ",
	).Replace(script)
}

// run runs the block of a step, and returns its output.
func (s *shell) run(step step) string {
	s.t.Helper()
	script := s.replace(s.blocks[step.block])
	var out string
	var err error
	if step.at == workstation {
		out, err = s.atWorkstation(script)
	} else {
		out, err = s.inGuest(step, script)
	}
	// doctor exits with 1 because of a warning: the lab's server has a coarse clock.
	warned := strings.Contains(script, "doctor") && strings.Contains(out, "can be written") && !strings.Contains(out, "✗")
	if err != nil && !warned {
		s.t.Fatalf("%s: %v:\n%s\n%s", step.page, err, script, tail(out, 5000))
	}
	return out
}

// atWorkstation runs a script in the clone. Its variables are known to later scripts.
func (s *shell) atWorkstation(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	if strings.HasPrefix(script, "git clone") {
		s.dir = filepath.Dir(s.dir)
		defer func() { s.dir += "/mooring" }()
	}
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", "[ ! -f ../variables ] || . ../variables\n"+script+"\nset | grep ^volume= >../variables || true")
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// inGuest runs a script as root in a guest, in the clone. There, make has been called before.
func (s *shell) inGuest(step step, script string) (string, error) {
	script = "sudo() { \"$@\"; }\nmake() { [ -x build/mooring ]; }\n" + script
	run := "bash -e -o pipefail /tmp/block >/tmp/block.log 2>&1"
	if step.serves != "" {
		run = fmt.Sprintf("setsid %s & for _ in $(seq 120); do [ ! -S %[2]s ] || break; sleep 0.5; done; [ -S %[2]s ]", run, step.serves)
	}
	guest, path := "nas", ""
	if step.at == machine {
		guest, path = "node-1", onPath
	}
	compiler, err := exec.LookPath("go") // the guests do not have the host's PATH
	if err != nil {
		return "", err
	}
	out := on(s.t, guest, fmt.Sprintf(`%sexport PATH=%s/build:/usr/local/bin:%s:$PATH HOME=/root
cat >/tmp/block <<'BLOCK'
%s
BLOCK
cd %s
%s
status=$?
cat /tmp/block.log
echo status $status
`, path, s.dir, filepath.Dir(compiler), script, s.dir, run))
	if !strings.HasSuffix(out, "status 0") {
		return out, errors.New("it fails")
	}
	return out, nil
}

// preparations of sessions.
var preparations = map[string]func(s *shell){
	"quick start":           func(s *shell) { s.withoutNamespace() },
	"operation":             (*shell).volumes,
	"purge":                 func(s *shell) { s.deleteClaim("old") },
	"uninstall":             (*shell).deleteAll,
	"values":                func(s *shell) { s.withoutNamespace() },
	"copied share":          (*shell).copyShare,
	"emptied share":         (*shell).empty,
	"emptied share again":   (*shell).empty,
	"manifests":             func(s *shell) { uninstall(s.t, "--ignore-not-found"); s.withoutNamespace() },
	"chart":                 func(s *shell) { k(s.t, "delete", "-f", s.dir+"/mooring.yaml", "--timeout=5m") },
	"server in the cluster": (*shell).disk,
	"machine":               (*shell).program,
	"program":               (*shell).stopProgram,
	"file server":           (*shell).exports,
}

// checks after sessions.
var checks = map[string]func(s *shell){
	"quick start": func(s *shell) {
		names, _ := pods(s.t, "app=shared")
		out := s.out[helmInstall]
		if len(names) != 2 || !strings.Contains(out, names[0]+"\n") || !strings.Contains(out, names[1]+"\n") {
			s.t.Errorf("the last command does not show what %q have written: %s", names, out)
		}
	},
	"manifests": func(s *shell) {
		k(s.t, "-n", namespace, "rollout", "status", "deployment/mooring-controller", "--timeout=5m")
		k(s.t, "-n", namespace, "rollout", "status", "daemonset/mooring-node", "--timeout=5m")
	},
	"server in the cluster": (*shell).withoutServer,
	"program":               (*shell).stopProgram,
	"file server": func(s *shell) {
		if got := on(s.t, "nas", "exportfs -s"); !strings.Contains(got, "/export/kubernetes  10.0.0.0/24(") {
			s.t.Errorf("exported are\n%s", got)
		}
	},
}

func (s *shell) withoutNamespace() {
	k(s.t, "delete", "namespace", namespace, "--ignore-not-found", "--timeout=5m")
}

// volumes makes the claim shop/db, and shop/old, which is deleted and in the trash.
func (s *shell) volumes() {
	manifest(s.t, `---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: kept}, provisioner: `+driver+`, parameters: {share: nas1, trashRetention: 1h}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: db, namespace: shop}, spec: {storageClassName: kept, accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: old, namespace: shop}, spec: {storageClassName: kept, accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}}
`)
	k(s.t, "-n", "shop", "wait", "--for=jsonpath={.status.phase}=Bound", "pvc", "--all", "--timeout=5m")
	s.handle = "nas1/" + k(s.t, "-n", "shop", "get", "pvc", "old", "-o", "jsonpath={.spec.volumeName}")
	s.deleteClaim("old")
}

func (s *shell) deleteClaim(name string) {
	volume := k(s.t, "-n", "shop", "get", "pvc", name, "-o", "jsonpath={.spec.volumeName}")
	k(s.t, "-n", "shop", "delete", "pvc", name, "--timeout=5m")
	k(s.t, "wait", "--for=delete", "pv/"+volume, "--timeout=5m")
}

func (s *shell) deleteAll() {
	s.deleteClaim("db")
	k(s.t, "delete", "namespace", "shop", "--timeout=5m")
	k(s.t, "delete", "storageclass", "kept")
	remove(s.t, "deployment-rwx.yaml")
	eventually(s.t, "all volumes are deleted", func() bool { return k(s.t, "get", "pv", "-o", "name") == "" })
}

// copyShare makes the share nas2 a copy of nas1, and waits until the controllers know both: kubelet takes a minute
// to bring a new configuration to a pod.
func (s *shell) copyShare() {
	on(s.t, "nas", "cp -a /nas/export/kubernetes/.mooring /nas/tank/volumes/")
	eventually(s.t, "nas2 is known", func() bool {
		out, err := s.atWorkstation("mooringctl shares")
		return err == nil && strings.Contains(out, "nas2")
	})
}

// empty empties the share nas1.
func (s *shell) empty() {
	on(s.t, "nas", "rm -rf /nas/export/kubernetes/.mooring /nas/export/kubernetes/*")
}

// disk makes a disk for the server in the cluster, of the default class.
func (s *shell) disk() {
	uninstall(s.t, "--ignore-not-found")
	localDisk(s.t, "100Gi")
	manifest(s.t, `{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: kubernetes.io/no-provisioner}`)
}

func (s *shell) withoutServer() {
	k(s.t, "-n", namespace, "rollout", "status", "statefulset/mooring-server", "--timeout=5m")
	uninstall(s.t)
	k(s.t, "-n", namespace, "delete", "pvc", "--all", "--timeout=5m") // it stays by design
	k(s.t, "delete", "pv", "disk")
	k(s.t, "delete", "storageclass", "local")
	on(s.t, "node-1", "rm -rf /disk/served")
}

// program builds csi-sanity once on this machine: the guests have no network to get its modules.
func (s *shell) program() {
	s.stopProgram()
	on(s.t, "node-1", "rm -f /usr/local/bin/kubectl_complete-mooring")
	cmd := exec.Command("go", "build", "-o", s.t.TempDir(), "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

func (s *shell) stopProgram() {
	on(s.t, "node-1", "pkill -f '^build/mooring all'; for _ in $(seq 100); do pgrep -f '^build/mooring all' >/dev/null || break; sleep 0.1; done")
}

// exports shows the exports of the server where they are for the clients, and a volume db.
func (s *shell) exports() {
	on(s.t, "nas", "mkdir -p /export && { mountpoint -q /export || mount -n --bind /nas/export /export; }; mkdir -p /export/kubernetes/db")
}
