// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/doctor"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// clockEnv is the clock error of a doctor's child that is this test program.
const clockEnv = "MOORING_TEST_CLOCK"

// doctorsChild is the main function of the test program as a doctor's child.
func doctorsChild() {
	off, err := time.ParseDuration(os.Getenv(clockEnv))
	if err == nil {
		err = doctor.Child(os.Stdin, os.Stdout, func() time.Time { return time.Now().Add(off) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// shell runs a script as root of the lab.
func shell(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("bash", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// sick is one fault in the lab.
type sick struct {
	name string
	// begin causes it until the test ends.
	begin  func(t *testing.T)
	export string   // the export of the share; "": exports
	path   string   // instead
	server string   // instead of the lab's
	lines  []string // in the share's entry
	args   []string
	wrap   []string // a command that runs the doctor
	// want is the cause for each check that has one, with the server if there are several.
	want map[string]string
	says string // in one of the findings
	exit int
}

// withoutProgram runs a command in a mount namespace without mount.nfs.
const withoutProgram = `mkdir -p /run/sbin; mount -t tmpfs lab /run/sbin; mkdir /run/sbin/{upper,work}
	mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/sbin/upper,workdir=/run/sbin/work lab /usr/sbin
	rm /usr/sbin/mount.nfs; exec "$@"`

func sicknesses() []sick {
	return []sick{
		{name: "good"},
		{name: "times", begin: delegates, want: map[string]string{"times": "delegated"}, says: "another client sees a time that differs by 10m", exit: 1},
		{name: "times by 4.1", begin: delegates, lines: []string{"mountOptions: [nfsvers=4.1]"}},
		{name: "good by 3", lines: []string{"mountOptions: [nfsvers=3]"}},
		{name: "good by 4.1", lines: []string{"mountOptions: [nfsvers=4.1]"}, says: "it is mounted with 4.1"},
		{name: "stopped", begin: func(t *testing.T) { outage(t, "stop", "start") }, want: map[string]string{"answers": "refused"}, exit: 3},
		{name: "stopped, by 3", begin: func(t *testing.T) { outage(t, "stop", "start") }, lines: []string{"mountOptions: [nfsvers=3]"}, want: map[string]string{"answers": "refused"}, exit: 3},
		{name: "rpcbind silent", begin: cutRpcbind, server: "10.77.0.2", path: "/second", says: "3 was not tried"},
		{name: "rpcbind silent, by 3", begin: cutRpcbind, server: "10.77.0.2", path: "/second", lines: []string{"mountOptions: [nfsvers=3]"}, want: map[string]string{"rpcbind": "no-rpcbind"}, exit: 3},
		{name: "rpcbind silent, and not needed", begin: cutLocalRpcbind, lines: []string{"mountOptions: [nfsvers=3, proto=tcp, port=2049, mountport=" + mountdPort() + ", nolock]"}, want: map[string]string{"locks": "local"}, says: "proto, port, mountport and nolock are among the options", exit: 1},
		{name: "grace", begin: grace, want: map[string]string{"locks": "grace"}, exit: 1},
		{name: "grace by 3", begin: grace, lines: []string{"mountOptions: [nfsvers=3]"}, want: map[string]string{"locks": "grace"}, exit: 1},
		{name: "silent", begin: func(t *testing.T) { outage(t, "cut", "heal") }, want: map[string]string{"answers": "silent"}, exit: 3},
		{name: "unresolved", server: "no-such-host.invalid", want: map[string]string{"resolves": "unresolved"}, exit: 3},
		{name: "no NFS", lines: []string{"mountOptions: [port=2222]"}, begin: stranger, want: map[string]string{"answers": "no-nfs"}, exit: 3},
		{name: "not exported", path: "/elsewhere", want: map[string]string{"exported": "not-exported"}, says: "the server exports /exports", exit: 3},
		{name: "exported to others", begin: exportToOthers, path: "/others", want: map[string]string{"exported": "not-to-us"}, says: "10.9.9.9", exit: 3},
		{name: "wrong path", path: lab.Exports + "/no/such/path", want: map[string]string{"path": "no-path"}, says: "/no/such/path", exit: 3},
		{name: "wrong path by 3", path: lab.Exports + "/no/such/path", lines: []string{"mountOptions: [nfsvers=3]"}, want: map[string]string{"path": "no-path"}, exit: 3},
		{name: "root of NFS 4", begin: otherRoot, path: lab.Exports + "/root", want: map[string]string{"path": "other-root"}, says: "with NFS 3 the path is /exports/root, with NFS 4 it is /: the server's NFSv4 root is /exports/root", exit: 3},
		{name: "under the root of NFS 4", begin: otherRoot, path: lab.Exports + "/root/sub", want: map[string]string{"path": "other-root"}, says: "3; with 4.0, 4.1 and 4.2 the path is /sub", exit: 3},
		{name: "under the root of NFS 4, by 4.2", begin: otherRoot, path: lab.Exports + "/root/sub", lines: []string{"mountOptions: [nfsvers=4.2]"}, want: map[string]string{"path": "other-root"}, says: "with NFS 4 it is /sub", exit: 3},
		{name: "under the root of NFS 4, by 3", begin: otherRoot, path: lab.Exports + "/root/sub", lines: []string{"mountOptions: [nfsvers=3]"}, says: "the path is /sub"},
		{name: "bad option", lines: []string{"mountOptions: [bananas]"}, want: map[string]string{"mounts": "bad-option"}, exit: 3},
		{name: "read-only", export: "readonly", want: map[string]string{"writable": "read-only"}, exit: 3},
		{name: "gone read-only", begin: disk("readonly"), server: secondServer, path: "/disk-ext4", want: map[string]string{"writable": "read-only"}, exit: 3},
		{name: "disk failing", begin: disk("error_writes"), server: secondServer, path: "/disk-ext4", want: map[string]string{"writable": "disk-failed"}, exit: 3},
		{name: "squashed", export: "squash", want: map[string]string{"root": "squashed"}, says: "files that root creates belong to user 65534", exit: 1},
		{name: "everybody squashed", begin: squashAll, path: "/one", want: map[string]string{"root": "all-squashed"}, says: "files that any user creates belong to user 1000", exit: 1},
		{name: "everybody squashed, by 3", begin: squashAll, path: "/one", lines: []string{"mountOptions: [nfsvers=3]"}, want: map[string]string{"root": "all-squashed"}, exit: 1},
		{name: "closed", export: "closed", want: map[string]string{"writable": "not-allowed"}, exit: 3},
		{name: "no clones", export: "ext4", want: map[string]string{"clone": "no-clone"}, exit: 1},
		{name: "v3 only", begin: onlyV3, want: map[string]string{"versions": "only-3"}, says: "3, not 4.0, 4.1 and 4.2", exit: 1},
		{name: "v3 only, and asked for 4.2", begin: onlyV3, lines: []string{"mountOptions: [nfsvers=4.2]"}, want: map[string]string{"mounts": "no-version", "versions": "only-3"}, exit: 3},
		{name: "nolock", lines: []string{"mountOptions: [nfsvers=3, nolock]"}, want: map[string]string{"locks": "local"}, exit: 1},
		{name: "full", export: "small", begin: func(t *testing.T) { fill(t) }, want: map[string]string{"writable": "full", "space": "full"}, exit: 3},
		{name: "no inodes", export: "small", begin: useInodes, want: map[string]string{"writable": "no-inodes", "inodes": "none"}, exit: 3},
		{name: "no statd", begin: noStatd, lines: []string{"mountOptions: [nfsvers=3]"}, wrap: []string{"unshare", "-m", "bash", "-c", "mount --bind /dev/null /usr/sbin/start-statd; exec \"$@\"", "-"},
			want: map[string]string{"mounts": "no-statd", "statd": "no-statd"}, exit: 3},
		{name: "no mount.nfs", wrap: []string{"unshare", "-m", "bash", "-ec", withoutProgram, "-"},
			want: map[string]string{"client": "no-program", "mounts": "no-program"}, exit: 3},
		{name: "not root", wrap: []string{"setpriv", "--reuid", "65534", "--clear-groups"}, want: map[string]string{"privilege": "no-privilege"}, exit: 3},
		{name: "one of two servers", server: "no-such-host.invalid, 127.0.0.1", want: map[string]string{"no-such-host.invalid resolves": "unresolved"}, exit: 3},
		{name: "not given", args: []string{"--shares-dir", "/nowhere"}, want: map[string]string{"mounts": "not-given"}, exit: 3},
	}
}

// disk causes an accident of the second server's disk.
func disk(accident string) func(t *testing.T) {
	return func(t *testing.T) {
		if err := errors.Join(lab.Do("second"), lab.Do("second", "disk", "ext4")); err != nil {
			t.Fatal(err)
		}
		failing{site: &site{t: t}, kind: "ext4"}.breakDisk(accident)
	}
}

// TestDoctor runs the doctor on a share with one fault: it reports only that one, within seconds, and
// does not change the share.
func TestDoctor(t *testing.T) {
	leases(t, "0") // otherwise this server loses times
	for _, s := range sicknesses() {
		t.Run(s.name, func(t *testing.T) {
			site := s.site(t)
			if s.begin != nil {
				s.begin(t)
			}
			examine := func() { s.examine(t, site) }
			if st, err := os.Stat(site.export); err != nil || !st.IsDir() {
				examine()
			} else {
				unchanged(t, site.export, examine)
			}
			if left := mountsIn(t, "/mnt"); len(left) > 0 {
				t.Errorf("something is mounted at %s", left[0].Mountpoint)
			}
		})
	}
}

func (s sick) site(t *testing.T) *site {
	t.Helper()
	var of *site
	switch {
	case s.path != "":
		of = newSiteAt(t, s.path, s.path, s.lines...)
	case s.export != "":
		mode := os.FileMode(0o755)
		if s.export == "squash" {
			mode = os.ModeSticky | 0o777
		}
		of = exported(t, s.export, mode)
	default:
		dir := exportDir(t, "share")
		of = newSiteAt(t, dir, dir, s.lines...)
	}
	if s.server != "" {
		of.config = strings.Replace(of.config, lab.Server, s.server, 1)
	}
	return of
}

// examine runs the doctor and checks its findings.
func (s sick) examine(t *testing.T, of *site) {
	t.Helper()
	report, took, status := runDoctor(t, of, s.wrap, s.args...)
	got, text := map[string]string{}, ""
	for _, f := range findings(report) {
		text += fmt.Sprintf("%s %s %s %s: %s\n", f.Server, f.Check, f.Status, f.Cause, f.Detail)
		switch f.Status {
		case doctor.Warn, doctor.Fail:
			got[strings.TrimSpace(f.Server+" "+f.Check)] = f.Cause
			if f.Why == "" || f.Remedy == "" {
				t.Errorf("%s, %s has no explanation or remedy", f.Check, f.Cause)
			}
		case doctor.Skip:
			if s.name == "good" && f.Check != "statd" && f.Check != "tls" {
				t.Errorf("of a good share %s is not examined: %s", f.Check, f.Detail)
			}
		}
		if f.Detail == "" {
			t.Errorf("%s tells nothing", f.Check)
		}
	}
	if want := s.want; !maps.Equal(got, want) || status != s.exit || !strings.Contains(text, s.says) {
		t.Errorf("the doctor finds %v, and not %v; it ends with %d, and not %d; it says (%q is wanted):\n%s", got, want, status, s.exit, s.says, text)
	}
	if took > prompt {
		t.Errorf("it took %v", took)
	}
	t.Logf("%v: %v", took.Round(10*time.Millisecond), got)
}

func findings(r doctor.Report) []doctor.Finding {
	all := r.Node
	for _, s := range r.Shares {
		all = append(all, s.Findings...)
	}
	return all
}

// ctl returns the path of mooringctl, which is beside the driver.
func ctl(t *testing.T) string {
	t.Helper()
	driver := os.Getenv("MOORING_BINARY")
	if driver == "" {
		t.Fatal("MOORING_BINARY does not say where the programs are: run this by make")
	}
	return filepath.Join(filepath.Dir(driver), "mooringctl")
}

// runDoctor runs the program on a site's share.
func runDoctor(t *testing.T, of *site, wrap []string, args ...string) (r doctor.Report, took time.Duration, status int) {
	t.Helper()
	config := filepath.Join(of.dir, "config.yaml")
	for path, mode := range map[string]os.FileMode{filepath.Dir(of.dir): 0o755, of.dir: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(config, []byte(of.config), 0o644); err != nil {
		t.Fatal(err)
	}
	command := append(append(wrap[:len(wrap):len(wrap)], ctl(t), "doctor", "nas1", "-o", "json", "--config", config), args...)
	cmd := exec.CommandContext(soon(t), command[0], command[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	out, err := cmd.Output()
	took = time.Since(start)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: the report is no JSON: %v: %s%s", command, err, out, &stderr)
	}
	if stderr.Len() > 0 {
		t.Errorf("on stderr, which is no terminal: %s", &stderr)
	}
	return r, took, cmd.ProcessState.ExitCode()
}

// stranger listens on port 2222 and is not an NFS server.
func stranger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:2222")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			conn.Close()
		}
	}()
}

// cutRpcbind drops packets to the second server's rpcbind, like a firewall.
func cutRpcbind(t *testing.T) {
	if err := lab.Do("second"); err != nil {
		t.Fatal(err)
	}
	shell(t, "tc qdisc add dev second clsact; tc filter add dev second egress protocol ip u32 match ip dport 111 0xffff action drop")
	t.Cleanup(func() { shell(t, "tc qdisc del dev second clsact") })
}

// cutLocalRpcbind drops packets to the first server's rpcbind.
func cutLocalRpcbind(t *testing.T) {
	shell(t, "tc qdisc add dev lo clsact; tc filter add dev lo egress protocol ip u32 match ip dport 111 0xffff action drop")
	t.Cleanup(func() { shell(t, "tc qdisc del dev lo clsact") })
}

// mountdPort returns the TCP port of the first server's mountd; "" if there is none.
func mountdPort() string {
	out, _ := exec.Command("rpcinfo", "-p", lab.Server).Output()
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "100005" && f[1] == "3" && f[2] == "tcp" {
			return f[3]
		}
	}
	return ""
}

// leases sets whether the server may delegate anything.
func leases(t *testing.T, enable string) {
	const file = "/proc/sys/fs/leases-enable"
	before, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(enable), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(file, before, 0o644) })
}

// delegates restores the server's default, delegations: Linux 7.2 loses times then.
func delegates(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil || !strings.HasPrefix(unix.ByteSliceToString(u.Release[:]), "7.2.") {
		t.Skip("of other kernels it is not known whether they lose times")
	}
	leases(t, "1")
}

// grace keeps the server in the grace period of a restart for the whole test.
func grace(t *testing.T) {
	const start = "rpc.nfsd 0; rpc.nfsd --grace-time %d --lease-time 10 -V 3 -V 4 -V 4.0 -V 4.1 -V 4.2 8"
	shell(t, fmt.Sprintf(start, 60))
	t.Cleanup(func() {
		shell(t, fmt.Sprintf(start, 10))
		if err := lab.Do("settle"); err != nil {
			t.Error(err)
		}
	})
}

// exportToOthers exports /others to a machine that is not this one.
func exportToOthers(t *testing.T) {
	shell(t, `mkdir -p /exports/.others /run/export/others; mount --bind /exports/.others /run/export/others
		cp /etc/exports /run/exports.before; echo '/others 10.9.9.9(rw,sync,no_subtree_check)' >>/etc/exports; exportfs -ra`)
	t.Cleanup(func() {
		// Detached, because nfsd may still use it for a while.
		shell(t, `cat /run/exports.before >/etc/exports; exportfs -ra; exportfs -f; umount -l /run/export/others; rmdir /exports/.others`)
	})
}

// otherRoot makes the paths of NFS 4 begin at /exports/root.
func otherRoot(t *testing.T) {
	shell(t, `mkdir -p /exports/root/sub; cp /etc/exports /run/exports.before
		echo '/exports/root *(rw,sync,no_subtree_check,no_root_squash,insecure,fsid=0)' >>/etc/exports; exportfs -ra`)
	t.Cleanup(func() {
		shell(t, `cat /run/exports.before >/etc/exports; exportfs -ra; exportfs -f; rm -r /exports/root`)
	})
}

// squashAll exports /one and maps every user to 1000 there, like a NAS.
func squashAll(t *testing.T) {
	shell(t, `mkdir -p /exports/.one /run/export/one; chown 1000:1000 /exports/.one; mount --bind /exports/.one /run/export/one; cp /etc/exports /run/exports.before
		echo '/one *(rw,sync,no_subtree_check,no_root_squash,insecure,all_squash,anonuid=1000,anongid=1000)' >>/etc/exports; exportfs -ra`)
	t.Cleanup(func() {
		shell(t, `cat /run/exports.before >/etc/exports; exportfs -ra; exportfs -f; umount -l /run/export/one; rmdir /exports/.one`)
	})
}

// onlyV3 makes the server serve only NFS 3, without waiting for earlier clients.
func onlyV3(t *testing.T) {
	shell(t, "rpc.nfsd 0; rpc.nfsd --grace-time 10 --lease-time 10 -V 3 -N 4 8")
	t.Cleanup(func() {
		shell(t, "rpc.nfsd 0; rpc.nfsd --grace-time 10 --lease-time 10 -V 3 -V 4 -V 4.0 -V 4.1 -V 4.2 8")
		if err := lab.Do("settle"); err != nil {
			t.Error(err)
		}
	})
	if err := lab.Do("settle"); err != nil {
		t.Fatal(err)
	}
}

// noStatd ends rpc.statd until the test ends.
func noStatd(t *testing.T) {
	const end = "read -r pid </run/rpc.statd.pid && kill $pid && while [ -d /proc/$pid ]; do sleep 0.05; done"
	shell(t, end)
	t.Cleanup(func() { shell(t, "{ "+end+"; } || true; rpc.statd --no-notify") })
}

// fill takes all space of the small export. Space of removed files may become free only now, and a
// write of many blocks ends before the last one: it continues block by block until none is free.
func fill(t *testing.T) {
	path := "/run/export/small/ballast"
	t.Cleanup(func() { _ = os.Remove(path) })
	eventually(t, waitTimeout, "the small export is full", func() bool {
		for _, size := range []string{"64K", "1K"} {
			_ = exec.Command("dd", "if=/dev/zero", "of="+path, "bs="+size, "oflag=append", "conv=notrunc,fsync").Run() // ends when it is full
		}
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Bavail == 0
	})
}

// useInodes uses all inodes of the small export.
func useInodes(t *testing.T) {
	dir := "/run/export/small/many"
	mkdir(t, dir)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for i := range 1000 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o600); errors.Is(err, syscall.ENOSPC) {
			return
		}
	}
	t.Fatal("inodes are left")
}

// TestDoctorClock makes the clock of the client wrong, since the server has the same one: the doctor is
// this program, and so is its child.
func TestDoctorClock(t *testing.T) {
	leases(t, "0")
	dir := exportDir(t, "share")
	def := volume.Share{Name: "nas1", Servers: []string{lab.Server}, Path: dir}
	for off, want := range map[time.Duration]string{10 * time.Second: "", -time.Minute: "off", time.Hour: "far-off"} {
		t.Setenv(clockEnv, off.String())
		d := doctor.Doctor{}
		unchanged(t, dir, func() {
			got := map[string]string{}
			for _, f := range findings(d.Examine(soon(t), []volume.Share{def})) {
				if f.Cause != "" || f.Check == "clock" && f.Status != doctor.OK {
					got[f.Check] = f.Cause
				}
			}
			if wants := map[string]string{"clock": want}; want != "" && !maps.Equal(got, wants) || want == "" && len(got) > 0 {
				t.Errorf("with a clock that is %v off it finds %v, and not %v", off, got, wants)
			}
		})
	}
}

// TestDoctorGiven checks shares that are already mounted: the doctor tests them in that mount.
func TestDoctorGiven(t *testing.T) {
	dir := exportDir(t, "share")
	s := newSiteAt(t, dir, dir)
	at := filepath.Join(s.dir, "shares", "nas1")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	shell(t, fmt.Sprintf("mount -t nfs -o softerr,timeo=50,retrans=2 %s:%s %s", lab.Server, dir, at))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	unchanged(t, dir, func() {
		// Without CAP_SYS_ADMIN, like a controller for which kubelet mounts.
		r, _, status := runDoctor(t, s, []string{"setpriv", "--bounding-set", "-sys_admin"}, "--shares-dir", filepath.Dir(at))
		for _, f := range findings(r) {
			skipped := f.Check == "privilege" || f.Check == "client" || f.Check == "versions" || f.Check == "statd" || f.Check == "tls" || f.Check == "renames"
			if skipped != (f.Status == doctor.Skip) || !skipped && f.Status != doctor.OK {
				t.Errorf("%s is %s: %s", f.Check, f.Status, f.Detail)
			}
		}
		if status != 0 {
			t.Errorf("it ends with %d", status)
		}
	})
}

// TestDoctorCut cuts the server off just before the doctor mounts the share, and just before it tries each
// version: the doctor ends within seconds and reports it.
func TestDoctorCut(t *testing.T) {
	leases(t, "0")
	for _, when := range []string{"and test it", "with each NFS version"} {
		t.Run(when, func(t *testing.T) {
			dir := exportDir(t, "share")
			def := volume.Share{Name: "nas1", Servers: []string{lab.Server}, Path: dir}
			var over func()
			d := doctor.Doctor{Progress: func(_, what string) {
				if strings.HasSuffix(what, when) {
					over = outage(t, "cut", "heal")
				}
			}}
			t.Setenv(clockEnv, "0s")
			start := time.Now()
			r := d.Examine(context.Background(), []volume.Share{def})
			took := time.Since(start)
			over()
			late := 0
			for _, f := range findings(r) {
				if f.Cause == "late" {
					late++
				} else if f.Cause != "" {
					t.Errorf("it finds %s: %s (%s)", f.Check, f.Cause, f.Detail)
				}
			}
			if late != 1 || took > prompt {
				t.Errorf("after %v it finds %d things late:\n%+v", took, late, r)
			}
		})
	}
}

// TestDoctorKilled kills doctors at any moment: they leave at most a probe file, which the doctor removes
// when it is an hour old.
func TestDoctorKilled(t *testing.T) {
	dir := exportDir(t, "share")
	s := newSiteAt(t, dir, dir)
	s.open() // lays out .mooring
	in := s.at(volume.StateDir)
	left := func() (names []string) {
		all, _ := filepath.Glob(in + "/.mooring-doctor-*")
		return all
	}
	config := filepath.Join(s.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(s.config), 0o600); err != nil {
		t.Fatal(err)
	}
	program := ctl(t)
	eventually(t, time.Minute, "one that is killed leaves something", func() bool {
		cmd := exec.Command(program, "doctor", "--config", config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		gone := make(chan error, 1)
		go func() { gone <- cmd.Wait() }()
		for len(left()) == 0 {
			select {
			case <-gone:
				return false
			default:
			}
		}
		for _, pid := range append(lab.Descendants(cmd.Process.Pid), cmd.Process.Pid) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		<-gone
		runDoctor(t, s, nil) // the killed one's requests to the server end before
		return len(left()) > 0
	})
	unchanged(t, dir, func() { runDoctor(t, s, nil) }) // the file is too young
	old := time.Now().Add(-2 * time.Hour)
	for _, path := range left() {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	runDoctor(t, s, nil)
	if names := left(); len(names) > 0 {
		t.Errorf("there is still %q", names)
	}
	s.empty()
}
