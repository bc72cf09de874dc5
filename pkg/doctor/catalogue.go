// SPDX-License-Identifier: Apache-2.0

package doctor

import "slices"

// Check is one thing that the doctor examines. docs/doctor.md is generated from the checks.
type Check struct {
	ID    string
	Title string
	How   string // the method
	Why   string // why it matters
	// Problems are the possible problems, the most likely first.
	Problems []Problem
}

// Problem is one thing that can be wrong. In Remedy and Command {server}, {path}, {share} and
// {client} stand for the share's address, its path, its name, and the address of this machine.
// A Command that begins with @ runs on the server.
type Problem struct {
	Cause   string
	Status  Status
	Summary string
	Remedy  string
	Command string
}

// problem returns the check's problem with this cause. The catalogue has every cause that the code uses.
func (c Check) problem(cause string) Problem {
	for _, t := range slices.Concat(c.Problems, commonProblems()) {
		if t.Cause == cause {
			return t
		}
	}
	panic("doctor: the check " + c.ID + " has no problem " + cause)
}

func checkByID(id string) Check {
	for _, c := range slices.Concat(nodeChecks(), serverChecks(), shareChecks()) {
		if c.ID == id {
			return c
		}
	}
	panic("doctor: there is no check " + id)
}

// commonProblems returns the problems that every check can have.
func commonProblems() []Problem {
	return []Problem{
		{"late", Fail, "The server did not answer this in time, although it answers other calls.",
			"The server may be in the grace period after a restart (up to 90 seconds), or its disk hangs. Try again, and check the server's log.", "@dmesg | tail"},
		{"disk-failed", Fail, "The server reports an error of its file system or of the disk.",
			"Check the server's log for disk errors; the file system may be shut down. Find out what is wrong with the disk before you restart anything.", "@dmesg | tail"},
		{"unknown-error", Fail, "The server answers with an error that this NFS client does not know. NFS-Ganesha before 9.11 does this with NFS 4.1 and 4.2, if the client runs Linux 6.19 or newer (nfs-ganesha#1385).",
			"If the server is NFS-Ganesha before 9.11 (nfs-ganesha#1385): set nfsvers=4.0 in the share's mountOptions; or turn off directory delegations on all nodes and on the controller's machine, and in /etc/modprobe.d (options nfsv4 directory_delegations=N); or run a newer Ganesha. Otherwise check the server's log.", "echo N >/sys/module/nfsv4/parameters/directory_delegations"},
		{"failed", Fail, "The check failed for another reason; the finding has the error.",
			"Check the logs of this machine and of the server at that time.", "@dmesg | tail"},
	}
}

// nodeChecks returns the checks of this machine.
func nodeChecks() []Check {
	return []Check{
		{"privilege", "may mount", "whether this process has CAP_SYS_ADMIN", "Mounting needs it, and without a mount the doctor cannot test a share.", []Problem{
			{"no-privilege", Fail, "This process may not mount.",
				"Run it as root, or name the directory of shares that are already mounted (--shares-dir).", "sudo mooringctl doctor"},
		}},
		{"client", "mount.nfs", "the directories in which mount(8) looks for the program", "mount(8) needs it for every NFS mount.", []Problem{
			{"no-program", Fail, "It is not installed.",
				"Install nfs-common (Debian, Ubuntu), or nfs-utils (others).", "apt install nfs-common || dnf install nfs-utils"},
		}},
		{"kernel", "NFS in the kernel", "/proc/filesystems, after the test mounts", "The kernel's NFS client does all the work.", []Problem{
			{"no-kernel", Fail, "The kernel has no NFS client and could not load one.",
				"Load its modules; minimal kernels have them in a separate package (linux-modules-extra).", "modprobe -a nfs nfsv4"},
			{"not-loaded", Warn, "No share was mounted, and the NFS modules are not loaded.",
				"The first mount loads the modules if they are installed.", "modprobe -a nfs nfsv4"},
		}},
		{"statd", "rpc.statd here", "a NULL call to it, if a share uses NFSv3", "NFSv3 locks need it on each node: without it the mount, or each lock, fails.", []Problem{
			{"no-statd", Fail, "rpc.statd does not run, and a share needs it.",
				"Start it, use NFS 4 for the share (nfsvers=4.2), or keep locks local to each node (nolock).", "systemctl enable --now rpcbind rpc-statd"},
		}},
		{"tls", "TLS here", "the mounts of this machine, if a share has xprtsec", "Without TLS anyone on the network path can read and change the data.", []Problem{
			{"plain", Fail, "A share with xprtsec is mounted here without TLS: by an older driver that did not verify its mounts, or by someone else.",
				"Stop the pods that use it and start them again: they get TLS, or an error with the reason.", "findmnt -t nfs,nfs4 -o SOURCE,TARGET,OPTIONS"},
		}},
	}
}

// serverChecks returns the checks of one of a share's servers.
func serverChecks() []Check {
	return []Check{
		{"resolves", "name resolves", "a lookup of the server's name", "A mount needs the server's address.", []Problem{
			{"unresolved", Fail, "The name does not resolve here.",
				"Correct the name in the share's servers, repair DNS, or use the address. The chart's pods ask the cluster's DNS, which usually forwards to the host's; with mountShares: kubelet, kubelet asks the host's.", "getent hosts {server}"},
		}},
		{"answers", "server answers", "a TCP connection and a NULL call to NFS", "No client can use a share whose server does not answer.", []Problem{
			{"refused", Fail, "The machine is up, but no NFS service listens.",
				"Start the service on the server, or open its port.", "@systemctl enable --now nfs-server"},
			{"silent", Fail, "The server sends no answer.",
				"Check that the server runs and that firewalls allow TCP port 2049.", "nc -vz -w 3 {server} 2049"},
			{"unreachable", Fail, "There is no route to the server.",
				"Check address, route and firewall.", "ip route get {server}"},
			{"no-nfs", Fail, "Another service listens on the port.",
				"Check the address, and the option port if the share has one.", "rpcinfo -p {server}"},
		}},
		{"rpcbind", "rpcbind answers", "a NULL call to port 111", "NFSv3 clients find its services through rpcbind. NFS 4 does not need it.", []Problem{
			{"no-rpcbind", Fail, "rpcbind does not answer, and the share uses NFSv3.",
				"Start it on the server and open port 111, or use nfsvers=4.2. NFSv3 does not need it if the mount options contain proto=tcp, port=, mountport= and nolock.", "@systemctl enable --now rpcbind"},
		}},
		{"exported", "path is exported", "the server's export list, as showmount -e shows it", "A client can mount only what the server exports to it.", []Problem{
			{"not-exported", Fail, "The server exports other paths.",
				"Export the path on the server, or correct the share's path.", "@echo {path} '{client}(rw,sync,no_subtree_check,no_root_squash)' >>/etc/exports && exportfs -ra"},
			{"not-to-us", Fail, "The server exports the path, but refuses this machine.",
				"Add this machine and all nodes to the export's clients on the server. An export without the option insecure refuses ports above 1023.", "@exportfs -v"},
		}},
		{"path", "path exists", "the result of the mount", "The directory must exist before it can be mounted.", []Problem{
			{"no-path", Fail, "The directory does not exist on the server, or is not inside an export.",
				"Create it on the server, or correct the share's path. If an export has fsid=0, NFS 4 paths are relative to it.", "@mkdir -p {path}"},
			{"other-root", Fail, "With NFS 4 the directory has another path: the server's NFSv4 root is not the root of its file system (an export with fsid=0). Without nfsvers nodes mount with NFS 3, and the controller's mount fails.",
				"Register the path {v4path}. To use NFS 3 on purpose, without CLONE and COPY, set nfsvers=3 in the share's mountOptions.", "@exportfs -v"},
			{"other-path", Fail, "NFS 3 finds the path, and NFS 4 does not. Without nfsvers nodes mount with NFS 3, and the controller's mount fails.",
				"Register the NFS 4 path: relative to the export with fsid=0 (Linux), or the export's Pseudo path (NFS-Ganesha). To use NFS 3 on purpose, without CLONE and COPY, set nfsvers=3 in the share's mountOptions.", "@exportfs -v"},
			{"not-directory", Fail, "The path is a file.", "Correct the share's path.", "@ls -ld {path}"},
		}},
		{"mounts", "mounts", "a mount with the share's options and those that the controller adds", "The driver mounts the share in the same way.", append(mountProblems(),
			Problem{"not-given", Fail, "The share is not mounted under --shares-dir.",
				"Mount it there under its name, {share}, before the program starts.", "findmnt -t nfs,nfs4"},
		)},
		{"versions", "NFS versions", "a mount with each version", "Only NFS 4.2 has CLONE, COPY, extended attributes and holes.", []Problem{
			{"no-4.2", Warn, "The server does not support NFS 4.2. Snapshots are copied through the controller.",
				"Enable 4.2 if the server supports it: vers4.2=y in the section nfsd of /etc/nfs.conf.", "@cat /proc/fs/nfsd/versions"},
			{"only-3", Warn, "The server supports only NFS 3. Snapshots are copied through the controller, and locks need rpc.statd on every node.",
				"Enable 4.2 if the server supports it: vers4=y and vers4.2=y in the section nfsd of /etc/nfs.conf.", "@cat /proc/fs/nfsd/versions"},
		}},
	}
}

// mountProblems returns the problems that mount(8) reports, with the names of mount.Cause.
func mountProblems() []Problem {
	return []Problem{
		{"denied", Fail, "The server refuses the mount and does not list its exports.",
			"Export the path to this machine on the server.", "@exportfs -v"},
		{"no-version", Fail, "The server does not support the NFS version that the options request.",
			"Set nfsvers in the share's mountOptions to a version that the server supports, or remove it. See NFS versions below.", ""},
		{"no-statd", Fail, "NFSv3 locks need rpc.statd, which does not run here.",
			"Start it on this machine, or use nfsvers=4.2, or nolock.", "systemctl enable --now rpcbind rpc-statd"},
		{"bad-option", Fail, "A mount option is unknown.",
			"Correct the share's mountOptions: see nfs(5).", "man 5 nfs"},
		{"no-kernel", Fail, "The kernel here has no NFS client.",
			"Load its modules.", "modprobe -a nfs nfsv4"},
		{"no-program", Fail, "mount.nfs is not installed here.",
			"Install nfs-common (Debian, Ubuntu), or nfs-utils (others).", "apt install nfs-common || dnf install nfs-utils"},
		{"not-permitted", Fail, "The kernel does not permit the mount.",
			"Run this with CAP_SYS_ADMIN.", "sudo mooringctl doctor"},
		{"asks-more", Fail, "The export requires more than the mount options offer: TLS (tls or mtls), Kerberos, or a source port below 1024.",
			"Check the export on the server, and set xprtsec= or sec= in the share's mountOptions to the same value. In a pod, a port below 1024 needs hostNetwork.", "@exportfs -v | grep -A1 {path}"},
		{"not-encrypted", Fail, "The options contain xprtsec, but the kernel mounts without TLS: it reuses the connection of another mount of this server on this machine, which has no TLS.",
			"Use another minor version (nfsvers=4.1) for all shares of that server that have TLS, or TLS for all its shares.", "findmnt -t nfs4 -o SOURCE,TARGET,OPTIONS"},
		{"no-tlshd", Fail, "The options contain xprtsec, but tlshd does not run on this machine.",
			"Install ktls-utils here, and start it. If tlshd runs in a container, the container needs hostNetwork.", "systemctl enable --now tlshd"},
		{"no-handshake", Fail, "The options contain xprtsec, but the TLS handshake fails: the server's name is not in its certificate; its CA is unknown here; with mtls, this machine has no certificate, or one that the server does not trust; or a certificate has expired. Or the server does not export the path to this machine.",
			"The journal of tlshd, here and on the server, has the reason. If neither has an entry, check the export.", "journalctl -u tlshd -n 20"},
		{"no-gssd", Fail, "The options contain sec=krb5, but rpc.gssd does not run on this machine.",
			"Start it. systemd starts it only if /etc/krb5.keytab exists. If rpc.gssd runs in a container, the container needs hostNetwork.", "modprobe rpcsec_gss_krb5; systemctl start rpc-gssd; systemctl status rpc-gssd"},
		{"no-context", Fail, "The options contain sec=krb5, but Kerberos fails: this machine has no key or no rpc.gssd; the KDC does not answer; the server's name does not match its principal; the clocks differ; the server has no key; or rpc.svcgssd or gssproxy does not run on the server, which takes 30 seconds. Or the server does not export the path to this machine.",
			"Get a ticket with the machine's key: if the cause is on this side, the error names it. Otherwise check the journal of rpc.gssd, and on the server that of rpc.svcgssd or gssproxy.", "klist -k; kinit -k nfs/$(hostname -f); journalctl -u rpc-gssd -n 20"},
		{"no-label", Fail, "The options contain an SELinux context, but the mount has none.",
			"Make the host's /sys/fs/selinux and /etc/selinux visible to mount(8), or remove the option if SELinux is off.", "getenforce"},
		{"less", Fail, "The mount lacks something that the options request.",
			"Request only what the server and this machine support, or enable it there.", "findmnt -t nfs,nfs4 -o SOURCE,TARGET,OPTIONS"},
		{"stale", Fail, "The file system of the export was recreated, or its disk is not mounted on the server.",
			"Check the disk on the server, and export again.", "@exportfs -ra"},
		{"silent", Fail, "The server answers, but not to a mount.",
			"The server may be in the grace period after a restart, or a firewall allows port 2049 but not what NFSv3 needs (rpcbind, mountd). Try again, or use nfsvers=4.2. With sec=krb5, rpc.svcgssd or gssproxy may not run on the server.", "rpcinfo -p {server}"},
	}
}

// shareChecks returns the checks of a mounted share.
func shareChecks() []Check {
	return slices.Concat(overlapChecks(), identityChecks(), writingChecks(), featureChecks(), measureChecks())
}

// identityChecks returns the checks of the share's identity.
func identityChecks() []Check {
	return []Check{
		{"identity", "share identity", "the id in .mooring/format.json, compared with the configuration", "If the disk of an export is not mounted on the server, clients see an empty directory; with another disk they see another share.", []Problem{
			{"not-laid-out", Fail, "The share has no data of Mooring, but the configuration has its id.",
				"Mount the right disk on the server. If the share was emptied on purpose, lay it out again, and set its new id in the configuration.", "mooringctl share forget {share}"},
			{"another-share", Fail, "The id differs from that in the configuration: this is another share.",
				"Mount the right disk on the server, or correct the share's id in the configuration.", "mooringctl shares"},
			{"no-id", Warn, "The share has no id: Mooring would not notice another disk in its place.",
				"Create a volume, which sets an id, or set one by hand.", "mooringctl share reidentify {share}"},
			{"same-share", Warn, "Another share has the same id: one is a copy of the other, or both names refer to one directory.",
				"Give a copy its own id. If both names refer to one directory, keep one of them: its volumes are listed under both.", "mooringctl share reidentify {share}"},
		}},
	}
}

// overlapChecks returns the checks of the share's place among the other shares.
func overlapChecks() []Check {
	return []Check{
		{"apart", "no overlap", "its server and path, compared with those of the registered shares", "If one share is inside another, a volume of the outer share can contain volumes of the inner one.", []Problem{
			{"nested", Warn, "The share is not registered, and is inside a registered share or contains one. Its volumes work, but no new ones can be created.",
				"Move the data of its volumes to volumes of the registered share.", "mooringctl volumes --share {share}"},
		}},
	}
}

// writingChecks returns the checks of permissions and owners.
func writingChecks() []Check {
	return []Check{
		{"writable", "can be written", "a probe file that is created, written and synced", "Mooring stores its records on the share and creates directories there.", []Problem{
			{"read-only", Fail, "The share is read-only on the server: its file system became read-only after a disk error, or it is exported read-only.",
				"Check the server for disk errors first. If there are none, export the share rw.", "@dmesg | tail -30; exportfs -v | grep -A1 {path}"},
			{"not-allowed", Fail, "The server denies access: it maps root to nobody (root_squash), and another user owns the directory.",
				"Export with no_root_squash, or make the user that root is mapped to the owner of the directory.", "@chown nobody {path}"},
			{"full", Fail, "No space is left.",
				"Free some on the server. Deleted volumes stay in the trash for trashRetention.", "@df -h {path}"},
			{"no-inodes", Fail, "No inodes are left.",
				"Remove files on the server, or move to a file system with more inodes.", "@df -i {path}"},
			{"quota", Fail, "A quota on the server is used up.",
				"Raise it on the server.", "@repquota -a"},
		}},
		{"root", "root stays root", "the owner of the probe file", "Only root can set the owner of a volume (uid, gid, fsGroup) and preserve owners in snapshots.", []Problem{
			{"squashed", Warn, "The server maps root to another user (root_squash).",
				"If classes set uid or gid, or pods set fsGroup: export with no_root_squash, and only to the nodes. docs/nas.md shows where a NAS has this setting.", "@exportfs -v | grep -A1 {path}"},
			{"all-squashed", Warn, "The server maps all users to one user (all_squash), with or without no_root_squash.",
				"Do not set uid or gid in classes, or fsGroup in pods: one user owns all files; anonuid and anongid of the export set it. If volumes need owners: export with no_root_squash and without all_squash, and only to the nodes. docs/nas.md shows where a NAS has this setting.", "@exportfs -v | grep -A1 {path}"},
			{"not-root-by-name", Warn, "With Kerberos, root is this machine's principal, and the server maps that to another user.",
				"If classes set uid or gid, or pods set fsGroup: on the server, map nfs/HOST@REALM of each node and of the controller's machine to root, in the section Static of /etc/idmapd.conf, with Method = static,nsswitch in Translation; and export with no_root_squash. With gssproxy, use auth_to_local in krb5.conf.", "@grep -A2 -E 'Static|Translation' /etc/idmapd.conf"},
		}},
		{"owners", "owners are kept", "the owner of the probe file after a chown to 1234:5678", "Pods identify the owners of their files by these numbers.", []Problem{
			{"mapped", Warn, "The server returns another owner: server and client do not agree on names (idmapping).",
				"Configure the server to use numeric ids, or set the same Domain in /etc/idmapd.conf on both sides.", "echo Y >/sys/module/nfs/parameters/nfs4_disable_idmapping"},
			{"unnamed", Warn, "With Kerberos, server and client exchange names, and a user and group with a name on both sides does not keep its numbers.",
				"Set the same Domain in /etc/idmapd.conf on both sides, and check that rpc.idmapd runs on the server. Without this, all files that root does not own belong to nobody.", "nfsidmap -d; nfsidmap -c"},
			{"no-idmapper", Warn, "Server and client exchange names, and this machine cannot translate them.",
				"Install keyutils (for request-key) and nfs-common (for nfsidmap) here.", "apt install keyutils nfs-common || dnf install keyutils nfs-utils"},
			{"refused", Warn, "The server does not allow root to change the owner of a file.",
				"Export with no_root_squash; some filers have a separate setting that restricts chown.", "@exportfs -v | grep -A1 {path}"},
		}},
	}
}

// featureChecks returns the checks of features that not every server has.
func featureChecks() []Check {
	return []Check{
		{"clone", "CLONE", "a clone of the probe file", "With CLONE a snapshot shares its blocks and takes a moment.", []Problem{
			{"no-clone", Warn, "The server does not share blocks. Snapshots are full copies and use as much space as the volume.",
				"Export XFS (with reflink) or Btrfs, or use a filer that clones.", "@xfs_info {path} | grep reflink"},
		}},
		{"copy", "COPY", "a copy of the probe file", "With COPY the server itself copies what it cannot clone.", []Problem{
			{"no-copy", Warn, "The server does not support COPY: the data of snapshots crosses the network twice.",
				"Use a newer server (Linux 5.6 or later).", ""},
		}},
		{"xattr", "extended attributes", "an attribute that is set and read", "Some programs store data in them, and snapshots preserve them.", []Problem{
			{"no-xattr", Warn, "The server does not support them.",
				"Use a newer server (Linux 5.9 or later), on a file system that supports them.", ""},
		}},
		{"acl", "access control lists", "the ACL of the probe file", "If files have ACLs, snapshots preserve them.", []Problem{
			{"no-acl", Warn, "The server does not support them.", "No action is needed unless programs use them.", ""},
		}},
		{"links", "hard links", "a second name for the probe file", "Mooring publishes records with a hard link: of two at the same time, the second fails.", []Problem{
			{"no-links", Warn, "The server does not support hard links. Mooring uses O_EXCL instead, and snapshots store each name as a separate file.",
				"Export another file system.", ""},
		}},
		{"renames", "renames", "two mounts of the share: through one of them files and directories are renamed, created and removed after the other has created something with that name or removed the directory", "Two controllers at the same time do no harm, because the server refuses operations that come too late.", []Problem{
			{"wrong", Fail, "The server performs an operation that it must refuse, or loses an open directory.",
				"Use another server, or another file system on it. There is no workaround: a delayed request can affect another volume.", ""},
		}},
		{"holes", "holes", "SEEK_HOLE in the probe file", "Mooring copies sparse files, such as disk images, without reading their holes.", []Problem{
			{"no-holes", Warn, "The server does not report holes.", "No action is needed: copies read the zeros, and do not write them.", ""},
		}},
		{"locks", "locks", "a lock on the probe file", "Databases rely on locks, and so do pods that share a volume.", []Problem{
			{"no-locks", Fail, "The server does not grant a lock.",
				"NFSv3 needs rpc.statd on both sides, and an open port of the server's lock service. NFS 4.2 needs neither: nfsvers=4.2.", "rpcinfo -p {server}"},
			{"grace", Warn, "The server does not grant locks yet. This is its grace period after a restart, in which clients reclaim the locks that they had: 90 seconds on Linux by default.",
				"Wait two minutes and try again. If the warning persists, check the server's log.", "@cat /proc/fs/nfsd/nfsv4gracetime; dmesg | tail"},
			{"local", Warn, "The share is mounted with nolock: locks are local to each node, and pods on other nodes do not see them.",
				"Remove nolock; NFS 4.2 needs no lock service.", ""},
		}},
	}
}

// measureChecks returns the checks that measure something.
func measureChecks() []Check {
	return []Check{
		{"clock", "clock", "the time that the server sets on the directory of the probe file", "The server sets the times of files, and programs compare them with the local clock.", []Problem{
			{"off", Warn, "The clocks of server and client differ by more than 30 seconds.",
				"Use a time server on both.", "timedatectl set-ntp true; chronyc tracking"},
			{"far-off", Fail, "The clocks differ by more than five minutes. Mooring may not recognise what an interrupted controller left, and Kerberos fails.",
				"Use a time server on both.", "timedatectl set-ntp true; chronyc tracking"},
		}},
		{"times", "times are kept", "the time of the probe file after it is set to ten minutes ago; with NFS 4.2 also the time of another file, as another NFS client sees it", "cp -p, tar and rsync set the times of files, and make and backup programs rely on them.", []Problem{
			{"not-kept", Warn, "The server returns another time than the one that was set.",
				"Look for a setting of the server or its file system that overrides file times.", "@dmesg | tail"},
			{"delegated", Warn, "The server loses the time that a program sets while the client holds a delegation of the file. The server of Linux 7.2 does this with NFS 4.2: other clients see the time at which the delegation ended. Copies that Mooring makes keep their times.",
				"If programs need the times: set nfsvers=4.1 in the share's mountOptions, which has no CLONE and no COPY; or turn off delegations on the server.", "@sysctl fs.leases-enable=0"},
		}},
		{"latency", "latency", "the median of 20 GETATTRs", "Creating a volume takes about sixteen round trips, a snapshot eight for each file.", []Problem{
			{"slow", Warn, "A round trip takes more than 20 ms.",
				"Check the network path to the server and the server's load.", "nfsiostat 1 3; ping -c 5 {server}"},
		}},
		{"space", "space", "the result of statfs", "All volumes share the space of the file system.", []Problem{
			{"low", Warn, "Less than 10 % is free.",
				"Free some, or enlarge the file system. Deleted volumes stay in the trash for trashRetention.", "@df -h {path}"},
			{"full", Fail, "Less than 1 % is free.",
				"Free some, or enlarge the file system. Deleted volumes stay in the trash for trashRetention.", "@df -h {path}"},
		}},
		{"inodes", "inodes", "the result of statfs", "Each file needs one, whatever its size.", []Problem{
			{"low", Warn, "Less than 10 % is free.", "Remove files, or move to a file system with more inodes.", "@df -i {path}"},
			{"none", Fail, "Less than 1 % is free.", "Remove files, or move to a file system with more inodes.", "@df -i {path}"},
		}},
	}
}
