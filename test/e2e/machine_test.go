// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// TestOneMachine runs a pod on the machine of the active controller, and checks that snapshots and clones
// have everything that the pod has written. A server recalls no delegation because of the same client's
// changes, and all NFS mounts of a machine are one client unless they are separated.
func TestOneMachine(t *testing.T) {
	t.Run("pods never list", func(t *testing.T) { oneMachine(t, "quiet", ":") })
	t.Run("pods list first", func(t *testing.T) { oneMachine(t, "lists", "ls /data /data/q >&2") })
}

// machines are pods, one on each node, so that one is beside the controller. Each has a claim with its
// name, which no other pod mounts. All write the same.
type machines struct {
	t       *testing.T
	label   string // of all that is made
	pods    []string
	before  string            // script of the pods before each write
	written map[string]string // contents by name
	copies  int
}

func oneMachine(t *testing.T, label, before string) {
	t.Helper()
	m := &machines{t: t, label: label, pods: []string{label + "-0", label + "-1"}, before: before, written: map[string]string{}}
	claims(t, label, managed, len(m.pods))
	m.make(`{apiVersion: v1, kind: Pod, metadata: {name: NAME, labels: {made: LABEL}}, spec: {terminationGracePeriodSeconds: 0,
 topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {made: LABEL}}}],
 containers: [{name: main, image: "busybox:1.37", command: [sleep, infinity], volumeMounts: [{name: data, mountPath: /data}]}],
 volumes: [{name: data, persistentVolumeClaim: {claimName: NAME}}]}}`, m.pods, nil)
	t.Cleanup(func() { _, _ = run("", "k", "delete", "pod,volumesnapshot", "-l", "made="+label, "--timeout=5m") })
	for _, pod := range m.pods {
		running(t, pod)
	}
	if _, nodes := pods(t, "made="+label); len(nodes) != 2 || nodes[0] == nodes[1] {
		t.Fatalf("the pods are on %q", nodes)
	}

	m.do("mkdir /data/q")
	for i := range 4 {
		m.write(fmt.Sprint("q/n", i), fmt.Sprintf("%d\n", i), 1)
		m.snapshot()
	}
	m.do("mv /data/q/n0 /data/q/renamed; rm /data/q/n1; mkdir /data/q/below")
	m.written["q/renamed"] = m.written["q/n0"]
	delete(m.written, "q/n0")
	delete(m.written, "q/n1")
	m.write("q/below/n", "deep\n", 1)
	m.claim("{kind: PersistentVolumeClaim, name: SOURCE}", m.pods)
	var snapshots []string
	for i := range 2 {
		m.write("large", fmt.Sprintf("%07d\n", i), 2<<20)
		snapshots = m.snapshot()
	}
	m.do("rm -r /data/q; echo 3 > /data/large")
	m.claim("{apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: SOURCE}", snapshots)

	var dirs []string
	for _, pod := range m.pods {
		dirs = append(dirs, directoryOf(t, pod))
	}
	k(t, "delete", "pod,pvc,volumesnapshot", "-l", "made="+label, "--timeout=5m")
	for _, dir := range dirs {
		gone(t, dir)
	}
}

// do runs a script in each pod.
func (m *machines) do(script string) {
	m.t.Helper()
	for _, pod := range m.pods {
		in(m.t, pod, "set -e; "+script)
	}
}

// write only writes a file of equal lines in place in each pod, and closes it.
func (m *machines) write(name, line string, lines int) {
	m.t.Helper()
	m.do(fmt.Sprintf("yes '%s' | head -n %d > /tmp/new; %s; dd if=/tmp/new of=/data/%s bs=1M conv=notrunc", strings.TrimSpace(line), lines, m.before, name))
	m.written[name] = strings.Repeat(line, lines)
}

// make makes an object of each name. SOURCE in the template is that of the sources.
func (m *machines) make(template string, names, sources []string) {
	m.t.Helper()
	var all strings.Builder
	for i, name := range names {
		replace := []string{"NAME", name, "LABEL", m.label}
		if sources != nil {
			replace = append(replace, "SOURCE", sources[i])
		}
		all.WriteString("---\n" + strings.NewReplacer(replace...).Replace(template) + "\n")
	}
	manifest(m.t, all.String())
}

// names returns names for the next copies of the pods' claims.
func (m *machines) names() (names []string) {
	m.copies++
	for i := range m.pods {
		names = append(names, fmt.Sprintf("%s-copy-%d-%d", m.label, m.copies, i))
	}
	return names
}

// snapshot makes a snapshot of each pod's claim, compares it, and returns the names.
func (m *machines) snapshot() []string {
	t, names := m.t, m.names()
	t.Helper()
	m.make(`{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {name: NAME, labels: {made: LABEL}},
 spec: {volumeSnapshotClassName: mooring, source: {persistentVolumeClaimName: SOURCE}}}`, names, m.pods)
	for _, name := range names {
		eventually(t, name+" is ready", func() bool {
			return k(t, "get", "volumesnapshot", name, "-o", "jsonpath={.status.readyToUse}") == "true"
		})
		content := k(t, "get", "volumesnapshot", name, "-o", "jsonpath={.status.boundVolumeSnapshotContentName}")
		handle := k(t, "get", "volumesnapshotcontent", content, "-o", "jsonpath={.status.snapshotHandle}")
		m.compare(name, ".mooring/snapshots/"+path.Base(handle)+"/data")
	}
	return names
}

// claim makes a claim of each source, and compares it.
func (m *machines) claim(source string, sources []string) {
	t, names := m.t, m.names()
	t.Helper()
	m.make(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: NAME, labels: {made: LABEL}},
 spec: {storageClassName: `+managed+`, accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}, dataSource: `+source+`}}`, names, sources)
	for _, name := range names {
		eventually(t, name+" is bound", func() bool { return bound(t, name) })
		m.compare(name, directoryOf(t, name))
	}
}

// compare compares a copy on the server with what the pods have written.
func (m *machines) compare(name, dir string) {
	m.t.Helper()
	var want []string
	for file, content := range m.written {
		want = append(want, fmt.Sprintf("%s %x", file, sha256.Sum256([]byte(content))))
	}
	slices.Sort(want)
	got := strings.Split(server(m.t, "cd '"+dir+"' && find . -type f -printf '%P\\n' | while read -r file; do echo $file $(sha256sum <$file | cut -d ' ' -f 1); done"), "\n")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		m.t.Errorf("%s has\n%s\nand the pods have written\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
