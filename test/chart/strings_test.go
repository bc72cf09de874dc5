// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// stringPaths returns the paths of the values that are strings.
func stringPaths(prefix string, values map[string]any) (all []string) {
	for key, value := range values {
		switch value := value.(type) {
		case string:
			all = append(all, prefix+key)
		case map[string]any:
			all = append(all, stringPaths(prefix+key+".", value)...)
		}
	}
	return all
}

// withValue returns values with one at a path, and what lets the chart render it.
func withValue(path string, value any) map[string]any {
	values := map[string]any{
		"share":  map[string]any{"server": "nas", "path": "/x"},
		"server": map[string]any{"enabled": true, "nodeSelector": map[string]any{"a": "b"}},
		"node":   map[string]any{"registrar": "sidecar"},
	}
	inner, keys := values, strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, _ := inner[key].(map[string]any)
		if next == nil {
			next = map[string]any{}
			inner[key] = next
		}
		inner = next
	}
	inner[keys[len(keys)-1]] = value
	return values
}

// TestStrings gives each value strings that mean something else in YAML: the chart refuses them, or its objects have
// them as strings.
func TestStrings(t *testing.T) {
	texts := []string{`a"b`, "a: b", "a #b", "{{ x }}", "a\nb", "a\ab", "123", "1e3", "true", "null", "*a", "'", "a}", "a,b"}
	cases := map[string]func(text string) map[string]any{
		"the name of a class": func(text string) map[string]any {
			return withValue("storageClasses", []any{map[string]any{"name": text, "parameters": map[string]any{"share": text}}})
		},
		"the name of a class of snapshots": func(text string) map[string]any {
			return withValue("snapshots.classes", []any{map[string]any{"name": text}})
		},
		"an argument": func(text string) map[string]any { return withValue("controller.extraArgs", []any{text}) },
	}
	for _, path := range stringPaths("", parse(t, read(t, where+"/values.yaml"))) {
		if strings.Contains(path, ".resources.") {
			continue // quantities, which the API server checks
		}
		cases[path] = func(text string) map[string]any { return withValue(path, text) }
		if name := strings.ToLower(path); strings.HasSuffix(name, "path") || strings.HasSuffix(name, "dir") {
			cases[path+", a path"] = func(text string) map[string]any { return withValue(path, "/"+text) }
		}
	}
	for _, what := range slices.Sorted(maps.Keys(cases)) {
		for _, text := range texts {
			checkObjects(t, what, "mooring", asYAML(cases[what](text)))
		}
	}
	for _, release := range []string{"123", "1e3", "true", "null"} {
		checkObjects(t, "the release", release, one)
	}
}

// checkObjects decodes what the chart renders, if it accepts the values.
func checkObjects(t *testing.T, what, release, values string) {
	t.Helper()
	if _, err := tryRender(t, release, values); err != nil {
		return
	}
	failed := t.Failed()
	objects(t, render(t, release, values))
	if t.Failed() && !failed {
		t.Fatalf("%s: release %s with the values %s", what, release, values)
	}
}
