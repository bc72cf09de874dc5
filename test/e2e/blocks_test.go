// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// place is where a block of the documentation is run.
type place string

const (
	workstation place = "a workstation with kubectl and helm"
	machine     place = "a machine with an NFS client" // node-1
	fileServer  place = "the NFS server"
)

// block is a shell block of the documentation, by its page and its first line.
type block struct{ page, first string }

// step runs a block in a session.
type step struct {
	block
	at     place
	serves string // the socket of a program that the block starts and that stays; "": it ends
}

// runAt makes the steps that run blocks of a page at one place.
func runAt(at place, page string, firsts ...string) []step {
	var steps []step
	for _, first := range firsts {
		steps = append(steps, step{block: block{page, first}, at: at})
	}
	return steps
}

// notRun are the blocks that no test runs as they are, with the reason.
var notRun = map[block]string{
	{"README.md", "docker build -t registry.example.com/mooring:dev ."}:                                                                           needsDocker,
	{"docs/install.md", "docker build -t registry.example.com/mooring:dev ."}:                                                                     needsDocker,
	{"docs/install.md", "kubectl apply -k 'https://github.com/kubernetes-csi/external-snapshotter/client/config/crd?ref=v8.7.0'"}:                 "it downloads; the cluster has the same snapshot controller",
	{"docs/benchmarks.md", "make bench"}:                                                                                                          "it takes minutes; it is a test itself",
	{"docs/servers.md", "make servers                # all: hours"}:                                                                               "it takes hours; it is a test itself",
	{"docs/release.md", "make release VERSION=0.2.0"}:                                                                                             "make test-release makes a release",
	{"docs/release.md", "cosign verify-blob --key cosign.pub --bundle SHA256SUMS.sigstore.json SHA256SUMS"}:                                       "it needs a signed release; make test-release compares its files with SHA256SUMS",
	{"docs/configuration.md", "kubectl -n mooring port-forward deploy/mooring-controller 6060"}:                                                   "two commands that wait for a person",
	{"docs/distributions.md", "oc adm policy add-scc-to-user privileged -z mooring-node -z mooring-controller -n mooring"}:                        "it needs OpenShift",
	{"docs/kerberos.md", "klist -k /etc/krb5.keytab"}:                                                                                             "it needs Kerberos; make test-kerberos mounts in this way",
	{"docs/scale-out.md", `ceph nfs cluster create kubernetes "1 host1,host2" --ingress --virtual-ip 10.0.0.10/24 --ingress-mode keepalive-only`}: "it needs a Ceph cluster with cephadm",
	{"docs/scale-out.md", "ceph fs set cephfs session_timeout 30"}:                                                                                "it needs a Ceph cluster",
	{"docs/selinux.md", "helm upgrade mooring charts/mooring -n mooring --reset-then-reuse-values \\"}:                                            "it needs SELinux; make test-selinux mounts in this way",
}

const needsDocker = "it needs Docker and a registry; test/image/build makes the same image without them"

// helmInstall is the block of the front page that installs the driver and starts the first pods.
var helmInstall = block{"README.md", `helm install mooring charts/mooring -n mooring --create-namespace \`}

// sessions run blocks one after the other. Each finds what the one before it has left; shell_test.go prepares
// some of them by their name.
var sessions = []struct {
	name  string
	steps []step
}{
	{"quick start", join(
		runAt(workstation, "README.md", "git clone https://github.com/mooring-csi/mooring"),
		runAt(machine, "README.md", "make build"),
		runAt(workstation, "docs/install.md", "kubectl create namespace mooring"),
		runAt(workstation, helmInstall.page, helmInstall.first),
		runAt(workstation, "docs/install.md", "kubectl -n mooring exec deploy/mooring-controller -c mooring -- mooringctl doctor"),
		runAt(workstation, "charts/mooring/README.md", "kubectl label --overwrite namespace mooring pod-security.kubernetes.io/enforce=privileged"),
	)},
	{"tutorial", join(
		runAt(workstation, "docs/tutorial.md", "kubectl apply -f deploy/examples/dynamic.yaml",
			`kubectl patch pvc my-pvc -p '{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}'`,
			"kubectl apply -f deploy/examples/snapshot.yaml"),
		runAt(workstation, "docs/errors.md", "kubectl describe pvc my-pvc              # Events: ProvisioningFailed, VolumeResizeFailed"),
		runAt(workstation, "docs/troubleshooting.md", "kubectl describe pvc my-pvc          # a claim that stays Pending"),
		runAt(workstation, "docs/operate.md", "kubectl label pvc my-pvc excluded_from_alerts=true"),
		runAt(workstation, "docs/tutorial.md", "kubectl apply -f deploy/examples/attributes.yaml",
			"kubectl delete -f deploy/examples/snapshot.yaml -f deploy/examples/dynamic.yaml -f deploy/examples/attributes.yaml"),
	)},
	{"operation", join(
		runAt(workstation, "docs/doctor.md", "mooringctl doctor                       # all registered shares",
			"kubectl -n mooring exec deploy/mooring-controller -c mooring -- mooringctl doctor",
			"kubectl -n mooring get pods -o wide -l app.kubernetes.io/component=node"),
		runAt(workstation, "docs/troubleshooting.md", "kubectl -n mooring exec deploy/mooring-controller -c mooring -- mooringctl doctor",
			"kubectl -n mooring get pods -o wide -l app.kubernetes.io/component=node",
			"mooringctl health            # a line per share: is it reachable and writable?"),
		runAt(workstation, "docs/distributions.md", "kubectl -n mooring exec daemonset/mooring-node -c mooring -- mooringctl doctor"),
		runAt(workstation, "docs/check.md", "kubectl mooring check                # all registered shares"),
		runAt(workstation, "docs/configuration.md", "mooringctl shares                       # after the first volume"),
		runAt(workstation, "docs/mooringctl.md", "kubectl mooring volumes",
			"kubectl mooring describe shop/db      # or the PersistentVolume, or the handle",
			"mooringctl check", "mooringctl doctor", "mooringctl health", "mooringctl shares",
			"mooringctl jobs --watch", "mooringctl volumes --share nas1 -n shop",
			"mooringctl describe nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b",
			"kubectl mooring trash list",
			"mooringctl trash restore nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b >volume.yaml"),
		runAt(workstation, "docs/operate.md", "kubectl -n mooring exec deploy/mooring-controller -c mooring -- mooringctl doctor",
			"kubectl mooring trash list"),
	)},
	{"purge", runAt(workstation, "docs/operate.md", "mooringctl trash purge nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b")},
	{"upgrade", join(
		runAt(workstation, "docs/operate.md", "helm upgrade mooring charts/mooring -n mooring --reset-then-reuse-values --set-string image.tag=dev2"),
		runAt(workstation, "docs/metrics.md", `helm upgrade mooring charts/mooring -n mooring --reset-then-reuse-values \`),
	)},
	{"uninstall", runAt(workstation, "docs/install.md", "helm uninstall mooring -n mooring")},
	{"values", join(
		runAt(workstation, "docs/install.md", `helm install mooring charts/mooring -n mooring --create-namespace \`,
			"cat > my.values <<'EOF'",
			`helm template mooring charts/mooring -n mooring -f my.values --set namespace.create=true \`,
			"helm template mooring charts/mooring -f my.values --set snapshots.enabled=true --kube-version 1.37.0 |"),
	)},
	{"copied share", join(
		runAt(workstation, "docs/operate.md", "mooringctl share reidentify nas2        # the copy, not the original"),
		runAt(workstation, "docs/mooringctl.md", "mooringctl share reidentify nas2"),
	)},
	{"emptied share", runAt(workstation, "docs/operate.md", "mooringctl share forget nas1")},
	{"emptied share again", runAt(workstation, "docs/mooringctl.md", "mooringctl share forget nas1")},
	{"manifests", runAt(workstation, "docs/install.md", `sed -e 's|ghcr.io/mooring-csi/mooring:.*|registry.example.com/mooring:dev|' \`)},
	{"chart", join(
		runAt(workstation, "docs/distributions.md", "kubectl create namespace mooring"),
		runAt(workstation, "charts/mooring/README.md", `helm install mooring charts/mooring -n mooring --create-namespace \`),
	)},
	{"server in the cluster", runAt(workstation, "docs/server.md", "docker build -t registry.example.com/mooring:dev .")},
	{"machine", join(
		runAt(machine, "docs/install.md", "make build", "ctr -n k8s.io images import build/image-amd64.tar"),
		runAt(machine, "docs/servers.md", "sudo mooringctl doctor --server 10.0.0.200 --path /export/kubernetes"),
		runAt(machine, "docs/mooringctl.md", "ln -s kubectl-mooring /usr/local/bin/kubectl_complete-mooring"),
		[]step{{block: block{"docs/tutorial.md", "make build"}, at: machine, serves: "/tmp/mooring.sock"}},
		runAt(machine, "docs/tutorial.md", `"$(test/lab/deps --go)" build -o build/ github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity`),
		runAt(machine, "docs/configuration.md", "mooring check config.yaml"),
		runAt(machine, "docs/mooringctl.md", "sudo mooringctl --config config.yaml volumes"),
	)},
	{"program", []step{{block: block{"docs/install.md", "make build #2"}, at: machine, serves: "/run/mooring/csi.sock"}}},
	{"file server", join(
		runAt(fileServer, "docs/install.md", `echo '/export/kubernetes  10.0.0.0/24(rw,sync,no_subtree_check,no_root_squash)' >>/etc/exports`),
		runAt(fileServer, "docs/operate.md", "xfs_io -c 'chproj 50' /export/kubernetes/db      # XFS; 50: the project of the share",
			"cd /export/kubernetes/.mooring"),
	)},
}

func join(all ...[]step) []step {
	var steps []step
	for _, s := range all {
		steps = append(steps, s...)
	}
	return steps
}

var shellBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")

// shellBlocks returns the shell blocks of README and docs. The second of a page with the same first line has
// " #2" there.
func shellBlocks(t *testing.T) map[block]string {
	t.Helper()
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[block]string{}
	for _, file := range append(files, root+"/README.md", root+"/charts/mooring/README.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page, _ := filepath.Rel(root, file)
		for _, m := range shellBlock.FindAllStringSubmatch(string(data), -1) {
			first, _, _ := strings.Cut(strings.TrimSpace(m[1]), "\n")
			b := block{page, first}
			if _, twice := all[b]; twice {
				b.first += " #2"
			}
			if _, thrice := all[b]; thrice {
				t.Fatalf("%s has three shell blocks that begin with %q", page, first)
			}
			all[b] = m[1]
		}
	}
	return all
}

// TestBlocks checks that each shell block is run by a session of TestShellBlocks, or has a reason not to be.
func TestBlocks(t *testing.T) {
	blocks := shellBlocks(t)
	known := map[block]bool{}
	add := func(b block) {
		if known[b] {
			t.Errorf("%s: the block that begins with %q is named twice", b.page, b.first)
		}
		known[b] = true
		if _, exists := blocks[b]; !exists {
			t.Errorf("%s has no shell block that begins with %q", b.page, b.first)
		}
	}
	for _, s := range sessions {
		for _, step := range s.steps {
			add(step.block)
		}
	}
	for b := range notRun {
		add(b)
	}
	for b := range blocks {
		if !known[b] {
			t.Errorf("%s: nothing runs the block that begins with %q: add it to a session, or to notRun with the reason", b.page, b.first)
		}
	}
}
