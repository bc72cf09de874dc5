// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/doctor"
	"github.com/mooring-csi/mooring/test/lab"
)

//go:embed server
var script []byte

// guest is a guest of the lab with one server.
type guest struct {
	t      *testing.T
	server server
	script string
	shares int
}

func newGuest(t *testing.T, s server) *guest {
	t.Helper()
	g := &guest{t: t, server: s, script: filepath.Join(t.TempDir(), "server")}
	if err := os.WriteFile(g.script, script, 0o755); err != nil {
		t.Fatal(err)
	}
	return g
}

// do runs test/servers/server, and returns its output. Daemons that it starts keep the output open, so
// that it goes to a file.
func (g *guest) do(action string, args ...string) (string, error) {
	out, err := os.CreateTemp(g.t.TempDir(), action)
	if err != nil {
		return "", err
	}
	defer out.Close()
	said, err := os.CreateTemp(g.t.TempDir(), action)
	if err != nil {
		return "", err
	}
	defer said.Close()
	cmd := exec.Command(g.script, append([]string{action, g.server.name}, args...)...)
	cmd.Stdout, cmd.Stderr = out, said
	err = cmd.Run()
	data, _ := os.ReadFile(out.Name())
	if err != nil {
		why, _ := os.ReadFile(said.Name())
		return "", fmt.Errorf("server %s %s: %w: %s", action, g.server.name, err, why)
	}
	return strings.TrimSpace(string(data)), nil
}

func (g *guest) must(action string, args ...string) string {
	g.t.Helper()
	out, err := g.do(action, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// killer returns a function that kills the server at once.
func (g *guest) killer() (kill func() error, err error) {
	cmd := exec.Command(g.script, "stop", g.server.name)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("server stop: %w", err)
	}
	return func() error {
		_, err := io.WriteString(in, "now\n")
		if err := errors.Join(err, cmd.Wait()); err != nil {
			return fmt.Errorf("server stop: %w: %s", err, &said)
		}
		return nil
	}, nil
}

// share makes an empty directory on the server, and returns its exported path.
func (g *guest) share() string {
	g.t.Helper()
	g.shares++
	return g.must("share", fmt.Sprint("share", g.shares))
}

// config returns the text of a registry with that share, without a retention.
func config(r try, path string) string {
	return lab.Registry("nas1", path, "mountOptions: ["+r.all()+"]", "trashRetention: 0s")
}

// doctor runs mooringctl doctor, before anything is on the share.
func (g *guest) doctor(t *testing.T, r try, out *result) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(config(r, g.share())), 0o600); err != nil {
		t.Fatal(err)
	}
	// The run before has restarted the server: it may not be in its grace period any more.
	if text, err := exec.Command(os.Getenv("MOORING_LAB_SERVER_CMD"), "server", "settle").CombinedOutput(); err != nil {
		out.Broken = append(out.Broken, fmt.Sprintf("end the grace period: %v: %s", err, text))
	}
	printed, said, err := mooringctl(file, "doctor", "-o", "json")
	var report doctor.Report
	if json.Unmarshal(printed, &report) != nil {
		out.Broken = append(out.Broken, fmt.Sprintf("doctor: %v: %s", err, said))
		return
	}
	findings := report.Node
	for _, share := range report.Shares {
		findings = append(findings, share.Findings...)
	}
	for _, f := range findings {
		mark := map[doctor.Status]string{doctor.Warn: "!", doctor.Fail: "✗"}[f.Status]
		if mark == "" {
			continue
		}
		out.Doctor = append(out.Doctor, fmt.Sprintf("%s %s: %s", mark, f.Check, f.Cause))
		out.Said = append(out.Said, fmt.Sprintf("%s %s: %s: %s", mark, f.Title, f.Detail, f.Remedy))
	}
	slices.Sort(out.Doctor)
}

// mooringctl runs mooringctl with a configuration file.
func mooringctl(config string, args ...string) (out []byte, said string, err error) {
	binary := os.Getenv("MOORINGCTL_BINARY")
	if binary == "" {
		return nil, "", errors.New("MOORINGCTL_BINARY does not say where the program is: run this by make servers")
	}
	cmd := exec.Command(binary, append([]string{"--config", config}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	return out, strings.TrimSpace(stderr.String()), err
}
