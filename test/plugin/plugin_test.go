// SPDX-License-Identifier: Apache-2.0

// Package plugin tests deploy/kubectl-mooring with a kubectl that only records its calls.
package plugin

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubectl answers "get" with the text in PODS, and records each call, with its arguments in brackets.
const kubectl = `#!/bin/sh
for arg; do printf '[%s]' "$arg"; done >>"$LOG"
echo >>"$LOG"
for arg; do
	case $arg in
	get) printf '%s' "$PODS"; exit 0 ;;
	exec) exit "$STATUS" ;;
	esac
done
`

// run runs the plugin and returns its calls of kubectl, its standard error and its exit status.
func run(t *testing.T, pods, status string, args ...string) (calls []string, said string, code int) {
	t.Helper()
	return runAs(t, "../../deploy/kubectl-mooring", pods, status, args...)
}

// runAs is run with another name of the plugin.
func runAs(t *testing.T, plugin, pods, status string, args ...string) (calls []string, said string, code int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(kubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(plugin, args...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "LOG="+log, "PODS="+pods, "STATUS="+status)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(log)
	return strings.Split(strings.TrimSpace(string(text)), "\n"), stderr.String(), cmd.ProcessState.ExitCode()
}

const (
	two    = "mooring mooring-controller-a \nmooring mooring-controller-b \n"
	ending = "mooring mooring-controller-0 2026-01-02T03:04:05Z\n"
)

func TestPlugin(t *testing.T) {
	const chosen = "[--selector=app.kubernetes.io/name=mooring,app.kubernetes.io/component=controller]"
	for what, c := range map[string]struct {
		args      []string
		get, exec string // parts of the two calls
	}{
		"everywhere": {[]string{"volumes", "-n", "shop"}, "[get][pods][--all-namespaces]" + chosen,
			"[exec][-i][--namespace=mooring][--container=mooring][mooring-controller-a][--][mooringctl][volumes][-n][shop]"},
		"in a namespace": {[]string{"-n", "mooring", "trash", "list"}, "[get][pods][--namespace=mooring]" + chosen, "[--][mooringctl][trash][list]"},
		"joined":         {[]string{"-nmooring", "jobs"}, "[get][pods][--namespace=mooring]", "[--][mooringctl][jobs]"},
		"long":           {[]string{"--namespace=mooring", "jobs"}, "[get][pods][--namespace=mooring]", "[--][mooringctl][jobs]"},
		"another cluster": {[]string{"--context", "a b's", "--kubeconfig=/x y", "jobs"}, "[--context=a b's][--kubeconfig=/x y][get]",
			"[--context=a b's][--kubeconfig=/x y][exec]"},
		"quotes": {[]string{"trash", "purge", "it's $HOME *", ""}, "[get]", "[mooringctl][trash][purge][it's $HOME *][]"},
	} {
		calls, said, code := run(t, ending+two, "0", c.args...)
		if code != 0 || said != "" || len(calls) != 2 || !strings.Contains(calls[0], c.get) || !strings.Contains(calls[1], c.exec) {
			t.Errorf("%s: %d, %q: kubectl was told\n%s", what, code, said, strings.Join(calls, "\n"))
		}
	}
}

// TestPluginCompletes runs the plugin as kubectl does to complete arguments.
func TestPluginCompletes(t *testing.T) {
	plugin, err := filepath.Abs("../../deploy/kubectl-mooring")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "kubectl_complete-mooring")
	if err := os.Symlink(plugin, link); err != nil {
		t.Fatal(err)
	}
	const want = "[exec][--stdin=false][--namespace=mooring][--container=mooring][mooring-controller-a][--][mooringctl][__complete][describe][nas1/]"
	calls, stderr, code := runAs(t, link, two, "0", "-n", "mooring", "describe", "nas1/")
	if code != 0 || stderr != "" || len(calls) != 2 || !strings.Contains(calls[0], "[--namespace=mooring]") || calls[1] != want {
		t.Errorf("status %d, %q: calls of kubectl\n%s", code, stderr, strings.Join(calls, "\n"))
	}
}

func TestPluginFails(t *testing.T) {
	for what, c := range map[string]struct {
		pods, status string
		args         []string
		code, calls  int
		say          string
	}{
		"mooringctl":             {two, "3", []string{"volumes"}, 3, 2, ""},
		"none":                   {"", "0", []string{"volumes"}, 1, 1, "no controller of Mooring is running: name the namespace"},
		"none but one that ends": {ending, "0", []string{"volumes"}, 1, 1, "no controller of Mooring is running"},
		"none there":             {"", "0", []string{"-n", "x", "volumes"}, 1, 1, "is running in namespace x"},
		"two of them":            {two + "other mooring-controller-c\n", "0", []string{"volumes"}, 1, 1, "several namespaces: name one with -n, before the command: mooring other"},
		"without its name":       {two, "0", []string{"-n"}, 2, 1, "-n needs a value"},
	} {
		calls, said, code := run(t, c.pods, c.status, c.args...)
		if code != c.code || len(calls) != c.calls || !strings.Contains(said, c.say) || c.say == "" && said != "" {
			t.Errorf("%s: %d, %q: kubectl was told %q", what, code, said, calls)
		}
	}
}
