// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// causes are what mount(8) and mount.nfs (nfs-utils) say, what it means and what to do,
// in the order in which they are looked for.
var causes = []struct {
	says   string
	kind   error
	advice string
}{
	{"access denied by server", volume.ErrRefused, "the export does not allow this client, or the path is not exported: check /etc/exports on the server (exportfs -v)"},
	{"reason given by server: No such file or directory", volume.ErrConflict, "the path is not there on the server, or not beneath an export: compare the share's path with exportfs -v on the server"},
	{"No such file or directory", volume.ErrConflict, "the path is not there on the server, or not beneath an export: compare the share's path with exportfs -v on the server"},
	{"not a directory", volume.ErrConflict, "the path is not a directory on the server: correct the share's path"},
	{"Stale file handle", volume.ErrUnavailable, "the server's export was made anew or its disk is not mounted: check the export on the server"},
	{"Connection refused", volume.ErrUnavailable, "the server is up but no NFS service listens: start it there, or open port 2049"},
	{"No route to host", volume.ErrUnavailable, "the server cannot be reached from here: check address, route and firewall"},
	{"Network is unreachable", volume.ErrUnavailable, "the server cannot be reached from here: check address and route"},
	{"timed out", volume.ErrUnavailable, "the server does not answer: check that it runs and that port 2049 is reachable from here"},
	{"Failed to resolve server", volume.ErrUnavailable, "the server's name does not resolve: check DNS here, or use its address"},
	{"rpc.statd is not running", volume.ErrConflict, "NFSv3 locks need rpc.statd: start it on this node, or add the mount option nolock, or use nfsvers=4.2"},
	{"requested NFS version or transport protocol is not supported", volume.ErrConflict, "the server does not speak the version that the mount options ask for: change nfsvers or proto"},
	{"Protocol not supported", volume.ErrConflict, "the server does not speak the version that the mount options ask for: change nfsvers or proto"},
	{"an incorrect mount option was specified", volume.ErrInvalid, "the kernel does not know one of the mount options: look at those of the share in the configuration and of the class"},
	{"invalid option", volume.ErrInvalid, "mount.nfs does not know one of the mount options: look at those of the share in the configuration and of the class"},
	{"Invalid argument", volume.ErrInvalid, "the kernel does not take one of the mount options: look at those of the share in the configuration and of the class"},
	{"unknown filesystem type", volume.ErrConflict, "the kernel here has no NFS client: load its module (modprobe nfs)"},
	{"No such device", volume.ErrConflict, "the kernel here has no NFS client: load its module (modprobe nfs)"},
	{"you might need a /sbin/mount", volume.ErrConflict, "mount.nfs is not installed here: install nfs-common (Debian) or nfs-utils"},
	{"bad option; for several filesystems", volume.ErrConflict, "mount.nfs is not installed here: install nfs-common (Debian) or nfs-utils"},
	{"Operation not permitted", volume.ErrRefused, "the kernel or the server does not permit it: the driver needs CAP_SYS_ADMIN here, and a server may ask for a privileged port"},
	{"sharecache fail", volume.ErrConflict, "on this node the same file system is mounted already with another SELinux context: add the mount option nosharecache to the share"},
	{"mount point does not exist", volume.ErrConflict, "somebody removed the directory while the driver mounted on it: try again"},
	{"permission denied", volume.ErrRefused, "only root may mount: the driver needs CAP_SYS_ADMIN"},
	{"must be superuser", volume.ErrRefused, "only root may mount: the driver needs CAP_SYS_ADMIN"},
}

// explain turns a failed mount(8) into an error that says in words what is wrong.
func explain(source, stderr string, err error) error {
	if stderr == "" {
		return volume.Errorf(volume.ErrUnavailable, "mount %s: %w", source, err)
	}
	said := strings.Join(strings.Fields(stderr), " ")
	for _, c := range causes {
		if strings.Contains(said, c.says) {
			return volume.Errorf(c.kind, "mount %s: %s: %s", source, said, c.advice)
		}
	}
	return volume.Errorf(volume.ErrUnavailable, "mount %s: %s (%w)", source, said, err)
}
