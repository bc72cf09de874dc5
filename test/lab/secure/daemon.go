// SPDX-License-Identifier: Apache-2.0

// Package secure sets up NFS with Kerberos and with TLS in the lab's guest: a realm with its KDC, an
// authority with its certificates, and the daemons of client and server.
package secure

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Server is the name of the lab's server in its principal and its certificate, Other another name of it.
const (
	Server = "nas1.example.com"
	Other  = "other.example.com"
	node   = "node1.example.com"
)

// waitTimeout is the timeout for what must happen.
const waitTimeout = time.Minute

// guest makes sure that changes of /etc disappear with the guest.
func guest(t testing.TB) {
	t.Helper()
	if cpu, _ := os.ReadFile("/proc/cpuinfo"); !bytes.Contains(cpu, []byte("User Mode Linux")) {
		t.Fatal("this changes files in /etc: it is for a guest of the lab alone (MOORING_LAB_KERNEL=uml)")
	}
}

// run runs a command and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// write replaces a file.
func write(t testing.TB, path string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// export adds lines to the server's exports, and makes their directories under /exports.
func export(t testing.TB, exportfs, options string, names ...string) {
	t.Helper()
	for _, name := range names {
		shown := "/run/export/" + name
		if _, err := os.Stat(shown); err == nil {
			continue
		}
		run(t, "mkdir", "-p", "/exports/."+name, shown)
		run(t, "mount", "--bind", "/exports/."+name, shown)
		f, err := os.OpenFile("/etc/exports", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(f, "/%s *(rw,no_root_squash,sync,no_subtree_check,insecure,%s)\n", name, strings.ReplaceAll(options, "NAME", name))
		if err != nil || f.Close() != nil {
			t.Fatal("write /etc/exports: ", err)
		}
	}
	run(t, exportfs, "-ra")
}

// daemon is a program that runs in the background.
type daemon struct {
	args []string
	env  []string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

func (d *daemon) start(t testing.TB) {
	t.Helper()
	d.cmd = exec.Command(d.args[0], d.args[1:]...)
	d.cmd.Env = append(os.Environ(), d.env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// stop ends the daemon, and is a no-op if it does not run.
func (d *daemon) stop() {
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		d.cmd = nil
	}
}

// until waits for an effect of a daemon.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", waitTimeout, what)
		}
	}
}
