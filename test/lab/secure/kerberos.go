// SPDX-License-Identifier: Apache-2.0

package secure

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// KerberosPrograms is the environment variable with the directory of krb5kdc, kdb5_util, kadmin.local
// and kinit.mit.
const KerberosPrograms = "MOORING_KERBEROS"

// KerberosExport is exported only with sec=krb5, krb5i and krb5p.
const KerberosExport = "/krb"

// The daemons of a realm.
const (
	KDC     = "krb5kdc"
	Gssd    = "rpc.gssd"    // the client's
	Svcgssd = "rpc.svcgssd" // the server's
	idmapd  = "rpc.idmapd"  // the server's
)

const (
	realmName    = "EXAMPLE.COM"
	keytab       = "/etc/krb5.keytab"
	idmapConf    = "/etc/idmapd.conf"
	machine      = "nfs/" + node
	krb5Conf     = "[libdefaults]\ndefault_realm = EXAMPLE.COM\ndns_lookup_kdc = false\ndns_lookup_realm = false\nrdns = false\n[realms]\nEXAMPLE.COM = {\nkdc = 127.0.0.1:88\n}\n[domain_realm]\n.example.com = EXAMPLE.COM\n"
	kdcConf      = "[kdcdefaults]\nkdc_ports = 88\nkdc_tcp_ports = 88\n[realms]\nEXAMPLE.COM = {\ndatabase_module = lab\ndatabase_name = DIR/principal\nkey_stash_file = DIR/stash\nmax_life = 10h\nsupported_enctypes = aes256-cts-hmac-sha1-96:normal\n}\n[dbmodules]\ndb_module_dir = PROGRAMS/lib/krb5/plugins/kdb\nlab = {\ndb_library = db2\n}\n"
	idmapUnnamed = "[General]\nDomain = example.com\n[Mapping]\nNobody-User = nobody\nNobody-Group = nogroup\n"
	idmapNamed   = idmapUnnamed + "[Translation]\nMethod = static,nsswitch\n[Static]\n" + machine + "@" + realmName + " = root\n"
)

// A Realm is a Kerberos realm with its KDC. The guest is client and server in it.
type Realm struct {
	t        testing.TB
	dir      string
	programs string
	daemons  map[string]*daemon
}

// NewRealm sets a realm up until the test ends. The users alice and bob, 2000 and 2001, have an account
// and a principal, and carol, 4321, has only a principal. root of the client is root.
func NewRealm(t testing.TB) *Realm {
	t.Helper()
	programs := os.Getenv(KerberosPrograms)
	if programs == "" {
		t.Skip("there is no KDC: make test-kerberos")
	}
	guest(t)
	dir := t.TempDir()
	kdc := []string{"KRB5_KDC_PROFILE=" + dir + "/kdc.conf"}
	r := &Realm{t: t, dir: dir, programs: programs, daemons: map[string]*daemon{
		KDC:     {args: []string{programs + "/" + KDC, "-n"}, env: kdc},
		Gssd:    {args: []string{Gssd, "-f", "-vv"}},
		Svcgssd: {args: []string{Svcgssd, "-f", "-n", "-vv"}},
		idmapd:  {args: []string{idmapd, "-f", "-S"}},
	}}
	r.files()
	t.Setenv("KRB5_KDC_PROFILE", dir+"/kdc.conf")
	run(t, programs+"/kdb5_util", "create", "-s", "-r", realmName, "-P", "master")
	_ = os.Remove(keytab)
	for _, name := range []string{"nfs/" + Server, machine} {
		r.Admin("addprinc -randkey " + name)
		r.Admin("ktadd -k " + keytab + " " + name)
	}
	for _, user := range []string{"alice", "bob", "carol"} {
		r.Admin("addprinc -pw " + user + "pw " + user)
	}
	run(t, "modprobe", "-a", "auth_rpcgss", "rpcsec_gss_krb5")
	export(t, "exportfs", "sec=krb5:krb5i:krb5p", strings.Trim(KerberosExport, "/"))
	t.Cleanup(func() {
		for name, d := range r.daemons {
			d.stop()
			if t.Failed() {
				t.Logf("%s says:\n%s", name, d.log.String()[max(0, d.log.Len()-2000):])
			}
		}
		tickets, _ := filepath.Glob("/tmp/krb5cc*")
		for _, ticket := range tickets {
			_ = os.Remove(ticket)
		}
	})
	r.Start(KDC)
	r.Map(true)
	r.Start(Gssd)
	return r
}

// files writes the realm's files in the guest's /etc.
func (r *Realm) files() {
	t := r.t
	t.Helper()
	if err := syscall.Sethostname([]byte(node)); err != nil {
		t.Fatal(err)
	}
	write(t, "/etc/hosts", 0o644, "127.0.0.1 localhost kdc.example.com\n127.0.0.2 "+Server+"\n127.0.0.4 "+Other+"\n127.0.0.3 "+node+"\n")
	write(t, "/etc/nsswitch.conf", 0o644, "hosts: files\npasswd: files\ngroup: files\nservices: files\nprotocols: files\nnetworks: files\n")
	if passwd, _ := os.ReadFile("/etc/passwd"); !strings.Contains(string(passwd), "alice") {
		write(t, "/etc/passwd", 0o644, string(passwd)+"alice:x:2000:2000::/:/bin/sh\nbob:x:2001:2001::/:/bin/sh\n")
		group, _ := os.ReadFile("/etc/group")
		write(t, "/etc/group", 0o644, string(group)+"alice:x:2000:\nbob:x:2001:\n")
	}
	write(t, "/etc/krb5.conf", 0o644, krb5Conf)
	write(t, r.dir+"/kdc.conf", 0o644, strings.NewReplacer("DIR", r.dir, "PROGRAMS", r.programs).Replace(kdcConf))
}

// Admin runs commands of kadmin.
func (r *Realm) Admin(what string) {
	r.t.Helper()
	run(r.t, r.programs+"/kadmin.local", "-q", what)
}

// Start starts daemons.
func (r *Realm) Start(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.daemons[name].start(r.t)
	}
}

// Stop ends daemons.
func (r *Realm) Stop(names ...string) {
	for _, name := range names {
		r.daemons[name].stop()
	}
}

// Map maps the client's root to root or nobody on the server, and drops the server's cached mappings.
func (r *Realm) Map(root bool) {
	r.t.Helper()
	text := idmapUnnamed
	if root {
		text = idmapNamed
	}
	write(r.t, idmapConf, 0o644, text)
	r.Stop(Svcgssd, idmapd)
	r.Forget()
	r.Start(Svcgssd, idmapd)
}

// Forget drops all cached contexts and names of the kernel.
func (r *Realm) Forget() {
	r.t.Helper()
	for _, cache := range []string{"auth.rpcsec.context", "auth.rpcsec.init", "nfs4.idtoname", "nfs4.nametoid"} {
		write(r.t, "/proc/net/rpc/"+cache+"/flush", 0, fmt.Sprint(time.Now().Unix()+1))
	}
	_ = exec.Command("nfsidmap", "-c").Run() // fails if the cache is empty
}

// ForgetTickets makes the machine ask the KDC for a new ticket at the next mount.
func (r *Realm) ForgetTickets() {
	tickets, _ := filepath.Glob("/tmp/krb5ccmachine*")
	for _, ticket := range tickets {
		_ = os.Remove(ticket)
	}
}

// Keytab gives the machine its keys, or removes them.
func (r *Realm) Keytab(there bool) {
	r.t.Helper()
	from, to := keytab, keytab+".away"
	if there {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		r.t.Fatal(err)
	}
}

// Ticket gets a user a ticket.
func (r *Realm) Ticket(user string, uid int, life time.Duration) {
	r.t.Helper()
	cache := fmt.Sprintf("/tmp/krb5cc_%d", uid)
	cmd := exec.Command(r.programs+"/kinit.mit", "-c", cache, "-l", life.String(), user)
	cmd.Stdin = strings.NewReader(user + "pw\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("kinit %s: %v: %s", user, err, out)
	}
	if err := os.Chown(cache, uid, uid); err != nil {
		r.t.Fatal(err)
	}
}

// Wait waits until the file system at a path returns an error to the machine.
func (r *Realm) Wait(at string, errno syscall.Errno) {
	r.t.Helper()
	until(r.t, "the ticket ends", func() bool {
		var st syscall.Statfs_t
		return errors.Is(syscall.Statfs(at, &st), errno)
	})
}

// As runs a command with a user id.
func As(uid int, command ...string) (string, error) {
	id := fmt.Sprint(uid)
	args := append([]string{"--reuid", id, "--regid", id, "--clear-groups", "timeout", "-k", "1", "70"}, command...)
	out, err := exec.Command("setpriv", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
