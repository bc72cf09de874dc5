// SPDX-License-Identifier: Apache-2.0

package secure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TLSPrograms is the environment variable with the directory of tlshd, and of exportfs and rpc.mountd
// with support of xprtsec=.
const TLSPrograms = "MOORING_TLS"

// The exports that require TLS, and a certificate of the client.
const (
	TLSExport  = "/tls"
	MTLSExport = "/mtls"
)

// asymmetric replaces the key type of that name, in which tlshd keeps a peer's certificate and which the
// lab's kernel lacks. The kernel's RPC only checks that there is a key.
const asymmetric = `#define _GNU_SOURCE
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int add_key(const char *type, const char *name, const void *payload, size_t size, int ring)
{
	if (!strcmp(type, "asymmetric"))
		type = "user", name = name ? name : "peer";
	return syscall(SYS_add_key, type, name, payload, size, ring);
}
`

// TLS is a setup of NFS with TLS. The guest is client and server.
type TLS struct {
	t           testing.TB
	dir         string
	programs    string
	ca, strange *authority
	tlshd       *daemon
}

// Peers are the certificates of client and server, by their names; "" for none.
type Peers struct {
	Client, Server string
	Strange        bool // the client trusts another authority
}

// Well is the initial state of both.
func Well() Peers { return Peers{Client: "client", Server: "server"} }

// NewTLS sets TLS up until the test ends: certificates "server" and "client", and tlshd with them.
func NewTLS(t testing.TB) *TLS {
	t.Helper()
	programs := os.Getenv(TLSPrograms)
	if programs == "" {
		t.Skip("there is no tlshd: make test-tls")
	}
	dir := t.TempDir()
	x := &TLS{t: t, dir: dir, programs: programs, ca: newAuthority(t, dir, "ca"), strange: newAuthority(t, dir, "strange")}
	x.tlshd = &daemon{args: []string{programs + "/tlshd", "-s", "-c", dir + "/tlshd.conf"}}
	x.Issue("server", time.Hour, Server)
	x.Issue("client", time.Hour, node)
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "/etc/hosts", 0o644, string(before)+"127.0.0.2 "+Server+" "+Other+"\n")
	run(t, "modprobe", "tls")
	x.shim()
	t.Cleanup(func() {
		x.tlshd.stop()
		write(t, "/etc/hosts", 0o644, string(before))
		if t.Failed() {
			t.Logf("tlshd says:\n%s", x.tlshd.log.String()[max(0, x.tlshd.log.Len()-3000):])
		}
	})
	x.Start(Well())
	return x
}

// shim lets tlshd work without the key type if the kernel lacks it.
func (x *TLS) shim() {
	x.t.Helper()
	if types, _ := os.ReadFile("/proc/crypto"); bytes.Contains(types, []byte("pkcs1pad")) {
		return // the kernel has public keys
	}
	write(x.t, x.dir+"/asymmetric.c", 0o600, asymmetric)
	run(x.t, "gcc", "-O1", "-shared", "-fPIC", "-o", x.dir+"/asymmetric.so", x.dir+"/asymmetric.c")
	x.tlshd.env = []string{"LD_PRELOAD=" + x.dir + "/asymmetric.so"}
}

// Start restarts tlshd, and waits until it is registered with the kernel.
func (x *TLS) Start(p Peers) {
	x.t.Helper()
	x.Stop()
	section := func(name, ca, certificate string) string {
		text := "[authenticate." + name + "]\nx509.truststore=" + x.dir + "/" + ca + ".pem\n"
		if certificate != "" {
			text += "x509.certificate=" + x.dir + "/" + certificate + ".pem\nx509.private_key=" + x.dir + "/" + certificate + ".key\n"
		}
		return text
	}
	trusted := "ca"
	if p.Strange {
		trusted = "strange"
	}
	write(x.t, x.dir+"/tlshd.conf", 0o600, "[debug]\nloglevel=1\n"+section("client", trusted, p.Client)+section("server", "ca", p.Server))
	x.tlshd.start(x.t)
	at := x.t.TempDir()
	until(x.t, "the kernel knows tlshd", func() bool {
		out, err := exec.Command("mount", "-t", "nfs", "-o", "nfsvers=3,nolock,retry=0,xprtsec=tls", Server+":/exports", at).CombinedOutput()
		if err == nil {
			run(x.t, "umount", at)
		}
		return !strings.Contains(string(out), "No such process")
	})
}

// Stop ends tlshd.
func (x *TLS) Stop() { x.tlshd.stop() }

// Export makes the server export TLSExport and MTLSExport, with the programs in TLSPrograms.
func (x *TLS) Export() {
	x.t.Helper()
	guest(x.t)
	if _, err := os.Stat("/run/export" + MTLSExport); err == nil {
		return // another test of this guest has done it
	}
	pid := strings.TrimSpace(run(x.t, "pidof", "rpc.mountd"))
	run(x.t, "kill", pid)
	until(x.t, "rpc.mountd ends", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return err != nil
	})
	export(x.t, x.programs+"/exportfs", "xprtsec=NAME", strings.Trim(TLSExport, "/"), strings.Trim(MTLSExport, "/"))
	run(x.t, x.programs+"/rpc.mountd")
}

// Restart makes the server drop all connections. "server stop" of the lab would use an older exportfs,
// which withdraws exports with options that it does not support.
func (x *TLS) Restart() {
	x.t.Helper()
	run(x.t, "rpc.nfsd", "0")
	run(x.t, "rpc.nfsd", "--grace-time", "10", "--lease-time", "10", "8")
}

// Issue makes a certificate.
func (x *TLS) Issue(name string, life time.Duration, dns string) {
	x.t.Helper()
	x.ca.issue(x.t, x.dir, name, life, dns)
}

// IssueStrange makes a certificate of the other authority.
func (x *TLS) IssueStrange(name, dns string) {
	x.t.Helper()
	x.strange.issue(x.t, x.dir, name, time.Hour, dns)
}

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newAuthority makes an authority and its certificate dir/name.pem.
func newAuthority(t testing.TB, dir, name string) *authority {
	t.Helper()
	a := &authority{&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, newKey(t)}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &a.key.PublicKey, a.key)
	writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", der, err)
	return a
}

// issue makes dir/name.pem and dir/name.key.
func (a *authority) issue(t testing.TB, dir, name string, life time.Duration, dns string) {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: dns}, DNSNames: []string{dns}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   a.certificate.NotBefore, NotAfter: time.Now().Add(life),
	}, a.certificate, &key.PublicKey, a.key)
	writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", der, err)
	der, err = x509.MarshalECPrivateKey(key)
	writePEM(t, filepath.Join(dir, name+".key"), "EC PRIVATE KEY", der, err)
}

func writePEM(t testing.TB, path, kind string, der []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, 0o600, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}
