// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestExplain uses messages of mount(8) and of mount.nfs of nfs-utils 2.6.
func TestExplain(t *testing.T) {
	const source = "10.0.0.1:/x"
	for _, c := range []struct {
		said   string
		kind   error
		advice string
	}{
		{"mount.nfs: access denied by server while mounting 10.0.0.1:/x", volume.ErrRefused, "/etc/exports"},
		{"mount.nfs: mounting 10.0.0.1:/x failed, reason given by server: No such file or directory", volume.ErrPrecondition, "inside an export"},
		{"mount.nfs: mount spec 10.0.0.1:/x or point /mnt is not a directory", volume.ErrPrecondition, "not a directory on the server"},
		{"mount.nfs: Stale file handle", volume.ErrUnavailable, "check the export"},
		{"mount.nfs: Stale file handle for 10.0.0.1:/x on /mnt", volume.ErrUnavailable, "check the export"},
		{"mount.nfs: Connection refused", volume.ErrUnavailable, "port 2049"},
		{"mount.nfs: Connection refused for 10.0.0.1:/x on /mnt", volume.ErrUnavailable, "port 2049"},
		{"mount.nfs: No route to host", volume.ErrUnavailable, "firewall"},
		{"mount.nfs: Network is unreachable for 10.0.0.1:/x on /mnt", volume.ErrUnavailable, "route"},
		{"mount.nfs: Connection timed out", volume.ErrUnavailable, "port 2049"},
		{"mount.nfs: Connection timed out for 10.0.0.1:/x on /mnt", volume.ErrUnavailable, "port 2049"},
		{"mount.nfs: portmap query failed: RPC: Timed out", volume.ErrUnavailable, ""},
		{"mount.nfs: Failed to resolve server nas: Name or service not known", volume.ErrUnavailable, "DNS"},
		{"mount.nfs: Failed to resolve server nas: Temporary failure in name resolution", volume.ErrUnavailable, "DNS"},
		{"mount.nfs: rpc.statd is not running but is required for remote locking.\nmount.nfs: Either use '-o nolock' to keep locks local, or start statd.\nmount.nfs: Operation not permitted", volume.ErrPrecondition, "rpc.statd: start it"},
		{"mount.nfs: requested NFS version or transport protocol is not supported", volume.ErrPrecondition, "nfsvers"},
		{"mount.nfs: requested NFS version or transport protocol is not supported for 10.0.0.1:/x on /mnt", volume.ErrPrecondition, "nfsvers"},
		{"mount.nfs: Protocol not supported for 10.0.0.1:/x on /mnt", volume.ErrPrecondition, "nfsvers"},
		{"mount.nfs: an incorrect mount option was specified", volume.ErrInvalid, "does not know one"},
		{"mount.nfs: an incorrect mount option was specified for /mnt", volume.ErrInvalid, "does not know one"},
		{"mount.nfs: Invalid argument", volume.ErrInvalid, "does not take one"},
		{"mount: /x: unknown filesystem type 'nfs'.\n       dmesg(1) may have more information after failed mount system call.", volume.ErrPrecondition, "modprobe nfs"},
		{"mount.nfs: No such device", volume.ErrPrecondition, "modprobe nfs"},
		{"mount: /x: bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program.", volume.ErrPrecondition, "nfs-common"},
		{"mount.nfs: Operation not permitted", volume.ErrRefused, "CAP_SYS_ADMIN"},
		{"mount: /x: permission denied.", volume.ErrRefused, "CAP_SYS_ADMIN"},
		{"mount: /x: must be superuser to use mount.", volume.ErrRefused, "CAP_SYS_ADMIN"},
		{"mount.nfs: mount system call failed for /mnt", volume.ErrUnavailable, "dmesg"},
		{"mount.nfs: Input/output error", volume.ErrUnavailable, "its disk, has failed"},
		{"mount.nfs: Remote I/O error for 10.0.0.1:/x on /mnt", volume.ErrUnavailable, "nfsvers=4.0"},
		{"mount.nfs: something new", volume.ErrUnavailable, "exit status 32"},
		{"", volume.ErrUnavailable, "exit status 32"},
	} {
		cause := errors.New("exit status 32")
		err := explain(source, c.said, cause)
		said := strings.Join(strings.Fields(c.said), " ") // on one line
		if volume.Kind(err) != c.kind || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\nhas the kind %v, want %v: %v", c.said, volume.Kind(err), c.kind, err)
		}
		for _, part := range []string{"mount " + source + ": ", said, c.advice} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in the error for %s\n%v", part, c.said, err)
			}
		}
		if strings.TrimSuffix(err.Error(), said) != err.Error() {
			t.Errorf("%s\nhas no advice: %v", c.said, err)
		}
	}
}

// TestAnnotate checks messages whose meaning depends on the options.
func TestAnnotate(t *testing.T) {
	const denied, notPermitted, noStatd = "mount.nfs: access denied by server while mounting nas:/x", "mount.nfs: Operation not permitted", "mount.nfs: rpc.statd is not running\nmount.nfs: Operation not permitted"
	for _, c := range []struct {
		said, options string
		privileged    bool
		cause         Cause
	}{
		{denied, "nfsvers=4.2", true, Denied},
		{denied, "sec=sys,xprtsec=none", true, Denied},
		{denied, "sec=krb5p", true, NoContext},
		{denied, "xprtsec=tls", true, NoHandshake},
		{denied, "sec=krb5,xprtsec=mtls", true, NoHandshake}, // that comes first
		{notPermitted, "nfsvers=4.2", true, AsksMore},
		{notPermitted, "nfsvers=4.2", false, NotPermitted},
		{noStatd, "nfsvers=3", true, NoStatd},
		{"mount.nfs: Connection refused", "sec=krb5p,xprtsec=tls", true, Refused},
	} {
		err := explain("nas:/x", annotate(c.said, strings.Split(c.options, ","), c.privileged), errors.New("exit status 32"))
		if cause, _ := CauseOf(err); cause != c.cause {
			t.Errorf("%s with %s: the cause is %q: %v", c.said, c.options, cause, err)
		}
	}
}

// TestCauses checks that each cause can be reached: no earlier one hides it.
func TestCauses(t *testing.T) {
	for i, c := range causes {
		err := explain("nas:/x", "mount.nfs: "+c.says, errors.New("exit status 32"))
		if volume.Kind(err) != c.kind || !strings.HasSuffix(err.Error(), ": "+c.advice) {
			t.Errorf("cause %d, %q: the error is %v", i, c.says, err)
		}
		if cause, said := CauseOf(err); cause != c.cause || said != "mount.nfs: "+c.says {
			t.Errorf("cause %d, %q: CauseOf returns %q and %q", i, c.says, cause, said)
		}
	}
}

func TestCauseOf(t *testing.T) {
	late := volume.Errorf(volume.ErrUnavailable, "mount nas:/x: the server did not answer in time (%w)", context.DeadlineExceeded)
	if cause, _ := CauseOf(late); cause != Silent {
		t.Errorf("CauseOf(%v) is %q", late, cause)
	}
	odd := explain("nas:/x", "mount.nfs: the moon is full", errors.New("exit status 32"))
	if cause, said := CauseOf(odd); cause != "" || said != "mount.nfs: the moon is full (exit status 32)" {
		t.Errorf("CauseOf(%v) is %q and %q", odd, cause, said)
	}
}

// TestTimeoutError checks the additional advice for Kerberos, with which the server may be unable
// to identify the client.
func TestTimeoutError(t *testing.T) {
	for _, options := range [][]string{{"nfsvers=4.2"}, {"sec=krb5p"}} {
		err := TimeoutError("share nas1", options, context.DeadlineExceeded)
		says := strings.Contains(err.Error(), "gssproxy")
		if volume.Kind(err) != volume.ErrUnavailable || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "share nas1: the server did not answer") || says != UsesKerberos(options) {
			t.Errorf("with %v the error is %v", options, err)
		}
	}
}
