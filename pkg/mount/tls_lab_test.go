// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mount

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/secure"
	"golang.org/x/sys/unix"
)

// readable writes a file, and reports whether its contents can be read on the wire.
func readable(t *testing.T, dir, words string) bool {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
	wire, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(wire)
	if err := unix.SetsockoptInt(wire, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(words)
	if err = errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name())); err != nil {
		t.Fatal(err)
	}
	seen, packet := 0, make([]byte, 1<<17)
	for {
		n, err := unix.Read(wire, packet)
		if err != nil {
			break
		}
		if seen++; bytes.Contains(packet[:n], []byte(words)) {
			return true
		}
	}
	if seen == 0 {
		t.Error("the capture is empty")
	}
	return false
}

// TestTLS mounts with and without TLS from one server with one version. Without separate clients
// the kernel would share one connection without encryption.
func TestTLS(t *testing.T) {
	secure.NewTLS(t)
	for _, version := range []string{"vers=3,nolock", "vers=4.0", "vers=4.1", "vers=4.2", "nodev"} {
		for _, first := range []string{"none", "tls"} {
			t.Run(version+", first "+first, func(t *testing.T) {
				at := map[string]string{}
				order := []string{"none", "tls"}
				if first == "tls" {
					slices.Reverse(order)
				}
				for _, policy := range order {
					target, mount := mounts(t, new(Kernel))
					at[policy] = target
					if err := mount(secure.Server+":/exports", version, "xprtsec="+policy); err != nil {
						t.Fatalf("xprtsec=%s: %v", policy, err)
					}
				}
				for policy, want := range map[string]string{"none": "", "tls": "tls"} {
					e, _ := entry(t, at[policy])
					if got := ValueOf(e.Super, "xprtsec"); got != want {
						t.Errorf("xprtsec=%s: the mount is %+v", policy, e)
					}
					if is := readable(t, at[policy], "the words of "+policy); is != (policy == "none") {
						t.Errorf("xprtsec=%s: readable on the wire is %v", policy, is)
					}
				}
			})
		}
	}
}

// TestTLSMerged makes the kernel reuse a connection without TLS, which it does if both mounts have
// the same host name: the mount must fail.
func TestTLSMerged(t *testing.T) {
	secure.NewTLS(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"4.0", "4.1", "4.2"} {
		k := new(Kernel)
		plain, mount := mounts(t, k)
		if err := mount(secure.Server+":/exports", "nfsvers="+version); err != nil {
			t.Fatal(err)
		}
		target, _ := mounts(t, k)
		a := attempt{source: secure.Server + ":/exports", options: []string{"nfsvers=" + version, "xprtsec=tls"}, host: host}
		err := k.run(context.Background(), Spec{Source: a.source, Target: target}, a)
		if cause, _ := CauseOf(err); cause != NotEncrypted {
			t.Errorf("%s: the error is %v", version, err)
		}
		if e, ok := entry(t, target); ok {
			t.Errorf("%s: the mount is left: %+v", version, e)
		}
		if err := Detach(plain); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLSController makes the controller's mount with TLS, beside mounts of pods and another one of
// its own without TLS, and checks that it is a separate client.
func TestTLSController(t *testing.T) {
	secure.NewTLS(t)
	for _, version := range []string{"4.0", "4.1", "4.2", ""} {
		k := new(Kernel)
		own, _ := mounts(t, k)
		if err := k.Mount(context.Background(), Spec{Source: secure.Server + ":/exports", Target: own, OwnClient: true}); err != nil {
			t.Fatal(err)
		}
		for _, policy := range []string{"none", "tls"} {
			_, mount := mounts(t, k)
			for _, version := range []string{"4.0", "4.1", "4.2"} {
				if err := mount(secure.Server+":/exports", "nfsvers="+version, "xprtsec="+policy); err != nil {
					t.Fatal(err)
				}
			}
		}
		target, _ := mounts(t, k)
		options := []string{"retry=0", "xprtsec=tls"}
		if version != "" {
			options = append(options, "nfsvers="+version)
		}
		if err := k.Mount(context.Background(), Spec{Source: secure.Server + ":/exports", Target: target, Options: options, OwnClient: true}); err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		e, _ := entry(t, target)
		if want := cmp.Or(version, "4.2"); ValueOf(e.Super, "xprtsec") != "tls" || ValueOf(e.Super, "vers") != want || !isMapped(Table{e}, target) {
			t.Errorf("%s: the mount is %+v", version, e)
		}
	}
}

// TestTLSName checks that the kernel verifies the server's name, also if it gets the address, too.
func TestTLSName(t *testing.T) {
	secure.NewTLS(t)
	for server, want := range map[string]Cause{secure.Server: "", secure.Other: NoHandshake} {
		k := new(Kernel)
		target, mount := mounts(t, k)
		err := mount(server+":/exports", "nfsvers=4.2", "xprtsec=tls")
		if cause, _ := CauseOf(err); cause != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v", server, err)
		}
		_ = Detach(target)
		a := attempt{source: server + ":/exports", options: []string{"xprtsec=tls"}, address: "127.0.0.2"}
		err = k.mountByName(context.Background(), Spec{Source: a.source, Target: target}, a)
		if cause, _ := CauseOf(err); cause != want || (err == nil) != (want == "") {
			t.Errorf("%s, by address: %v", server, err)
		}
		_ = Detach(target)
	}
}
