// SPDX-License-Identifier: Apache-2.0

//go:build lab

package secure

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab/secure"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// seen returns the local path on the server of a name under the Kerberos export.
func seen(elements ...string) string {
	return filepath.Join(append([]string{"/run/export", secure.KerberosExport}, elements...)...)
}

// TestKerberosVolumes takes volumes through their lives on a share with each kind of Kerberos.
func TestKerberosVolumes(t *testing.T) {
	secure.NewRealm(t)
	for _, c := range [][2]string{{"4.2", "krb5"}, {"4.2", "krb5i"}, {"4.2", "krb5p"}, {"4.1", "krb5p"}, {"4.0", "krb5i"}} {
		r := newRig(t, secure.Server, secure.KerberosExport, "nfsvers="+c[0], "sec="+c[1])
		r.life("v"+c[0]+c[1], "sec="+c[1])
	}
}

// TestKerberosOwners checks that the copy of a file whose owner has no name is refused: nobody would own
// it, and carol, whom the server maps to nobody, could read it.
func TestKerberosOwners(t *testing.T) {
	realm := secure.NewRealm(t)
	r := newRig(t, secure.Server, secure.KerberosExport, "nfsvers=4.2", "sec=krb5p")
	v := must(r.create("owners", nil))
	at := must(r.publish(v))
	must(0, os.WriteFile(filepath.Join(at, "secret"), []byte("secret"), 0o600))
	s := must(r.snapshot("owners-good", v.GetVolumeId()))
	must(0, os.Chown(seen("owners", "secret"), 7777, 7777))
	realm.Ticket("carol", 4321, time.Hour)
	if out, err := secure.As(4321, "cat", filepath.Join(at, "secret")); err == nil {
		t.Errorf("carol reads %q", out)
	}
	words := []string{`"secret"`, "its owner is shown as 65534:65534", "or an owner without a name", "give the owner and the group names on the server"}
	_, err := r.snapshot("owners-bad", v.GetVolumeId())
	r.refuses(err, codes.FailedPrecondition, words...)
	_, err = r.create("owners-cloned", fromVolume(v.GetVolumeId()))
	r.refuses(err, codes.FailedPrecondition, words...)
	must(0, os.Chown(seen(".mooring", "snapshots", "owners-good", "data", "secret"), 7777, 7777))
	_, err = r.create("owners-restored", fromSnapshot(s))
	r.refuses(err, codes.FailedPrecondition, words...)
	left, err := filepath.Glob(seen("owners-*"))
	if len(left) > 0 || err != nil {
		t.Errorf("%v is left", left)
	}
	must(0, os.Chown(seen("owners", "secret"), 2000, 2000)) // alice
	must(r.snapshot("owners-bad", v.GetVolumeId()))
	_, err = r.create("owners-uid", nil, "uid", "7777", "gid", "2000")
	r.refuses(err, codes.InvalidArgument, "set its owner to 7777:2000", "maps owners by name (Kerberos)")
	must(r.create("owners-named", nil, "uid", "2000", "gid", "2000"))
	r.doctorSays("by name, because of Kerberos", "files that root creates belong to root")
	r.unpublish(v, at)
}

// TestKerberosNobody maps root to nobody on the server: then copies are as with root_squash.
func TestKerberosNobody(t *testing.T) {
	realm := secure.NewRealm(t)
	must(0, os.Chmod(seen(), 0o777))
	empty := func() {
		all, _ := filepath.Glob(seen("*"))
		for _, path := range append(all, seen(".mooring")) {
			must(0, os.RemoveAll(path))
		}
	}
	empty()
	defer func() { empty(); must(0, os.Chmod(seen(), 0o755)) }()
	realm.Map(false)
	r := newRig(t, secure.Server, secure.KerberosExport, "nfsvers=4.2", "sec=krb5p")
	v := must(r.create("nobody", nil, "mountPermissions", "0777"))
	at := must(r.publish(v))
	must(0, os.WriteFile(filepath.Join(at, "file"), nil, 0o600))
	must(r.snapshot("nobody-snap", v.GetVolumeId()))
	realm.Ticket("alice", 2000, time.Hour)
	if out, err := secure.As(2000, "touch", filepath.Join(at, "of-alice")); err != nil {
		t.Errorf("alice: %v: %s", err, out)
	}
	_, err := r.snapshot("nobody-other", v.GetVolumeId())
	r.refuses(err, codes.PermissionDenied, `"of-alice"`, "operation not permitted")
	r.doctorSays("files that root creates belong to user 65534", "Method = static,nsswitch in Translation")
	r.unpublish(v, at)
}

// TestKerberosFails checks that controller, node and doctor name each fault.
func TestKerberosFails(t *testing.T) {
	realm := secure.NewRealm(t)
	failed := []string{"Kerberos has failed", "journal of rpc-gssd", "no key in /etc/krb5.keytab", "its KDC does not answer"}
	for _, c := range []struct {
		name, server, option string
		begin, end           func()
		code                 codes.Code
		words                []string
		doctor               string
	}{
		{"no rpc.gssd", secure.Server, "sec=krb5p", func() { realm.Stop(secure.Gssd) }, func() { realm.Start(secure.Gssd) },
			codes.FailedPrecondition, []string{"rpc.gssd does not run on this node", "start rpc.gssd"}, "systemctl start rpc-gssd"},
		{"no keytab", secure.Server, "sec=krb5p", func() { realm.Keytab(false) }, func() { realm.Keytab(true) }, codes.PermissionDenied, failed, "kinit -k nfs/"},
		{"no KDC", secure.Server, "sec=krb5i", func() { realm.Stop(secure.KDC) }, func() { realm.Start(secure.KDC) }, codes.PermissionDenied, failed, "kinit -k nfs/"},
		{"another name", secure.Other, "sec=krb5", func() {}, func() {}, codes.PermissionDenied, append(failed, "is not that of its principal"), "kinit -k nfs/"},
		{"without Kerberos", secure.Server, "sec=sys", func() {}, func() {}, codes.PermissionDenied,
			[]string{"the export asks for more than the mount options", "sec=krb5"}, "set xprtsec= or sec= in the share's mountOptions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			realm.ForgetTickets()
			c.begin()
			defer c.end()
			r := newRig(t, c.server, secure.KerberosExport, "nfsvers=4.2", c.option)
			_, err := r.create("v", nil)
			r.refuses(err, c.code, c.words...)
			_, err = r.publish(absent("v"))
			r.refuses(err, c.code, c.words...)
			r.doctorSays(c.doctor)
		})
	}
}

// life is the lifetime of a ticket that the test lets expire.
const life = 20 * time.Second

// TestKerberosEnds lets the machine's ticket expire while a share is mounted, without a new one: every call
// ends soon and reports why. With the key, the KDC or the daemon back everything continues.
func TestKerberosEnds(t *testing.T) {
	// Linux 7.2.7 panics when a delegation is returned with an expired ticket while its client is removed
	// (nfs4_delegreturn_done): therefore the server grants none.
	const leases = "/proc/sys/fs/leases-enable"
	must(0, os.WriteFile(leases, []byte("0"), 0))
	defer func() { must(0, os.WriteFile(leases, []byte("1"), 0)) }()
	realm := secure.NewRealm(t)
	for _, principal := range []string{"nfs/node1.example.com", "nfs/" + secure.Server} {
		realm.Admin("modprinc -maxlife 20s " + principal)
	}
	for _, c := range []struct {
		name       string
		begin, end func()
	}{
		{"key", func() { realm.Keytab(false) }, func() { realm.Keytab(true) }},
		{"KDC", func() { realm.Stop(secure.KDC) }, func() { realm.Start(secure.KDC) }},
		{"rpc.gssd", func() { realm.Stop(secure.Gssd) }, func() { realm.Start(secure.Gssd) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			realm.ForgetTickets()
			r := newRig(t, secure.Server, secure.KerberosExport, "nfsvers=4.2", "sec=krb5p")
			v := must(r.create("ends", nil))
			at := must(r.publish(v))
			c.begin()
			realm.ForgetTickets()
			realm.Wait(at, unix.EACCES)
			r.deniedSoon(v, at, "its Kerberos ticket has expired")
			c.end()
			r.goesOn(v, at)
		})
	}
}

// TestKerberosUser lets a user's ticket expire while a file is open: buffered data is lost, and fsync
// reports it.
func TestKerberosUser(t *testing.T) {
	realm := secure.NewRealm(t)
	r := newRig(t, secure.Server, secure.KerberosExport, "nfsvers=4.2", "sec=krb5p")
	v := must(r.create("user", nil, "uid", "2001", "gid", "2001"))
	at := must(r.publish(v))
	if out, err := secure.As(2001, "touch", filepath.Join(at, "no-ticket")); err == nil {
		t.Errorf("without a ticket: %s", out)
	} else {
		r.has(out, "Permission denied")
	}
	realm.Ticket("bob", 2001, life)
	const script = `exec 7>"$0/file"
		for i in {1..60}; do
			echo line >&7 || { echo "write failed"; exit; }
			sync "$0/file" 2>/tmp/bob.err || { echo "write ok"; cat /tmp/bob.err; break; }
			sleep 1
		done
		ls "$0" || :`
	out, err := secure.As(2001, "bash", "-c", script, at)
	if err != nil {
		t.Error(err)
	}
	// What comes first after the expiry decides: a write into the page cache succeeds, and fsync reports
	// that it is lost; or the write has to check the file's attributes, which is refused.
	if !strings.Contains(out, "echo: write error: Permission denied") {
		r.has(out, "write ok", "Key has expired")
	}
	realm.Ticket("bob", 2001, time.Hour)
	if out, err := secure.As(2001, "touch", filepath.Join(at, "again")); err != nil {
		t.Errorf("with a new ticket: %v: %s", err, out)
	}
	r.unpublish(v, at)
}
