// SPDX-License-Identifier: Apache-2.0

// Package chart tests the Helm chart, and the files that are generated from it, without a cluster.
package chart

import (
	"cmp"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the generated files: golden files, deploy/kubernetes.yaml and the table of values")

const (
	root  = "../.."
	where = root + "/charts/mooring"
	// one has the values of the quick start: one server.
	one = "share: {server: 10.0.0.200, path: /export/kubernetes}\n"
)

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(where)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loaded is the chart for renders, which do not change it.
var loaded = sync.OnceValues(func() (*chart.Chart, error) { return loader.Load(where) })

// tryRender renders the chart as release of a namespace, with values written in YAML.
func tryRender(t *testing.T, release, values string) (map[string]string, error) {
	t.Helper()
	var given map[string]any
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"}
	capabilities.APIVersions = append(capabilities.APIVersions, "snapshot.storage.k8s.io/v1")
	c, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: release, Namespace: "mooring", IsInstall: true, Revision: 1}, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// render returns the rendered documents, sorted by their template's name.
func render(t *testing.T, release, values string) string {
	t.Helper()
	files, err := tryRender(t, release, values)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if text := strings.TrimSpace(files[name]); strings.HasSuffix(name, ".yaml") && text != "" {
			all.WriteString("---\n" + strings.TrimSpace(strings.TrimPrefix(text, "---")) + "\n")
		}
	}
	return all.String()
}

// documents splits rendered text.
func documents(text string) []string {
	var all []string
	for _, d := range strings.Split("\n"+text, "\n---\n") {
		if strings.TrimSpace(d) != "" {
			all = append(all, d)
		}
	}
	return all
}

// sets returns the sets of values in testdata, by name.
func sets(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string]string{}
	for _, file := range files {
		all[strings.TrimSuffix(filepath.Base(file), ".values.yaml")] = read(t, file)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// same compares a file with its wanted content, or writes it.
func same(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := read(t, file); got != want {
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("%s is out of date (make manifests): line %d is %q, and should be %q", file, i+1, g[i], w[i])
			}
		}
		t.Fatalf("%s is out of date (make manifests): it has %d lines, and should have %d", file, len(g), len(w))
	}
}

func TestLint(t *testing.T) {
	for name, values := range sets(t) {
		var given map[string]any
		if err := yaml.Unmarshal([]byte(values), &given); err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.AllWithKubeVersion(where, given, "mooring", &chartutil.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"}).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", name, m)
			}
		}
	}
}

func TestGolden(t *testing.T) {
	for name, values := range sets(t) {
		same(t, "testdata/"+name+".golden.yaml", render(t, "mooring", values))
	}
}

// TestManifests compares deploy/kubernetes.yaml with the chart.
func TestManifests(t *testing.T) {
	head := `# Mooring without Helm, made from the chart by "make manifests". Change two things before you apply it:
# the image of the containers called mooring (none is published yet: build and push your own), and
# the server and its path in the ConfigMap.
#
#   kubectl apply -f kubernetes.yaml
#
# The cluster needs the snapshot custom resources (external-snapshotter).
`
	all := documents(render(t, "mooring", one+"snapshots: {enabled: true}\nnamespace: {create: true}\n"))
	// What is in a namespace comes after it.
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	var kept []string
	for line := range strings.Lines("---\n" + strings.Join(all, "\n---\n")) {
		if !strings.Contains(line, "helm.sh/") && !strings.Contains(line, "managed-by: Helm") && !strings.Contains(line, "# helm uninstall") {
			kept = append(kept, line)
		}
	}
	text := strings.Replace(strings.Join(kept, ""), "  annotations:\n---\n", "---\n", 1)
	same(t, root+"/deploy/kubernetes.yaml", head+text)
}

// rank is where a document comes in kubernetes.yaml.
func rank(document string) int {
	if strings.Contains(document, "\nkind: Namespace\n") {
		return 0
	}
	return 1
}

func TestRefused(t *testing.T) {
	for what, c := range map[string]struct{ values, says string }{
		"an unknown key":                          {"servers: x", "servers"},
		"an unknown key of the controller":        {one + "controller: {replica: 1}", "replica"},
		"an unknown key of the node":              {one + "node: {hostNetwork: true}", "hostNetwork"},
		"an unknown key of a share":               {"shares: [{name: a, server: x, path: /x}]", "server"},
		"a share without a path":                  {"shares: [{name: a, servers: [x]}]", "path"},
		"a mount inside the directory of kubelet": {one + "node: {volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, mountPath: /var/lib/kubelet/a}]}", "the host shares"},
		"a share without servers":                 {"shares: [{name: a, servers: [], path: /x}]", "servers"},
		"a relative path":                         {"share: {server: x, path: export}", "path"},
		"a server without a path":                 {"share: {server: x}", "share.server needs a path"},
		"a path without a server":                 {"share: {path: /x}", "share.path needs a server"},
		"an invalid name":                         {"share: {name: NAS}", "name"},
		"an address as the server":                {"server: 10.0.0.200", "server"},
		"an invalid size":                         {"server: {enabled: true, storage: {size: much}}", "size"},
		"two places for the data":                 {"server: {enabled: true, storage: {hostPath: /x, existingClaim: claim}}", "one of them"},
		"a directory without a node":              {"server: {enabled: true, storage: {hostPath: /x}}", "say on which"},
		"kubelet mounts a Service":                {"controller: {mountShares: kubelet}\nserver: {enabled: true}", "names of Services"},
		"a number as a parameter":                 {one + "storageClasses: [{name: a, parameters: {uid: 5}}]", "uid"},
		"replicas in words":                       {one + "controller: {replicas: two}", "replicas"},
		"an invalid port":                         {one + "node: {metricsPort: 70000}", "metricsPort"},
		"an unknown policy":                       {one + "csiDriver: {fsGroupPolicy: Always}", "fsGroupPolicy"},
		"neither with snapshots nor without":      {one + "snapshots: {enabled: perhaps}", "enabled"},
		"an unknown mounter":                      {one + "controller: {mountShares: nobody}", "mountShares"},
		"kubelet mounts no share":                 {"controller: {mountShares: kubelet}", "needs the shares"},
		"SELinux labels that mount(8) leaves out": {one + "csiDriver: {seLinuxMount: true}", "selinux.enabled"},
		"an unknown registrar":                    {one + "node: {registrar: both}", "registrar"},
		"a label that the chart sets":             {one + "commonLabels: {app.kubernetes.io/name: a}", "commonLabels"},
		"a pod label that the chart sets":         {one + "node: {podLabels: {app.kubernetes.io/component: a}}", "podLabels"},
		"an account without a name":               {one + "controller: {serviceAccount: {create: false}}", "controller.serviceAccount.name"},
		"an invalid digest":                       {one + "image: {digest: v1}", "digest"},
		"names of Services on the host":           {"node: {dnsPolicy: Default}\nserver: {enabled: true}", "names of Services"},
		"an unknown DNS policy":                   {one + "node: {dnsPolicy: None}", "dnsPolicy"},
		"a class with a bad mount option":         {one + "storageClasses: [{name: a, parameters: {}, mountOptions: [bg]}]", "storageClass a"},
		"a server with a port":                    {"share: {server: \"10.0.0.200:2049\", path: /x}", "share nas1: the server"},
		"a path that ends with a slash":           {"share: {server: nas, path: /x/}", `should be written "/x"`},
		"a share in another one":                  {one + "shares: [{name: b, servers: [10.0.0.200], path: /export}]", "nas1 (10.0.0.200:/export/kubernetes) and b (10.0.0.200:/export)"},
		"a mount in the background":               {one + "defaults: {mountOptions: [\"ro,bg\"]}", `defaults: mount options that cannot be used`},
	} {
		if _, err := tryRender(t, "mooring", c.values); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v", what, err)
		}
	}
}

// TestTwoReleases proves that two releases have no object in common.
func TestTwoReleases(t *testing.T) {
	names := func(release, values string) map[string]bool {
		all := map[string]bool{}
		for _, d := range documents(render(t, release, values)) {
			var o struct {
				Kind     string
				Metadata struct{ Name, Namespace string }
			}
			if err := yaml.Unmarshal([]byte(d), &o); err != nil {
				t.Fatal(err)
			}
			all[o.Kind+" "+o.Metadata.Namespace+"/"+o.Metadata.Name] = true
		}
		return all
	}
	first := names("mooring", one)
	for name := range names("other", one+"driverName: other.example.com\nstorageClasses: []\nsnapshots: {enabled: false}\n") {
		if first[name] {
			t.Errorf("both have %s", name)
		}
	}
}

// TestNotes checks what helm prints after the installation.
func TestNotes(t *testing.T) {
	const label = "kubectl label --overwrite namespace mooring pod-security.kubernetes.io/enforce=privileged"
	for values, texts := range map[string][]string{
		one:                      {"nas1: 10.0.0.200:/export/kubernetes", label, "storageClassName: managed-nfs-storage"},
		"{}":                     {"No share is registered yet"},
		"storageClasses: null\n": {label},
		"storageClasses: []\n":   {label},
	} {
		files, err := tryRender(t, "mooring", values)
		if err != nil {
			t.Fatal(err)
		}
		notes := files["mooring/templates/NOTES.txt"]
		for _, text := range append(texts, "") {
			if !strings.Contains(notes, text) || strings.Contains(notes, "<no value>") {
				t.Errorf("the notes do not say %q:\n%s", text, notes)
			}
		}
	}
	files, err := tryRender(t, "mooring", "namespace: {create: true}")
	if err != nil || strings.Contains(files["mooring/templates/NOTES.txt"], label) {
		t.Errorf("the notes ask for a label that the chart sets: %v", err)
	}
}
