// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tested are the examples with their tests.
var tested = map[string]func(t *testing.T){
	"storageclass.yaml":     testClass,
	"dynamic.yaml":          testDynamic,
	"deployment-rwx.yaml":   testDeployment,
	"statefulset-web.yaml":  testWeb,
	"statefulset-etcd.yaml": testEtcd,
	"static-pv.yaml":        testStatic,
	"inline.yaml":           testInline,
	"snapshot.yaml":         testSnapshot,
	"clone.yaml":            testClone,
	"rwop.yaml":             testSinglePod,
	"archive.yaml":          testArchive,
	"attributes.yaml":       testAttributes,
	"rbac-reader.yaml":      testReader,
}

// TestExamples applies every file of deploy/examples.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		test := tested[name]
		if test == nil {
			t.Errorf("nothing tests %s", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			if name == "snapshot.yaml" || name == "clone.yaml" {
				apply(t, "dynamic.yaml") // the examples need its claim
				running(t, "my-pod")
				eventually(t, "it has written", func() bool { return in(t, "my-pod", "cat /data/file 2>/dev/null || true") != "" })
			}
			if name != "storageclass.yaml" {
				apply(t, name)
			}
			test(t)
		})
	}
}

// testClass compares the class with that of the chart, which replaces it.
func testClass(t *testing.T) {
	if got := k(t, "apply", "--dry-run=server", "-o", "jsonpath={.provisioner} {.parameters} {.reclaimPolicy} {.allowVolumeExpansion}", "-f", filepath.Join(examples, "storageclass.yaml")); got != driver+` {"share":"*"} Delete true` {
		t.Errorf("the class is %s", got)
	}
	if got, err := run("", "k", "diff", "-f", filepath.Join(examples, "storageclass.yaml")); err != nil && !strings.Contains(got, "last-applied") {
		t.Errorf("the chart's is another: %s, %v", got, err)
	}
}

func testDynamic(t *testing.T) {
	running(t, "my-pod")
	dir := directoryOf(t, "my-pvc")
	if got := server(t, "cat '"+dir+"/file'"); got != "written by my-pod" {
		t.Errorf("on the server there is %q", got)
	}
	k(t, "patch", "pvc", "my-pvc", "-p", `{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}`)
	eventually(t, "the claim has grown", func() bool {
		return k(t, "get", "pvc", "my-pvc", "-o", "jsonpath={.status.capacity.storage}") == "3Gi"
	})
	remove(t, "dynamic.yaml")
	gone(t, dir)
}

// pods returns the names of the pods with a label, and their nodes.
func pods(t *testing.T, label string) (names, nodes []string) {
	t.Helper()
	for line := range strings.Lines(k(t, "get", "pods", "-l", label, "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{"\n"}{end}`)) {
		name, node, _ := strings.Cut(strings.TrimSpace(line), " ")
		names, nodes = append(names, name), append(nodes, node)
	}
	return names, nodes
}

func testDeployment(t *testing.T) {
	k(t, "rollout", "status", "deploy/shared", "--timeout=5m")
	names, nodes := pods(t, "app=shared")
	if len(names) != 2 || nodes[0] == nodes[1] {
		t.Fatalf("the pods %q are on %q", names, nodes)
	}
	for _, name := range names {
		eventually(t, name+" sees what both have written", func() bool {
			who := strings.Fields(in(t, name, "cat /data/who"))
			return slices.Contains(who, names[0]) && slices.Contains(who, names[1])
		})
	}
	in(t, names[0], "echo across nodes > /data/news")
	if got := in(t, names[1], "ls /data >/dev/null; cat /data/news"); got != "across nodes" {
		t.Errorf("on the other node it reads %q", got)
	}
	dir := directoryOf(t, "shared")
	remove(t, "deployment-rwx.yaml")
	gone(t, dir)
}

// rolled waits until a StatefulSet has this number of ready pods.
func rolled(t *testing.T, set string, ready string) {
	t.Helper()
	eventually(t, set+" has "+ready+" pods", func() bool {
		return k(t, "get", "statefulset", set, "-o", "jsonpath={.status.readyReplicas}/{.status.replicas}") == ready+"/"+ready
	})
}

func testWeb(t *testing.T) {
	rolled(t, "web", "2")
	in(t, "web-1", "echo changed >> /www/index.html")
	k(t, "delete", "pod", "web-0", "web-1")
	rolled(t, "web", "2")
	for pod, want := range map[string]string{"web-0": "I am web-0", "web-1": "I am web-1\nchanged"} {
		if got := in(t, pod, "wget -qO- http://127.0.0.1/"); got != want {
			t.Errorf("%s serves %q, want %q", pod, got, want)
		}
	}
	k(t, "scale", "statefulset", "web", "--replicas=3")
	rolled(t, "web", "3")
	k(t, "scale", "statefulset", "web", "--replicas=1")
	rolled(t, "web", "1")
	k(t, "scale", "statefulset", "web", "--replicas=2")
	rolled(t, "web", "2")
	if got := in(t, "web-1", "cat /www/index.html"); got != "I am web-1\nchanged" {
		t.Errorf("after scaling down and up web-1 has %q", got)
	}
	dirs := []string{directoryOf(t, "www-web-0"), directoryOf(t, "www-web-1"), directoryOf(t, "www-web-2")}
	remove(t, "statefulset-web.yaml")
	k(t, "delete", "pvc", "www-web-0", "www-web-1", "www-web-2")
	for _, dir := range dirs {
		gone(t, dir)
	}
}

func testEtcd(t *testing.T) {
	rolled(t, "etcd", "3")
	call := func(pod, method, body string) string {
		return in(t, pod, "wget -qO- --post-data='"+body+"' http://127.0.0.1:2379/v3/kv/"+method)
	}
	call("etcd-0", "put", `{"key":"bW9vcmluZw==","value":"aG9sZHM="}`)
	k(t, "delete", "pod", "etcd-0")
	rolled(t, "etcd", "3")
	for _, pod := range []string{"etcd-0", "etcd-2"} {
		if got := call(pod, "range", `{"key":"bW9vcmluZw=="}`); !strings.Contains(got, "aG9sZHM=") {
			t.Errorf("%s says %s", pod, got)
		}
	}
	remove(t, "statefulset-etcd.yaml")
	k(t, "delete", "pvc", "data-etcd-0", "data-etcd-1", "data-etcd-2")
}

func testStatic(t *testing.T) {
	running(t, "archive")
	if got := in(t, "archive", "cat /archive/file; mount | grep ' /archive '"); !strings.HasPrefix(got, "kept\n") || !strings.Contains(got, "noatime") {
		t.Errorf("the pod sees %q", got)
	}
	remove(t, "static-pv.yaml")
	if got := server(t, "cat archive/list"); !strings.Contains(got, "file") {
		t.Errorf("with its volume went what is in the directory: %q", got)
	}
}

func testInline(t *testing.T) {
	running(t, "scratch")
	eventually(t, "the pod has copied", func() bool { return in(t, "scratch", "cat /scratch/one 2>/dev/null || true") == "a model" })
	if out, err := run("", "k", "exec", "scratch", "--", "sh", "-c", "echo new > /models/two"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		t.Errorf("it can write where it may only read: %q, %v", out, err)
	}
	if got := server(t, "ls .mooring/inline"); strings.Count(got, "\n") != 0 || got == "" {
		t.Errorf("there are for pods: %q", got)
	}
	remove(t, "inline.yaml")
	if got := server(t, "ls .mooring/inline; cat models/one"); got != "a model" {
		t.Errorf("afterwards there is %q", got)
	}
}

func testSnapshot(t *testing.T) {
	eventually(t, "the snapshot is ready", func() bool {
		return k(t, "get", "volumesnapshot", "my-pvc-monday", "-o", "jsonpath={.status.readyToUse}") == "true"
	})
	in(t, "my-pod", "echo spoilt > /data/file")
	running(t, "restored")
	if got := in(t, "restored", "cat /data/file"); got != "written by my-pod" {
		t.Errorf("restored is %q", got)
	}
	remove(t, "snapshot.yaml")
	if got := server(t, "ls .mooring/snapshots"); got != "" {
		t.Errorf("snapshots are left: %q", got)
	}
}

func testClone(t *testing.T) {
	running(t, "clone")
	if got := in(t, "clone", "cat /data/file"); got != "written by my-pod" {
		t.Errorf("the clone has %q", got)
	}
}

// testSinglePod works for either order of scheduling of the two pods.
func testSinglePod(t *testing.T) {
	phase := func(pod string) string { return k(t, "get", "pod", pod, "-o", "jsonpath={.status.phase}") }
	has, waits := "single-first", "single-second"
	eventually(t, "one of the two pods runs", func() bool {
		if phase(waits) == "Running" {
			has, waits = waits, has
		}
		return phase(has) == "Running"
	})
	time.Sleep(5 * time.Second) // the other pod must not start; the scheduler would start it at once
	if got := phase(waits); got != "Pending" {
		t.Errorf("the other pod, %s, is %s", waits, got)
	}
	k(t, "delete", "pod", has)
	running(t, waits)
}

func testArchive(t *testing.T) {
	eventually(t, "the claim is bound", func() bool { return bound(t, "valuable") })
	server(t, "echo gold > default-valuable/treasure")
	remove(t, "archive.yaml")
	eventually(t, "the directory is archived", func() bool { return server(t, "cat archived-default-valuable/treasure 2>/dev/null || true") == "gold" })
	server(t, "rm -r archived-default-valuable")
}

func bound(t *testing.T, claim string) bool {
	t.Helper()
	return k(t, "get", "pvc", claim, "-o", "jsonpath={.status.phase}") == "Bound"
}

func testAttributes(t *testing.T) {
	eventually(t, "the claim is bound", func() bool { return bound(t, "kept") })
	volume := k(t, "get", "pvc", "kept", "-o", "jsonpath={.spec.volumeName}")
	if got := k(t, "get", "pv", volume, "-o", "jsonpath={.spec.volumeAttributesClassName}"); got != "keep-for-a-week" {
		t.Errorf("the volume's class is %q", got)
	}
	if got := server(t, "cat .mooring/volumes/"+volume+"/record.json"); !strings.Contains(got, "168h") && !strings.Contains(got, "604800") {
		t.Errorf("the record is %s", got)
	}
	remove(t, "attributes.yaml")
	if got := server(t, "ls .mooring/trash | grep -c "+volume); got == "0" {
		t.Error("it is not in the trash")
	}
}

func testReader(t *testing.T) {
	for question, want := range map[string]string{"list pods": "yes", "get pods": "yes", "delete pods": "no", "list secrets": "no", "list pods -n kube-system": "no", "create pods": "no"} {
		args := append([]string{"k", "auth", "can-i", "--as=system:serviceaccount:default:reader"}, strings.Fields(question)...)
		if got, _ := run("", args...); got != want { // "no" is an error, too
			t.Errorf("the reader may %s: %q", question, got)
		}
	}
	if out, err := run("", "k", "get", "pods", "--as=system:serviceaccount:default:reader"); err != nil {
		t.Errorf("the reader cannot read pods: %q, %v", out, err)
	}
}
