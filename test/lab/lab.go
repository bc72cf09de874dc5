// SPDX-License-Identifier: Apache-2.0

// Package lab is shared by tests, demo and benchmarks on a machine with a real kernel NFS server: it
// starts the real program and counts the client's requests to the server.
package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// Server is the address of the lab's NFS server.
const Server = "127.0.0.1"

// Exports is the directory that the server exports to all, with root as root.
const Exports = "/exports"

// View is the server's local directory with all exports: /exports is at View + "/exports".
const View = "/run/export"

// Registry returns the text of a configuration file with one share, of that export path. more are
// further lines of the share's entry.
func Registry(name, path string, more ...string) string {
	text := fmt.Sprintf("shares:\n  - name: %s\n    servers: [%s]\n    path: %s\n", name, Server, path)
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

// Do runs an action on the lab's server: stop, start, settle, cut, heal, export NAME.
func Do(action ...string) error {
	out, err := exec.Command(os.Getenv("MOORING_LAB_SERVER_CMD"), append([]string{"server"}, action...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lab: server %s: %w: %s", strings.Join(action, " "), err, out)
	}
	return nil
}

// Driver is a running mooring process, and a connection to it.
type Driver struct {
	Identity   csi.IdentityClient
	Controller csi.ControllerClient
	Node       csi.NodeClient
	Endpoint   string
	Dir        string // its state directory

	cmd  *exec.Cmd
	conn *grpc.ClientConn
	log  *os.File
	done chan error
}

// Start runs the program in MOORING_BINARY in a role ("controller", "node", "all"), with its state,
// socket and log in dir, and waits until it is ready. config is the text of the registry; "" for none.
func Start(role, dir, config string, args ...string) (*Driver, error) {
	return StartOn(nil, role, dir, config, args...)
}

// StartOn is Start on another machine: on is a command that executes its arguments there.
func StartOn(on []string, role, dir, config string, args ...string) (*Driver, error) {
	binary := os.Getenv("MOORING_BINARY")
	if binary == "" {
		return nil, fmt.Errorf("MOORING_BINARY does not say where the program is: run this by make")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &Driver{Dir: dir, Endpoint: "unix://" + filepath.Join(dir, "csi.sock"), done: make(chan error, 1)}
	args = append(slices.Concat(on, []string{binary, role}), append([]string{"--endpoint", d.Endpoint, "--state-dir", filepath.Join(dir, "state")}, args...)...)
	if config != "" {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--config", file)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	d.log = log
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.done <- d.cmd.Wait() }()
	if err := d.connect(); err != nil {
		_ = d.Kill()
		return nil, fmt.Errorf("%w; its log:\n%s", err, d.Log())
	}
	return d, nil
}

func (d *Driver) connect() error {
	conn, err := grpc.NewClient(d.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		// The process makes its socket at once: do not wait a second for it.
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: 20 * time.Second,
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: time.Second},
		}))
	if err != nil {
		return err
	}
	d.conn = conn
	d.Identity, d.Controller, d.Node = csi.NewIdentityClient(conn), csi.NewControllerClient(conn), csi.NewNodeClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		// The short timeout lets the loop notice that the process has ended.
		once, done := context.WithTimeout(ctx, time.Second)
		r, err := d.Identity.Probe(once, &csi.ProbeRequest{}, grpc.WaitForReady(true))
		done()
		if err == nil && r.GetReady().GetValue() {
			return nil
		}
		select {
		case exit := <-d.done:
			d.done <- exit
			return fmt.Errorf("mooring ended: %v", exit)
		case <-ctx.Done():
			return fmt.Errorf("mooring does not get ready: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Conn returns the connection, for the other services.
func (d *Driver) Conn() *grpc.ClientConn { return d.conn }

// PID returns the id of the process.
func (d *Driver) PID() int { return d.cmd.Process.Pid }

// Log returns the log of the process so far.
func (d *Driver) Log() string {
	data, _ := os.ReadFile(d.log.Name())
	return string(bytes.TrimSpace(data))
}

// Stop ends the process with SIGTERM, as kubelet does, and waits for it.
func (d *Driver) Stop() error { return d.end(syscall.SIGTERM) }

// Kill ends the process with SIGKILL, like a crash.
func (d *Driver) Kill() error { return d.end(syscall.SIGKILL) }

// Crash kills the process and its descendants, like the end of its container: a mount(8) that continues
// alone would leave a mount that no process uses.
func (d *Driver) Crash() error {
	if err := syscall.Kill(d.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	started := Descendants(d.PID())
	if err := d.Kill(); err != nil {
		return err
	}
	for _, pid := range started {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for range 6000 {
		if started = slices.DeleteFunc(started, ended); len(started) == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("lab: the processes %d do not end", started)
}

// Descendants lists the running descendants of a process.
func Descendants(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(children)) {
			child, _ := strconv.Atoi(field)
			all = append(append(all, child), Descendants(child)...)
		}
	}
	return all
}

func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func (d *Driver) end(signal syscall.Signal) error {
	if d.conn != nil {
		_ = d.conn.Close()
	}
	defer d.log.Close()
	_ = d.cmd.Process.Signal(signal)
	select {
	case err := <-d.done:
		if signal == syscall.SIGKILL {
			return nil
		}
		return err
	case <-time.After(30 * time.Second):
		_ = d.cmd.Process.Kill()
		return fmt.Errorf("mooring did not end within 30 s of %v", signal)
	}
}

// Mode returns a mount capability of an access mode with mount options.
func Mode(mode csi.VolumeCapability_AccessMode_Mode, options ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{MountFlags: options}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

// RWX is the capability of a volume that many pods on many nodes write.
func RWX(options ...string) *csi.VolumeCapability {
	return Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER, options...)
}
