// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mount

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

const label = `context="system_u:object_r:container_file_t:s0:c1,c2"`

// mounts returns a mount point, and a function that mounts an export of the lab's server there.
func mounts(t *testing.T, k *Kernel) (target string, do func(source string, options ...string) error) {
	t.Helper()
	target = t.TempDir()
	t.Cleanup(func() {
		for unix.Unmount(target, unix.MNT_DETACH) == nil {
		}
	})
	return target, func(source string, options ...string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return k.Mount(ctx, Spec{Source: source, Target: target, Options: append([]string{"retry=0"}, options...)})
	}
}

func entry(t *testing.T, target string) (Entry, bool) {
	t.Helper()
	table, err := new(Kernel).Table()
	if err != nil {
		t.Fatal(err)
	}
	return table.At(target)
}

// TestMountWithOptions mounts with each version and with other options that the kernel honors.
func TestMountWithOptions(t *testing.T) {
	for _, options := range []string{"nfsvers=3", "vers=4.0", "v4.1", "nfsvers=4.2", "vers=4", "", "vers=4,minorversion=1", "ro", "sec=sys,rw", "sec=krb5:sys", "xprtsec=none"} {
		target, mount := mounts(t, new(Kernel))
		if err := mount("127.0.0.1:/exports", strings.Split(options, ",")...); err != nil {
			t.Errorf("%s: %v", options, err)
		} else if _, ok := entry(t, target); !ok {
			t.Errorf("%s: nothing is mounted", options)
		}
		// Unmounts would leave its lines there for ever.
		if noted, err := os.ReadFile("/run/mount/utab"); err != nil && !errors.Is(err, os.ErrNotExist) || strings.Contains(string(noted), target) {
			t.Errorf("%s: the mount is noted outside the kernel: %s (%v)", options, noted, err)
		}
	}
}

// TestMountMissingOptionsInKernel makes mount(8) drop a label, as it does if it does not see
// SELinux, use the first of two versions, and ignore ro.
func TestMountMissingOptionsInKernel(t *testing.T) {
	for options, want := range map[string]Cause{label: NoLabel, "vers=4.2 minorversion=1": MissingOptions, "ro": MissingOptions} {
		if options == "ro" {
			real, err := exec.LookPath("mount")
			if err != nil {
				t.Fatal(err)
			}
			program(t, `o=$(echo "$5" | sed 's/\<ro\>/rw/'); exec `+real+` "$1" "$2" "$3" "$4" "$o" "$6" "$7"`)
		}
		for _, under := range []string{"", "a file system", "the same file system"} {
			target, mount := mounts(t, new(Kernel))
			switch under {
			case "a file system":
				if err := mount("127.0.0.1:/exports", "nosharecache"); err != nil {
					t.Fatal(err)
				}
			case "the same file system": // the kernel does not mount it on itself
				if err := mount("127.0.0.1:/exports", "vers=4.2"); err != nil {
					t.Fatal(err)
				}
			}
			was, _ := entry(t, target)
			err := mount("127.0.0.1:/exports", strings.Fields(options)...)
			if cause, _ := CauseOf(err); cause != want {
				t.Errorf("%s on %q: the error is %v", options, under, err)
			}
			if now, ok := entry(t, target); ok != (under != "") || now.Device != was.Device {
				t.Errorf("%s on %q: the mount is now %+v, and was %+v", options, under, now, was)
			}
		}
	}
}

// TestWrongOption checks that the error names the option that the kernel rejects.
func TestWrongOption(t *testing.T) {
	_, mount := mounts(t, new(Kernel))
	good := []string{"nodev", "nosuid", "nosharecache", "softerr", "timeo=50", "retrans=2", "lookupcache=positive", "nfsvers=4.2", "proto=tcp", "port=2049", "acregmin=1", "noresvport", "relatime"}
	for _, wrong := range []string{"rsize=1M", "nconnect=32", "debug", "bananas", "bananas=1", "lookupcache=some", "timeo=0", "max_connect=99", "local_lock=z"} {
		err := mount("127.0.0.1:/exports", slices.Insert(slices.Clone(good), 5, wrong)...)
		if err == nil || !strings.Contains(err.Error(), "the kernel does not take "+wrong+" (") {
			t.Errorf("%s: the error is %v", wrong, err)
			continue
		}
		for _, o := range good {
			if strings.Contains(err.Error(), o) {
				t.Errorf("%v blames %s", err, o)
			}
		}
	}
	if err := mount("127.0.0.1:/exports", good...); err != nil {
		t.Error(err)
	}
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

// silent creates an address that does not answer.
func silent(t *testing.T) string {
	t.Helper()
	run(t, "ip", "netns", "add", "silent")
	t.Cleanup(func() { run(t, "ip", "netns", "del", "silent") })
	run(t, "ip", "link", "add", "silent", "type", "veth", "peer", "name", "eth0", "netns", "silent")
	run(t, "ip", "addr", "add", "10.79.0.1/24", "dev", "silent")
	run(t, "ip", "link", "set", "silent", "up")
	run(t, "ip", "-n", "silent", "link", "set", "eth0", "up")
	run(t, "ip", "neigh", "add", "10.79.0.2", "lladdr", "02:00:00:00:00:02", "dev", "silent")
	return "10.79.0.2"
}

// names adds lines to the hosts file.
func names(t *testing.T, lines ...string) {
	t.Helper()
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile("/etc/hosts", before, 0o644) })
	if err := os.WriteFile("/etc/hosts", []byte(string(before)+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Go's resolver caches the file for some seconds.
	name, want := strings.Fields(lines[0])[1], 0
	for _, l := range lines {
		if strings.Fields(l)[1] == name {
			want++
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		found, err := net.LookupHost(name)
		if len(found) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s resolves to %q (%v), want %q", name, found, err, lines)
		}
	}
}

// TestSilentAddress uses a server name with two addresses, the first of which does not answer. Both
// are equally near: getaddrinfo(3) sorts a nearer one first.
func TestSilentAddress(t *testing.T) {
	const good = "10.77.0.2"
	if err := lab.Do("second"); err != nil {
		t.Fatal(err)
	}
	dead := silent(t)
	names(t, dead+" nas", good+" nas")
	answers := func(_ context.Context, server string, _ []string) error {
		if server == dead {
			return fmt.Errorf("%s is silent", server)
		}
		return nil
	}
	for _, version := range []string{"4.1", "4.2", ""} {
		k := &Kernel{Answers: answers}
		target, mount := mounts(t, k)
		var options []string
		if version != "" {
			options = []string{"nfsvers=" + version}
		}
		if err := mount("nas:/second", options...); err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		if e, _ := entry(t, target); e.Source != good+":/second" || !slices.Contains(e.Super, "addr="+good) {
			t.Errorf("%s: the mount is %+v", version, e)
		}
	}

	// Mount by name and address, as for Kerberos and TLS, but without them.
	for _, version := range []string{"4.1", "4.2", ""} {
		k := &Kernel{Answers: answers}
		target, _ := mounts(t, k)
		a := attempt{source: "nas:/second", address: good, options: []string{"retry=0", "hard"}}
		want := "vers=4.2"
		if version != "" {
			a.options, want = append(a.options, "nfsvers="+version), "vers="+version
		}
		if err := k.mountByName(context.Background(), Spec{Source: a.source, Target: target}, a); err != nil {
			t.Errorf("by name, %s: %v", version, err)
		} else if e, _ := entry(t, target); !slices.Contains(e.Super, want) || !slices.Contains(e.Super, "addr="+good) {
			t.Errorf("by name, %s: the mount is %+v", version, e)
		}
	}
}

// TestMountByNameErrors checks that a mount without mount.nfs fails with the same cause as one with
// it.
func TestMountByNameErrors(t *testing.T) {
	names(t, "127.0.0.1 nas")
	file := "/exports/file"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, options string
	}{
		{"nas:/exports/nothing", ""}, {"nas:/exports/file", ""}, {"nas:/exports", "port=9"}, {"nas:/exports", "debug"}, {"nas:/exports", "sec=krb5"}, {"nas:/exports", "xprtsec=tls"},
	} {
		k := new(Kernel)
		target, mount := mounts(t, k)
		options := append([]string{"nfsvers=4.2"}, strings.Fields(c.options)...)
		with := mount(c.source, options...)
		without := k.mountByName(context.Background(), Spec{Source: c.source, Target: target}, attempt{source: c.source, address: "127.0.0.1", options: options})
		a, said := CauseOf(with)
		b, says := CauseOf(without)
		t.Logf("%v: %s\n%s\n%s", c, a, said, says)
		if with == nil || without == nil || a != b {
			t.Errorf("%v is %q with mount.nfs, %q without: %v; %v", c, a, b, with, without)
		}
	}
}
