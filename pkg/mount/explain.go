// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Cause is the reason for a failed mount, for programs. "": unknown.
type Cause string

// The causes of failed mounts.
const (
	Denied         Cause = "denied"        // by the export's client list, or there is no such export
	NoPath         Cause = "no-path"       // or it is not inside an export
	NotDirectory   Cause = "not-directory" // on the server
	Stale          Cause = "stale"
	Refused        Cause = "refused" // nothing listens
	Unreachable    Cause = "unreachable"
	Silent         Cause = "silent"
	Unresolved     Cause = "unresolved"
	NoStatd        Cause = "no-statd" // here
	NoVersion      Cause = "no-version"
	BadOption      Cause = "bad-option"
	NoKernel       Cause = "no-kernel"  // without NFS support, here
	NoProgram      Cause = "no-program" // mount.nfs, here
	NotPermitted   Cause = "not-permitted"
	DiskFailed     Cause = "disk-failed" // of the server
	NotEncrypted   Cause = "not-encrypted"
	NoLabel        Cause = "no-label"
	MissingOptions Cause = "less"     // such as security or version
	NoTLSHandler   Cause = "no-tlshd" // here
	NoHandshake    Cause = "no-handshake"
	NoGSSHandler   Cause = "no-gssd" // here
	NoContext      Cause = "no-context"
	AsksMore       Cause = "asks-more"
	UnknownError   Cause = "unknown-error" // EREMOTEIO: not an error of NFS, or not of this version
)

// causes has the messages of mount(8) and mount.nfs (nfs-utils), their causes and advice, in the
// order of the search.
var causes = []struct {
	says   string
	cause  Cause
	kind   error
	advice string
}{
	{"was asked for, and the mount has no TLS", NotEncrypted, volume.ErrPrecondition, "the kernel reused the connection without TLS of another mount of that server on this node, and the driver has unmounted it: use another minor version (nfsvers=4.1) for all shares of that server that have TLS, or TLS for all its shares"},
	{"was asked for, and the mount has no SELinux label", NoLabel, volume.ErrPrecondition, "without the host's /sys/fs/selinux and /etc/selinux in its container mount(8) drops labels, and the driver has unmounted it: enable them in the chart (selinux.enabled), or remove the option if nodes have no SELinux"},
	{"was asked for, and the mount has", MissingOptions, volume.ErrPrecondition, "this is less than the options request, and the driver has unmounted it: request only what the server and the node support, or enable it there"},
	{"(with xprtsec=", NoHandshake, volume.ErrRefused, "the TLS handshake has failed, or the export is not for this client: the journal of tlshd here and on the server has the reason, or exportfs -v there. Most likely, in this order, the name of the server in the share is not in its certificate, its CA is not in x509.truststore of /etc/tlshd.conf here, this node has no certificate there (for mtls) or one that the server does not trust, or a certificate has expired (docs/tls.md)"},
	{"(with sec=krb5", NoContext, volume.ErrRefused, "Kerberos has failed, or the export is not for this client: the journal of rpc-gssd here has the reason, or exportfs -v on the server. Most likely, in this order, this node has no key in /etc/krb5.keytab (klist -k) or no running rpc.gssd, its KDC does not answer (kinit -k), the name of the server in the share is not that of its principal nfs/NAME, clocks differ by more than five minutes, or on the server rpc.svcgssd or gssproxy does not run, which takes 30 s (docs/kerberos.md)"},
	{"access denied by server", Denied, volume.ErrRefused, "the export does not allow this client, or the path is not exported, or, with NFSv3, the export requires TLS (xprtsec) or Kerberos (sec): check /etc/exports on the server (exportfs -v)"},
	{"reason given by server: No such file or directory", NoPath, volume.ErrPrecondition, "the path does not exist on the server, or is not inside an export: compare the share's path with exportfs -v on the server; NFS 4 paths are relative to an export with fsid=0 (mooringctl doctor shows the path), and nfsvers=3 uses the whole path"},
	{"No such file or directory", NoPath, volume.ErrPrecondition, "the path does not exist on the server, or is not inside an export: compare the share's path with exportfs -v on the server; NFS 4 paths are relative to an export with fsid=0 (mooringctl doctor shows the path), and nfsvers=3 uses the whole path"},
	{"not a directory", NotDirectory, volume.ErrPrecondition, "the path is not a directory on the server: correct the share's path"},
	{"Stale file handle", Stale, volume.ErrUnavailable, "the file system of the export was recreated, or its disk is not mounted: check the export on the server"},
	{"Input/output error", DiskFailed, volume.ErrUnavailable, "the server reports an input/output error: the file system of the export, or its disk, has failed: check dmesg there"},
	{"Remote I/O error", UnknownError, volume.ErrUnavailable, "the server answers with an error that this NFS client does not know: most likely it is NFS-Ganesha before 9.11, mounted by NFS 4.1 or 4.2 from Linux 6.19 or newer (nfs-ganesha#1385): set nfsvers=4.0 for the share, or the kernel's nfsv4.directory_delegations=N on the nodes and the controller's machine, or run a newer Ganesha"},
	{"Connection refused", Refused, volume.ErrUnavailable, "the server is up but no NFS service listens: start it there, or open port 2049"},
	{"No route to host", Unreachable, volume.ErrUnavailable, "the server cannot be reached from here: check address, route and firewall"},
	{"Network is unreachable", Unreachable, volume.ErrUnavailable, "the server cannot be reached from here: check address and route"},
	{"timed out", Silent, volume.ErrUnavailable, "the server does not answer: check that it runs and that port 2049 is reachable from here"},
	{"Failed to resolve server", Unresolved, volume.ErrUnavailable, "the server's name does not resolve: check DNS here, or use its address"},
	{"rpc.statd is not running", NoStatd, volume.ErrPrecondition, "NFSv3 locks need rpc.statd: start it on this node, or add the mount option nolock, or use nfsvers=4.2"},
	{"requested NFS version or transport protocol is not supported", NoVersion, volume.ErrPrecondition, "the server does not support the version that the mount options request: change nfsvers or proto"},
	{"Protocol not supported", NoVersion, volume.ErrPrecondition, "the server does not support the version that the mount options request: change nfsvers or proto"},
	{"(the kernel takes each option, and has no Kerberos)", NoGSSHandler, volume.ErrPrecondition, "rpc.gssd does not run on this node, or its kernel has no rpcsec_gss_krb5: start rpc.gssd in the host's network, which systemd does (rpc-gssd.service) only if /etc/krb5.keytab exists (docs/kerberos.md)"},
	{"an incorrect mount option was specified", BadOption, volume.ErrInvalid, "the kernel does not know one of the mount options: check those of the share in the configuration and of the class"},
	{"invalid option", BadOption, volume.ErrInvalid, "mount.nfs does not know one of the mount options: check those of the share in the configuration and of the class"},
	{"Invalid argument", BadOption, volume.ErrInvalid, "the kernel does not take one of the mount options: check those of the share in the configuration and of the class"},
	{"unknown filesystem type", NoKernel, volume.ErrPrecondition, "the kernel here has no NFS client: load its module (modprobe nfs)"},
	{"No such device", NoKernel, volume.ErrPrecondition, "the kernel here has no NFS client: load its module (modprobe nfs)"},
	{"you might need a /sbin/mount", NoProgram, volume.ErrPrecondition, "mount.nfs is not installed here: install nfs-common (Debian) or nfs-utils"},
	{"bad option; for several filesystems", NoProgram, volume.ErrPrecondition, "mount.nfs is not installed here: install nfs-common (Debian) or nfs-utils"},
	{"(and this process may mount)", AsksMore, volume.ErrRefused, "the export asks for more than the mount options: exportfs -v on the server shows what, and the share's mountOptions must have it, too. Most likely it is TLS (xprtsec=tls, or mtls, for which this node needs a certificate) or Kerberos (sec=krb5, krb5i or krb5p), else a port below 1024 (hostNetwork)"},
	{"Operation not permitted", NotPermitted, volume.ErrRefused, "the kernel does not permit it: the driver needs CAP_SYS_ADMIN here"},
	{"No such process", NoTLSHandler, volume.ErrPrecondition, "TLS (xprtsec) needs tlshd on this node, which does not run: install ktls-utils on the host, and start it (docs/tls.md)"},
	{"sharecache fail", "", volume.ErrPrecondition, "on this node the same file system is mounted already with another SELinux context: set the mount option nosharecache for the share or the PersistentVolume"},
	{"mount point does not exist", "", volume.ErrPrecondition, "the directory was removed while the driver mounted there: try again"},
	{"permission denied", NotPermitted, volume.ErrRefused, "only root may mount: the driver needs CAP_SYS_ADMIN"},
	{"mount system call failed", DiskFailed, volume.ErrUnavailable, "the kernel does not say why: most often the file system of the export has failed on the server, or was shut down after a disk error: check dmesg there, and here too"},
	{"must be superuser", NotPermitted, volume.ErrRefused, "only root may mount: the driver needs CAP_SYS_ADMIN"},
}

// annotate adds a note to the message of mount(8) if the options, or this process's privileges,
// change its meaning.
func annotate(stderr string, options []string, privileged bool) string {
	switch tls := ValueOf(options, "xprtsec"); {
	case strings.Contains(stderr, "access denied by server") && encryptionLevel(tls) >= 0:
		return stderr + " (with xprtsec=" + tls + ")"
	case strings.Contains(stderr, "access denied by server") && UsesKerberos(options):
		return stderr + " (with sec=krb5)"
	case strings.Contains(stderr, "Operation not permitted") && privileged:
		return stderr + " (and this process may mount)"
	}
	return stderr
}

// Privileged reports whether this process may mount.
func Privileged() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// explain returns the error for the message of a failed mount(8), with advice.
func explain(source, stderr string, err error) error {
	if stderr == "" {
		return volume.Errorf(volume.ErrUnavailable, "mount %s: %w", source, err)
	}
	said := strings.Join(strings.Fields(stderr), " ")
	for _, c := range causes {
		if strings.Contains(said, c.says) {
			err := volume.Errorf(c.kind, "mount %s: %s: %s", source, said, c.advice)
			if c.cause == DiskFailed {
				return diskError{err}
			}
			return err
		}
	}
	return volume.Errorf(volume.ErrUnavailable, "mount %s: %s (%w)", source, said, err)
}

// diskError is an error of the server's disk. It matches EIO, although mount(8) may have reported
// something else.
type diskError struct{ error }

func (e diskError) Unwrap() error        { return e.error }
func (e diskError) Is(target error) bool { return target == unix.EIO }

// TimeoutError returns the ErrUnavailable for an operation that did not end in time on a server
// that is mounted with these options. err is the reason for its end.
func TimeoutError(what string, options []string, err error) error {
	also := ""
	if UsesKerberos(options) {
		also = "; with sec=krb5 rpc.svcgssd or gssproxy on the server may not run"
	}
	return volume.Errorf(volume.ErrUnavailable, "%s: the server did not answer in time (%w): check that it runs and that port 2049 is reachable from here%s", what, err, also)
}

// CauseOf returns the cause of an error of Mount, and the message of mount(8) in it.
func CauseOf(err error) (cause Cause, said string) {
	if err == nil {
		return "", ""
	}
	said = err.Error()
	if _, after, ok := strings.Cut(said, ": mount"); ok && strings.HasPrefix(said, "mount ") {
		said = "mount" + after
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Silent, said
	}
	for _, c := range causes {
		if strings.Contains(said, c.says) {
			return c.cause, strings.TrimSuffix(said, ": "+c.advice)
		}
	}
	return "", said
}
