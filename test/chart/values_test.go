// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// paths returns the paths of all values in a map of values: "node.metricsPort". A list counts as one value.
func paths(prefix string, values map[string]any) []string {
	var all []string
	for key, value := range values {
		path := prefix + key
		if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
			all = append(all, paths(path+".", inner)...)
		} else {
			all = append(all, path)
		}
	}
	return all
}

// parse returns values that are written in YAML.
func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// TestEveryValueIsSet proves that the golden files set every value of the chart.
func TestEveryValueIsSet(t *testing.T) {
	var set []string
	for _, values := range sets(t) {
		set = append(set, paths("", parse(t, values))...)
	}
	covers := func(path string) bool {
		return slices.ContainsFunc(set, func(s string) bool {
			return s == path || strings.HasPrefix(s, path+".") || strings.HasPrefix(path, s+".")
		})
	}
	for _, path := range paths("", parse(t, read(t, where+"/values.yaml"))) {
		section := path
		if strings.Contains(path, ".resources.") || strings.Contains(path, ".probes.") || strings.HasPrefix(path, "namespace.labels.") {
			section = path[:strings.LastIndexByte(path, '.')]
		}
		if !covers(path) && !covers(section) && !covers(section[:max(0, strings.LastIndexByte(section, '.'))]) {
			t.Errorf("no set of values in testdata has %s", path)
		}
	}
}

// TestSchemaHasNothingElse proves that values.yaml shows every value of the schema. The schema refuses every value
// that it does not have itself.
func TestSchemaHasNothingElse(t *testing.T) {
	var compare func(prefix string, schema, values map[string]any)
	compare = func(prefix string, schema, values map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for key, property := range properties {
			value, ok := values[key]
			if !ok && prefix != "global." && prefix != "defaults." {
				t.Errorf("values.yaml does not show %s%s", prefix, key)
			}
			inner, ok := value.(map[string]any)
			if property, isMap := property.(map[string]any); ok && isMap {
				compare(prefix+key+".", property, inner)
			}
		}
	}
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, where+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	compare("", schema, parse(t, read(t, where+"/values.yaml")))
}

// TestDeterministic renders every set of values twice.
func TestDeterministic(t *testing.T) {
	for name, values := range sets(t) {
		if render(t, "mooring", values) != render(t, "mooring", values) {
			t.Errorf("%s is rendered in two ways", name)
		}
	}
}

// pods returns the pod templates among objects, by their component.
func pods(all []any) map[string]corev1.PodTemplateSpec {
	found := map[string]corev1.PodTemplateSpec{}
	add := func(pod corev1.PodTemplateSpec) { found[pod.Labels["app.kubernetes.io/component"]] = pod }
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.Deployment:
			add(o.Spec.Template)
		case *appsv1.DaemonSet:
			add(o.Spec.Template)
		case *appsv1.StatefulSet:
			add(o.Spec.Template)
		}
	}
	return found
}

// TestPods checks in all pods what the API server checks, and decoding does not.
func TestPods(t *testing.T) {
	for name, values := range sets(t) {
		all := objects(t, render(t, "mooring", values))
		accounts := map[string]bool{"own": true, "default": true}
		for _, o := range all {
			if account, ok := o.(*corev1.ServiceAccount); ok {
				accounts[account.Name] = true
			}
		}
		for component, pod := range pods(all) {
			volumes := map[string]bool{}
			for _, v := range pod.Spec.Volumes {
				if volumes[v.Name] || len(v.Name) > 63 || strings.Contains(v.Name, ".") {
					t.Errorf("%s: the %s has the volume %s twice, or it cannot have this name", name, component, v.Name)
				}
				volumes[v.Name] = true
			}
			for _, c := range pod.Spec.Containers {
				targets := map[string]bool{}
				for _, m := range c.VolumeMounts {
					if !volumes[m.Name] || targets[m.MountPath] {
						t.Errorf("%s: the %s mounts %s at %s, which does not exist or is mounted already", name, component, m.Name, m.MountPath)
					}
					targets[m.MountPath] = true
				}
				writes := component == "controller" && c.Name == "mooring" // page cache of copies counts as its memory
				if c.Resources.Limits.Memory().IsZero() && !writes || c.Resources.Requests.Memory().IsZero() {
					t.Errorf("%s: %s of the %s has no memory request or limit", name, c.Name, component)
				}
			}
			if pod.Spec.NodeSelector["kubernetes.io/os"] != "linux" {
				t.Errorf("%s: the %s may run on any system", name, component)
			}
			if !accounts[pod.Spec.ServiceAccountName] {
				t.Errorf("%s: the %s has no service account %q", name, component, pod.Spec.ServiceAccountName)
			}
		}
	}
}

// TestSharesRestartNothing changes the shares: the pods stay as they are, as the driver reads its configuration again.
// kubelet mounts shares at the start of a pod.
func TestSharesRestartNothing(t *testing.T) {
	const more = "shares: [{name: nas2, servers: [nas2], path: /x}]\ndefaults: {mountOptions: [nfsvers=4.1]}\nunregistered: allow\n"
	for values, same := range map[string]bool{
		one: true, one + "node: {registrar: sidecar}\n": true, one + "controller: {mountShares: kubelet}\n": false,
	} {
		before, after := pods(objects(t, render(t, "mooring", values))), pods(objects(t, render(t, "mooring", values+more)))
		if !reflect.DeepEqual(before["node"], after["node"]) || reflect.DeepEqual(before["controller"], after["controller"]) != same {
			t.Errorf("%s: other shares change the node plugin, or the controller other than expected", values)
		}
	}
	const kubelet = one + "controller: {mountShares: kubelet}\n"
	before := pods(objects(t, render(t, "mooring", kubelet)))
	after := pods(objects(t, render(t, "mooring", kubelet+"defaults: {mountOptions: [nfsvers=4.1]}\n")))
	if reflect.DeepEqual(before["controller"], after["controller"]) {
		t.Error("other mount options leave kubelet's mounts in the controller as they are")
	}
}

// TestRegistry has all images come from one registry.
func TestRegistry(t *testing.T) {
	const images = "node: {registrar: sidecar}\nserver: {enabled: true}\nsnapshotController: {enabled: true}\n"
	for values, want := range map[string]string{
		"image: {registry: registry.example.com:5000/mirror/}\n":                         "registry.example.com:5000/mirror/",
		"global: {imageRegistry: registry.example.com}\n":                                "registry.example.com/",
		"image: {registry: one.example.com}\nglobal: {imageRegistry: two.example.com}\n": "one.example.com/",
	} {
		found := 0
		for component, pod := range pods(objects(t, render(t, "mooring", images+values))) {
			for _, c := range pod.Spec.Containers {
				found++
				if rest, ok := strings.CutPrefix(c.Image, want); !ok || !strings.HasPrefix(rest, "sig-storage/") && !strings.HasPrefix(rest, "mooring-csi/") {
					t.Errorf("%s of the %s has the image %s", c.Name, component, c.Image)
				}
			}
		}
		if found != 9 {
			t.Errorf("there are %d containers", found)
		}
	}
}

// TestDrain proves that no PodDisruptionBudget stops a drain of the only node, unless the values want one.
func TestDrain(t *testing.T) {
	if text := render(t, "mooring", one); strings.Contains(text, "kind: PodDisruptionBudget") {
		t.Error("a drain of the only node never ends")
	}
	if text := render(t, "mooring", one+"controller: {podDisruptionBudget: true}"); !strings.Contains(text, "kind: PodDisruptionBudget") {
		t.Error("there is no PodDisruptionBudget")
	}
	if text := render(t, "mooring", one+"controller: {podDisruptionBudget: true, replicas: 1}"); strings.Contains(text, "kind: PodDisruptionBudget") {
		t.Error("there is a PodDisruptionBudget for one replica")
	}
}

// TestParentChart renders the chart as a dependency that its parent's values enable and disable.
func TestParentChart(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		parent := &chart.Chart{Metadata: &chart.Metadata{
			APIVersion: chart.APIVersionV2, Name: "parent", Version: "1.0.0",
			Dependencies: []*chart.Dependency{{Name: "mooring", Version: ">=0.0.0-0", Condition: "mooring.enabled"}},
		}}
		parent.AddDependency(load(t))
		values := map[string]any{
			"global":  map[string]any{"imageRegistry": "registry.example.com", "storageClass": "parent"},
			"mooring": map[string]any{"enabled": enabled, "share": map[string]any{"server": "nas", "path": "/x"}},
		}
		if err := chartutil.ProcessDependencies(parent, values); err != nil {
			t.Fatal(err)
		}
		all, err := chartutil.ToRenderValues(parent, values, chartutil.ReleaseOptions{Name: "parent", Namespace: "storage"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		files, err := engine.Render(parent, all)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(slices.Collect(maps.Values(files)), "\n")
		if got := strings.Contains(text, "image: registry.example.com/mooring-csi/mooring:"); got != enabled {
			t.Errorf("with enabled %v the driver is there: %v", enabled, got)
		}
	}
}
