// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mount

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// secured is the server's name, which is in its certificate.
const secured = "nas1.example.com"

// withTLS has the lab's kernel, which is client and server, do TLS: tlshd makes the handshakes of
// both. Without MOORING_TLSHD, which names the program, the test is skipped.
func withTLS(t *testing.T) {
	t.Helper()
	program := os.Getenv("MOORING_TLSHD")
	if program == "" {
		t.Skip("there is no tlshd: make test-tls")
	}
	dir := t.TempDir()
	certificates(t, dir)
	names(t, "127.0.0.2 "+secured, "127.0.0.2 other.example.com")
	conf := filepath.Join(dir, "tlshd.conf")
	text := strings.ReplaceAll("[authenticate.client]\nx509.truststore=DIR/ca.pem\n[authenticate.server]\nx509.truststore=DIR/ca.pem\nx509.certificate=DIR/cert.pem\nx509.private_key=DIR/key.pem\n", "DIR", dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "modprobe", "tls")
	cmd := exec.Command(program, "-s", "-c", conf)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// The kernel knows of it a moment later.
	for range 600 {
		target, mount := mounts(t, new(Kernel))
		err := mount(secured+":/exports", "xprtsec=tls", "nfsvers=4.2")
		if cause, _ := CauseOf(err); cause != NoTLSHandler {
			if err != nil {
				t.Fatal(err)
			}
			if err := Detach(target); err != nil {
				t.Fatal(err)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("tlshd does not come up")
}

// certificates writes ca.pem, and cert.pem and key.pem of the server.
func certificates(t *testing.T, dir string) {
	t.Helper()
	write := func(name, kind string, mode os.FileMode, der []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the lab"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	caKey, serverKey := key(), key()
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	write("ca.pem", "CERTIFICATE", 0o644, der, err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: secured}, DNSNames: []string{secured}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
	}
	der, err = x509.CreateCertificate(rand.Reader, server, ca, &serverKey.PublicKey, caKey)
	write("cert.pem", "CERTIFICATE", 0o644, der, err)
	der, err = x509.MarshalECPrivateKey(serverKey)
	write("key.pem", "EC PRIVATE KEY", 0o600, der, err)
}

// readable writes a file, and reports whether what is in it can be read on the wire.
func readable(t *testing.T, dir, words string) bool {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in the order of the network
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
		t.Error("nothing is seen of the wire")
	}
	return false
}

// TestTLS has a mount with TLS beside one without, of one server, and by one version. The kernel
// would have them be one client, and all of it go over the network as it is.
func TestTLS(t *testing.T) {
	withTLS(t)
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
					if err := mount(secured+":/exports", version, "xprtsec="+policy); err != nil {
						t.Fatalf("xprtsec=%s: %v", policy, err)
					}
				}
				for policy, want := range map[string]string{"none": "", "tls": "tls"} {
					e, _ := entry(t, at[policy])
					if got := valueOf(e.Super, "xprtsec"); got != want {
						t.Errorf("xprtsec=%s is mounted as %+v", policy, e)
					}
					if is := readable(t, at[policy], "the words of "+policy); is != (policy == "none") {
						t.Errorf("xprtsec=%s: that the words are seen on the wire is %v", policy, is)
					}
				}
			})
		}
	}
}

// TestTLSMerged has the kernel take a connection without TLS for one with it, as it does where both
// mounts have one host name: that is refused.
func TestTLSMerged(t *testing.T) {
	withTLS(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"4.0", "4.1", "4.2"} {
		k := new(Kernel)
		plain, mount := mounts(t, k)
		if err := mount(secured+":/exports", "nfsvers="+version); err != nil {
			t.Fatal(err)
		}
		target, _ := mounts(t, k)
		a := attempt{source: secured + ":/exports", options: []string{"nfsvers=" + version, "xprtsec=tls"}, host: host}
		err := k.run(context.Background(), Spec{Source: a.source, Target: target}, a)
		if cause, _ := CauseOf(err); cause != NotEncrypted {
			t.Errorf("%s: the error is %v", version, err)
		}
		if e, ok := entry(t, target); ok {
			t.Errorf("%s: there is still %+v", version, e)
		}
		if err := Detach(plain); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLSController has the controller's mount be with TLS beside all that pods have, and beside its
// own without, and be no client of theirs.
func TestTLSController(t *testing.T) {
	withTLS(t)
	for _, version := range []string{"4.0", "4.1", "4.2", ""} {
		k := new(Kernel)
		own, _ := mounts(t, k)
		if err := k.Mount(context.Background(), Spec{Source: secured + ":/exports", Target: own, OwnClient: true}); err != nil {
			t.Fatal(err)
		}
		for _, policy := range []string{"none", "tls"} {
			_, mount := mounts(t, k)
			for _, version := range []string{"4.0", "4.1", "4.2"} {
				if err := mount(secured+":/exports", "nfsvers="+version, "xprtsec="+policy); err != nil {
					t.Fatal(err)
				}
			}
		}
		target, _ := mounts(t, k)
		options := []string{"retry=0", "xprtsec=tls"}
		if version != "" {
			options = append(options, "nfsvers="+version)
		}
		if err := k.Mount(context.Background(), Spec{Source: secured + ":/exports", Target: target, Options: options, OwnClient: true}); err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		e, _ := entry(t, target)
		if want := cmp.Or(version, "4.2"); valueOf(e.Super, "xprtsec") != "tls" || valueOf(e.Super, "vers") != want || !isMapped(Table{e}, target) {
			t.Errorf("%s: it is mounted as %+v", version, e)
		}
	}
}

// TestTLSName has the kernel compare the server's name, where it is told the address, too.
func TestTLSName(t *testing.T) {
	withTLS(t)
	for server, want := range map[string]Cause{secured: "", "other.example.com": Denied} {
		k := new(Kernel)
		target, mount := mounts(t, k)
		err := mount(server+":/exports", "nfsvers=4.2", "xprtsec=tls")
		if cause, _ := CauseOf(err); cause != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v", server, err)
		}
		_ = Detach(target)
		a := attempt{source: server + ":/exports", options: []string{"xprtsec=tls"}, address: "127.0.0.2"}
		err = k.byName(context.Background(), Spec{Source: a.source, Target: target}, a)
		if cause, _ := CauseOf(err); cause != want || (err == nil) != (want == "") {
			t.Errorf("%s, by its address: %v", server, err)
		}
		_ = Detach(target)
	}
}
