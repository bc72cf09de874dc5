// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestGitOps renders the chart with each set of values of test/chart and applies the result, as Argo CD and
// Flux do. To render or apply it again must change nothing: such a tool would apply it for ever.
func TestGitOps(t *testing.T) {
	files, err := filepath.Glob("../chart/testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	uninstall(t)
	t.Cleanup(func() { install(t) })
	monitoringResources(t)
	t.Cleanup(func() { k(t, "delete", "namespace", "gitops", "--ignore-not-found", "--timeout=5m") })
	for _, values := range files {
		t.Run(strings.TrimSuffix(filepath.Base(values), ".values.yaml"), func(t *testing.T) { driftless(t, values) })
	}
}

// monitoringResources registers the kinds of the Prometheus operator, without their schemas.
func monitoringResources(t *testing.T) {
	t.Helper()
	var all strings.Builder
	for plural, kind := range map[string]string{"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"} {
		fmt.Fprintf(&all, `---
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: %[1]s.monitoring.coreos.com},
 spec: {group: monitoring.coreos.com, scope: Namespaced, names: {plural: %[1]s, kind: %[2]s},
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}
`, plural, kind)
		t.Cleanup(func() { k(t, "delete", "crd", plural+".monitoring.coreos.com") })
	}
	manifest(t, all.String())
	k(t, "wait", "--for=condition=Established", "--timeout=1m", "crd/servicemonitors.monitoring.coreos.com", "crd/prometheusrules.monitoring.coreos.com")
}

// driftless applies the chart with a file of values twice, and deletes it.
func driftless(t *testing.T, values string) {
	// One of the charts has the namespace itself, and it is deleted with that chart.
	manifest(t, "{apiVersion: v1, kind: Namespace, metadata: {name: gitops}}\n")
	template := []string{
		"helm", "template", "mooring", "../../charts/mooring", "-n", "gitops", "-f", values,
		"--kube-version", k(t, "get", "node", "node-1", "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"),
		"--api-versions", strings.ReplaceAll(k(t, "api-versions"), "\n", ","),
	}
	rendered, err := run("", template...)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := run("", template...); err != nil || again != rendered {
		t.Errorf("rendered twice it differs (%v)", err)
	}
	file := filepath.Join(t.TempDir(), "rendered.yaml")
	if err := os.WriteFile(file, []byte(rendered), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k(t, "delete", "--ignore-not-found", "--timeout=5m", "-f", file) })
	k(t, "apply", "--server-side", "-f", file)
	if out, err := run("", "k", "diff", "--server-side", "-f", file); err != nil {
		t.Errorf("after it was applied it still differs: %v\n%s", err, out)
	}
	compareToLive(t, rendered, file)
	k(t, "apply", "-f", file) // without --server-side: kubectl calculates the patch
	if out, err := run("", "k", "diff", "-f", file); err != nil {
		t.Errorf("kubectl sees a difference: %v\n%s", err, out)
	}
}

// compareToLive compares every field that the chart renders with the object in the cluster.
func compareToLive(t *testing.T, rendered, file string) {
	t.Helper()
	var live struct{ Items []any }
	if err := yaml.Unmarshal([]byte(k(t, "get", "-o", "json", "-f", file)), &live); err != nil {
		t.Fatal(err)
	}
	var wanted []map[string]any
	for _, document := range strings.Split("\n"+rendered, "\n---\n") {
		var want map[string]any
		if err := yaml.Unmarshal([]byte(document+"\n"), &want); err != nil {
			t.Fatal(err)
		}
		if want != nil {
			wanted = append(wanted, want)
		}
	}
	if len(wanted) < 5 || len(wanted) != len(live.Items) {
		t.Fatalf("the chart has %d objects, and the cluster %d", len(wanted), len(live.Items))
	}
	for i, want := range wanted {
		differences(t, fmt.Sprint(want["kind"], " ", want["metadata"].(map[string]any)["name"]), want, live.Items[i])
	}
}

// differences reports fields that the live object lacks, or has with another value. The server drops null
// and empty ones.
func differences(t *testing.T, path string, want, live any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		live, _ := live.(map[string]any)
		for key, value := range want {
			differences(t, path+"."+key, value, live[key])
		}
	case []any:
		live, _ := live.([]any)
		if len(want) != len(live) {
			t.Errorf("%s has %d elements in the chart, and %d in the cluster", path, len(want), len(live))
			return
		}
		for i := range want {
			differences(t, fmt.Sprintf("%s[%d]", path, i), want[i], live[i])
		}
	default:
		if (want == nil || want == "") && live == nil {
			return
		}
		if fmt.Sprint(want) != fmt.Sprint(live) {
			t.Errorf("%s is %v in the chart, and %v in the cluster", path, want, live)
		}
	}
}
