// SPDX-License-Identifier: Apache-2.0

package ground

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Exported returns the local path on the server of an empty directory that it exports.
func Exported(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/exports", "ground")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Machine is a machine with an NFS client: to a server all NFSv4 mounts of one machine are one client,
// and it recalls no delegation because of that client's own changes.
type Machine struct {
	name   string
	server string   // address of the lab's server for this machine
	in     []string // a command that runs others there
	nolock string   // a mount option if there is no lock daemon
}

// ThisMachine is that of the test, beside the server.
func ThisMachine() *Machine { return &Machine{server: "127.0.0.1"} }

var machines atomic.Int64

// NewMachine makes another machine, which has a network link to the server: a network namespace,
// from which NFS file systems are mounted under a host name of its own.
func NewMachine(t *testing.T) *Machine {
	t.Helper()
	n := machines.Add(1)
	m := &Machine{name: fmt.Sprint("machine", n), server: fmt.Sprintf("10.78.%d.1", n), nolock: ",nolock"}
	link := fmt.Sprint("link", n)
	run(t, "ip", "netns", "add", m.name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", m.name) })
	run(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", m.name)
	run(t, "ip", "addr", "add", m.server+"/24", "dev", link)
	run(t, "ip", "link", "set", link, "up")
	run(t, "ip", "-n", m.name, "addr", "add", fmt.Sprintf("10.78.%d.2/24", n), "dev", "eth0")
	run(t, "ip", "-n", m.name, "link", "set", "eth0", "up")
	run(t, "ip", "-n", m.name, "link", "set", "lo", "up")
	// Not ip netns exec, which also gives it a mount namespace.
	m.in = []string{"nsenter", "--net=/run/netns/" + m.name, "unshare", "--uts", "sh", "-ec", `hostname "$0"; exec "$@"`, m.name}
	return m
}

// In returns the command that executes its arguments on the machine: none for this one.
func (m *Machine) In() []string { return m.in }

// Server returns the address of the lab's server for the machine.
func (m *Machine) Server() string { return m.server }

// Mount mounts a directory of the server as the controller does, and returns the path.
func (m *Machine) Mount(t *testing.T, version, directory string) string {
	t.Helper()
	dir := t.TempDir()
	options := "nosharecache,softerr,timeo=50,retrans=2,lookupcache=positive,nfsvers=" + version + m.nolock
	m.run(t, "mount", "-t", "nfs", "-o", options, m.server+":"+directory, dir)
	t.Cleanup(func() { run(t, "umount", "-l", dir) })
	return dir
}

// Cut drops every packet that the machine sends, until Heal is called.
func (m *Machine) Cut(t *testing.T) {
	t.Helper()
	m.run(t, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "loss", "100%")
}

// Delay delays each packet that the machine sends until Heal is called.
func (m *Machine) Delay(t *testing.T, by time.Duration) {
	t.Helper()
	m.run(t, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", fmt.Sprint(by.Milliseconds(), "ms"), "limit", "10000")
}

// Heal ends Cut or Delay. Packets that are still delayed are lost.
func (m *Machine) Heal(t *testing.T) {
	t.Helper()
	m.run(t, "tc", "qdisc", "del", "dev", "eth0", "root")
}

// Traffic counts the packets that a machine has sent since Cut or Delay.
type Traffic struct {
	Arrived int `json:"bytes"`
	Waiting int `json:"backlog"` // bytes, too
	Lost    int `json:"drops"`   // packets
}

// Traffic returns the machine's traffic.
func (m *Machine) Traffic(t *testing.T) Traffic {
	t.Helper()
	out := m.run(t, "tc", "-s", "-j", "qdisc", "show", "dev", "eth0")
	var all []Traffic
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 1 {
		t.Fatalf("tc: %v: %s", err, out)
	}
	return all[0]
}

// run runs a command on the machine.
func (m *Machine) run(t *testing.T, command ...string) []byte {
	t.Helper()
	return run(t, append(append([]string{}, m.in...), command...)...)
}

func run(t *testing.T, command ...string) []byte {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return out
}
