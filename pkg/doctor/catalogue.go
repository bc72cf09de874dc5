// SPDX-License-Identifier: Apache-2.0

package doctor

import "slices"

// Check is something that is examined. docs/doctor.md is made from these.
type Check struct {
	ID    string
	Title string
	How   string // it is found out
	Why   string // it matters
	// Problems are what can be wrong, the likeliest first.
	Problems []Problem
}

// Problem is one thing that can be wrong. In Remedy and Command {server}, {path}, {share} and
// {client} stand for the share's address, its path, its name, and the address of this machine.
// A Command that begins with @ is for the server.
type Problem struct {
	Cause   string
	Status  Status
	Summary string
	Remedy  string
	Command string
}

// problem returns one of the check's troubles. The catalogue has all that the code speaks of.
func (c Check) problem(cause string) Problem {
	for _, t := range slices.Concat(c.Problems, commonProblems()) {
		if t.Cause == cause {
			return t
		}
	}
	panic("doctor: the check " + c.ID + " knows no trouble " + cause)
}

func checkByID(id string) Check {
	for _, c := range slices.Concat(nodeChecks(), serverChecks(), shareChecks()) {
		if c.ID == id {
			return c
		}
	}
	panic("doctor: there is no check " + id)
}

// commonProblems are the troubles that every check can have.
func commonProblems() []Problem {
	return []Problem{
		{"late", Fail, "No answer came in time, from a server that answers otherwise.",
			"The server may be in the grace period after a restart (up to 90 seconds), or its disk hangs. Try again; look at the server's log.", "@dmesg | tail"},
		{"disk-failed", Fail, "The server reports an error of its file system, or of the disk.",
			"Look for errors of the disk on the server; the file system may have been shut down. Know what the disk has before you restart anything.", "@dmesg | tail"},
		{"unknown-error", Fail, "The server answers with an error that this NFS client does not know. NFS-Ganesha before 9.11 does, by NFS 4.1 and 4.2, where the client is Linux 6.19 or newer (nfs-ganesha#1385).",
			"If the server is NFS-Ganesha before 9.11 (nfs-ganesha#1385): set nfsvers=4.0 in the share's mountOptions; or turn delegations of directories off on all nodes and the controller's machine, in /etc/modprobe.d too (options nfsv4 directory_delegations=N); or run a newer Ganesha. Else look at the server's log.", "echo N >/sys/module/nfsv4/parameters/directory_delegations"},
		{"failed", Fail, "It failed in another way, as the finding says.",
			"Look at this machine's log and the server's at that time.", "@dmesg | tail"},
	}
}

// nodeChecks are about this machine.
func nodeChecks() []Check {
	return []Check{
		{"privilege", "may mount", "whether this process has CAP_SYS_ADMIN", "Nobody else mounts: without it nothing can be tried on a share.", []Problem{
			{"no-privilege", Fail, "This process may not mount.",
				"Run it as root, or where the shares are mounted already say where.", "sudo mooringctl doctor"},
		}},
		{"client", "mount.nfs", "the program is looked for where mount(8) does", "mount(8) needs it for every NFS mount.", []Problem{
			{"no-program", Fail, "It is not installed.",
				"Install nfs-common (Debian, Ubuntu), or nfs-utils (others).", "apt install nfs-common || dnf install nfs-utils"},
		}},
		{"kernel", "NFS in the kernel", "/proc/filesystems, after the mounts were tried", "The kernel's NFS client does all the work.", []Problem{
			{"no-kernel", Fail, "It has no NFS client, and could not load one.",
				"Load its modules; minimal kernels have them in a package of their own (linux-modules-extra).", "modprobe -a nfs nfsv4"},
			{"not-loaded", Warn, "Nothing was mounted, and its modules are not loaded.",
				"The first mount loads them, if they are there.", "modprobe -a nfs nfsv4"},
		}},
		{"statd", "rpc.statd here", "a NULL call to it, where a share is NFSv3's", "NFSv3 locks need it on each node: without it the mount, or each lock, fails.", []Problem{
			{"no-statd", Fail, "It does not run, and a share needs it.",
				"Start it, use NFS 4 for the share (nfsvers=4.2), or keep locks within each node (nolock).", "systemctl enable --now rpcbind rpc-statd"},
		}},
		{"tls", "TLS here", "the mounts of this machine, where a share has xprtsec", "Without it everybody on the way can read and change what goes over the network.", []Problem{
			{"plain", Fail, "A share with xprtsec is mounted here without: before the driver compared the two, say, or by somebody else.",
				"End the pods that have it, and start them again: they get TLS, or an error that says why not.", "findmnt -t nfs,nfs4 -o SOURCE,TARGET,OPTIONS"},
		}},
	}
}

// serverChecks are about a share by one of its servers.
func serverChecks() []Check {
	return []Check{
		{"resolves", "name resolves", "the server's name is looked up", "Without an address there is no server.", []Problem{
			{"unresolved", Fail, "The name does not resolve here.",
				"Correct the name in the share's servers, repair DNS, or use the address. The chart's pods ask the cluster's DNS, which usually forwards to the host's; with mountShares: kubelet, kubelet asks the host's.", "getent hosts {server}"},
		}},
		{"answers", "server answers", "TCP, and a NULL call to NFS", "A share whose server does not answer can be used by nobody.", []Problem{
			{"refused", Fail, "The machine is there, and no NFS service listens.",
				"Start the service on the server, or open its port.", "@systemctl enable --now nfs-server"},
			{"silent", Fail, "Nothing comes back.",
				"Check that the server runs, and that a firewall lets TCP port 2049 through.", "nc -vz -w 3 {server} 2049"},
			{"unreachable", Fail, "No way leads there.",
				"Check address, route and firewall.", "ip route get {server}"},
			{"no-nfs", Fail, "Something else listens there.",
				"Check the address, and the option port if the share has one.", "rpcinfo -p {server}"},
		}},
		{"rpcbind", "rpcbind answers", "a NULL call to its port 111", "NFSv3 is found through it. NFS 4 does without.", []Problem{
			{"no-rpcbind", Fail, "It does not answer, and the share is NFSv3's.",
				"Start it on the server and open port 111, or use nfsvers=4.2. With proto=tcp, port=, mountport= and nolock among the options NFSv3 does without.", "@systemctl enable --now rpcbind"},
		}},
		{"exported", "path is exported", "the server's list, as showmount -e has it", "A server lets nobody mount what it does not export to them.", []Problem{
			{"not-exported", Fail, "The server exports other paths.",
				"Export the path on the server, or correct the share's path.", "@echo {path} '{client}(rw,sync,no_subtree_check,no_root_squash)' >>/etc/exports && exportfs -ra"},
			{"not-to-us", Fail, "It is exported, and this machine is refused.",
				"Add this machine, and all nodes, to the export's clients on the server. An export without insecure refuses ports above 1023.", "@exportfs -v"},
		}},
		{"path", "path is there", "what the mount says", "The directory has to be there before it can be mounted.", []Problem{
			{"no-path", Fail, "There is no such directory on the server, or none beneath an export.",
				"Make it on the server, or correct the share's path. With an export that says fsid=0, NFS 4's paths begin below that.", "@mkdir -p {path}"},
			{"other-root", Fail, "NFS 4 has it by another path: the server's NFSv4 root is another directory than that of its file system (an export with fsid=0). Without nfsvers nodes mount by NFS 3, and the controller is refused.",
				"Register the path {v4path}. To use NFS 3 on purpose, without CLONE and COPY, set nfsvers=3 in the share's mountOptions.", "@exportfs -v"},
			{"other-path", Fail, "NFS 3 finds it, and NFS 4 does not. Without nfsvers nodes mount by NFS 3, and the controller is refused.",
				"Register the path as NFS 4 has it: as it is below the export with fsid=0 (Linux), or as the export's Pseudo says (NFS-Ganesha). To use NFS 3 on purpose, without CLONE and COPY, set nfsvers=3 in the share's mountOptions.", "@exportfs -v"},
			{"not-directory", Fail, "It is a file.", "Correct the share's path.", "@ls -ld {path}"},
		}},
		{"mounts", "mounts", "a mount with the share's options, and those that the controller adds", "What the driver mounts, it mounts so.", append(mountProblems(),
			Problem{"not-given", Fail, "The share is not mounted beneath --shares-dir.",
				"Have it mounted there under its name before the program starts: {share}.", "findmnt -t nfs,nfs4"},
		)},
		{"versions", "NFS versions", "a mount by each", "Only NFS 4.2 has CLONE, COPY, extended attributes and holes.", []Problem{
			{"no-4.2", Warn, "The server does not speak 4.2. Snapshots are copied through the controller.",
				"Turn 4.2 on, if the server has it: vers4.2=y in the section nfsd of /etc/nfs.conf.", "@cat /proc/fs/nfsd/versions"},
			{"only-3", Warn, "The server speaks 3 alone. Snapshots are copied through the controller, and locks need rpc.statd on every node.",
				"Turn 4.2 on, if the server has it: vers4=y and vers4.2=y in the section nfsd of /etc/nfs.conf.", "@cat /proc/fs/nfsd/versions"},
		}},
	}
}

// mountProblems are those that mount(8) tells, under the names of mount.Cause.
func mountProblems() []Problem {
	return []Problem{
		{"denied", Fail, "The server refuses, and does not tell its exports.",
			"Export the path to this machine on the server.", "@exportfs -v"},
		{"no-version", Fail, "The server does not speak the version that the options ask for.",
			"Ask for one that it speaks, or for none: nfsvers in the share's mountOptions. See NFS versions below.", ""},
		{"no-statd", Fail, "NFSv3's locks need rpc.statd, which does not run here.",
			"Start it on this machine, or use nfsvers=4.2, or nolock.", "systemctl enable --now rpcbind rpc-statd"},
		{"bad-option", Fail, "A mount option is not known.",
			"Correct the share's mountOptions: see nfs(5).", "man 5 nfs"},
		{"no-kernel", Fail, "The kernel here has no NFS client.",
			"Load its modules.", "modprobe -a nfs nfsv4"},
		{"no-program", Fail, "mount.nfs is not installed here.",
			"Install nfs-common (Debian, Ubuntu), or nfs-utils (others).", "apt install nfs-common || dnf install nfs-utils"},
		{"not-permitted", Fail, "It is not permitted.",
			"Run this with CAP_SYS_ADMIN.", "sudo mooringctl doctor"},
		{"asks-more", Fail, "The export asks for more than the mount options: for TLS (tls or mtls), or for Kerberos, or for a port below 1024.",
			"Look at the export on the server, and set xprtsec= or sec= to the same in the share's mountOptions. A port below 1024 needs hostNetwork in a pod.", "@exportfs -v | grep -A1 {path}"},
		{"not-encrypted", Fail, "xprtsec is among the options, and the kernel mounts without TLS: another mount of the server on this machine has none, and the kernel takes the two for one.",
			"Use another minor version (nfsvers=4.1) for all shares of that server that have TLS, or TLS for all its shares.", "findmnt -t nfs4 -o SOURCE,TARGET,OPTIONS"},
		{"no-tlshd", Fail, "xprtsec is among the options, and tlshd does not run on this machine.",
			"Install ktls-utils here, and start it. Where it runs in a container, that needs hostNetwork.", "systemctl enable --now tlshd"},
		{"no-handshake", Fail, "xprtsec is among the options, and the TLS handshake fails: the server's name is not in its certificate, its CA is unknown here, or with mtls this machine has no certificate, or one that the server does not believe; or one has expired. Or the export is not for this machine.",
			"The journal of tlshd, here and on the server, says which. If both say nothing, look at the export.", "journalctl -u tlshd -n 20"},
		{"no-gssd", Fail, "sec=krb5 is among the options, and rpc.gssd does not run on this machine.",
			"Start it. systemd starts it only where there is /etc/krb5.keytab. Where it runs in a container, that needs hostNetwork.", "modprobe rpcsec_gss_krb5; systemctl start rpc-gssd; systemctl status rpc-gssd"},
		{"no-context", Fail, "sec=krb5 is among the options, and Kerberos fails: this machine has no key or no rpc.gssd, the KDC does not answer, the server's name is not that of its principal, or clocks differ; or the server has no key, or rpc.svcgssd or gssproxy does not run there, which takes 30 seconds. Or the export is not for this machine.",
			"Get a ticket with the machine's key: the error says which of the first. Otherwise the journal of rpc.gssd does, and on the server that of rpc.svcgssd or gssproxy.", "klist -k; kinit -k nfs/$(hostname -f); journalctl -u rpc-gssd -n 20"},
		{"no-label", Fail, "An SELinux context is among the options, and the mount has none.",
			"Have mount(8) see the host's /sys/fs/selinux and /etc/selinux, or take the option away where SELinux is off.", "getenforce"},
		{"less", Fail, "The mount has less than the options ask for.",
			"Ask for what server and machine have, or have them offer more.", "findmnt -t nfs,nfs4 -o SOURCE,TARGET,OPTIONS"},
		{"stale", Fail, "The export was made anew, or its disk is not mounted on the server.",
			"Look at the disk on the server, and export again.", "@exportfs -ra"},
		{"silent", Fail, "The server answers, and not to a mount.",
			"The server may be in the grace period after a restart, or a firewall lets 2049 through and not what NFSv3 needs (rpcbind, mountd). Try again, or use nfsvers=4.2. With sec=krb5, rpc.svcgssd or gssproxy may not run there.", "rpcinfo -p {server}"},
	}
}

// shareChecks are about what a share can do, once it is mounted.
func shareChecks() []Check {
	return slices.Concat(overlapChecks(), identityChecks(), writingChecks(), featureChecks(), measureChecks())
}

// identityChecks are about which share it is.
func identityChecks() []Check {
	return []Check{
		{"identity", "the right share", "the id in .mooring/format.json, and that in the configuration", "An export whose disk is not mounted on the server is an empty directory, that of another disk another share.", []Problem{
			{"not-laid-out", Fail, "Nothing of Mooring's is there, and the configuration says which share it should be.",
				"Mount the right disk on the server. If the share was emptied on purpose, lay it out anew, and set its new id in the configuration.", "mooringctl share forget {share}"},
			{"another-share", Fail, "It is another share than the configuration says.",
				"Mount the right disk on the server, or correct the share's id in the configuration.", "mooringctl shares"},
			{"no-id", Warn, "It has no id: another disk in its place would not be noticed.",
				"Create a volume, with which it gets one; or give it one by hand.", "mooringctl share reidentify {share}"},
			{"same-share", Warn, "Another share has its id: one is a copy of the other, or both names are those of one directory.",
				"Give a copy an id of its own. Of two names of one directory keep one: its volumes are listed under both.", "mooringctl share reidentify {share}"},
		}},
	}
}

// overlapChecks are about where the share lies.
func overlapChecks() []Check {
	return []Check{
		{"apart", "lies apart", "its server and path are compared with those of the registered shares", "A volume of one share would hold those of another that lies inside it.", []Problem{
			{"nested", Warn, "It is not registered, and lies inside a registered share, or holds one. Its volumes go on, and there are no new ones.",
				"Move the data of its volumes to volumes of the registered share.", "mooringctl volumes --share {share}"},
		}},
	}
}

// writingChecks are about who may write what.
func writingChecks() []Check {
	return []Check{
		{"writable", "can be written", "a probe file is made, written and synced", "Mooring keeps its records on the share, and makes directories there.", []Problem{
			{"read-only", Fail, "The share is read-only on the server: its file system went read-only after an error of its disk, or it is exported so.",
				"Look for errors of the disk on the server first. If there are none, export it rw.", "@dmesg | tail -30; exportfs -v | grep -A1 {path}"},
			{"not-allowed", Fail, "The server does not let us: it maps root to nobody (root_squash), and the directory is another's.",
				"Export with no_root_squash, or give the directory to the user that root is mapped to.", "@chown nobody {path}"},
			{"full", Fail, "No space is left.",
				"Free some on the server. Deleted volumes wait in the trash for trashRetention.", "@df -h {path}"},
			{"no-inodes", Fail, "No inodes are left.",
				"Remove files on the server, or move to a file system with more inodes.", "@df -i {path}"},
			{"quota", Fail, "A quota on the server is used up.",
				"Raise it on the server.", "@repquota -a"},
		}},
		{"root", "root stays root", "the owner of the probe file", "Only root gives volumes an owner (uid, gid, fsGroup) and keeps owners in snapshots.", []Problem{
			{"squashed", Warn, "The server maps root to another user (root_squash).",
				"If classes say uid or gid, or pods fsGroup: export with no_root_squash, to the nodes alone. docs/nas.md says where a NAS has this.", "@exportfs -v | grep -A1 {path}"},
			{"all-squashed", Warn, "The server maps everybody to one user (all_squash), whether it says no_root_squash or not.",
				"Leave uid and gid out of classes, and fsGroup out of pods: all is that user's, who is chosen by anonuid and anongid of the export. If volumes are to have owners: export with no_root_squash and without all_squash, to the nodes alone. docs/nas.md says where a NAS has this.", "@exportfs -v | grep -A1 {path}"},
			{"not-root-by-name", Warn, "With Kerberos root is this machine's principal, and the server takes that for another user.",
				"If classes say uid or gid, or pods fsGroup: have the server map nfs/HOST@REALM of each node and the controller's machine to root, in the section Static of /etc/idmapd.conf, with Method = static,nsswitch in Translation; and export with no_root_squash. With gssproxy it is auth_to_local in krb5.conf.", "@grep -A2 -E 'Static|Translation' /etc/idmapd.conf"},
		}},
		{"owners", "owners are kept", "the probe file is given to 1234:5678 and looked at", "Pods see who their files belong to by these numbers.", []Problem{
			{"mapped", Warn, "Another owner comes back: server and client do not agree on names (idmapping).",
				"Have the server take numbers, or give both the same Domain in /etc/idmapd.conf.", "echo Y >/sys/module/nfs/parameters/nfs4_disable_idmapping"},
			{"unnamed", Warn, "With Kerberos server and client go by names, and a user and group that have one on both sides are not the same there.",
				"Give both the same Domain in /etc/idmapd.conf, and see that rpc.idmapd runs on the server. Without that, all that is not root's is nobody's.", "nfsidmap -d; nfsidmap -c"},
			{"no-idmapper", Warn, "Server and client go by names, and this machine cannot ask who they are.",
				"Install keyutils here, which has request-key, and nfsidmap, of nfs-common.", "apt install keyutils nfs-common || dnf install keyutils nfs-utils"},
			{"refused", Warn, "The server does not let root give files away.",
				"Export with no_root_squash; some filers restrict chown by a setting of its own.", "@exportfs -v | grep -A1 {path}"},
		}},
	}
}

// featureChecks are about what not every server has.
func featureChecks() []Check {
	return []Check{
		{"clone", "CLONE", "the probe file is cloned", "With it a snapshot shares its blocks and takes a moment.", []Problem{
			{"no-clone", Warn, "The server does not share blocks. Snapshots are copies, and take their size.",
				"Export XFS (with reflink) or Btrfs, or a filer that clones.", "@xfs_info {path} | grep reflink"},
		}},
		{"copy", "COPY", "the probe file is copied", "With it the server copies by itself what it does not clone.", []Problem{
			{"no-copy", Warn, "It does not: the data of snapshots goes through the network twice.",
				"A newer server does (Linux from 5.6 on).", ""},
		}},
		{"xattr", "extended attributes", "one is set and read", "Some programs keep something there; snapshots keep them.", []Problem{
			{"no-xattr", Warn, "The server takes none.",
				"A newer server does (Linux from 5.9 on), on a file system that has them.", ""},
		}},
		{"acl", "access control lists", "the probe file's is read", "Where they are used, snapshots keep them.", []Problem{
			{"no-acl", Warn, "The server has none.", "Nothing needs to be done unless programs need them.", ""},
		}},
		{"links", "hard links", "the probe file is given a second name", "Records are published by a link: the second of two that come at once is refused.", []Problem{
			{"no-links", Warn, "The server has none. Mooring does with O_EXCL, and snapshots hold each name as a file of its own.",
				"Export another file system.", ""},
		}},
		{"renames", "renames", "the share is mounted twice; by one mount files and directories are renamed, made and removed where the other has made something of that name, or has removed the directory", "Two controllers at a time do no harm because the server refuses what comes late.", []Problem{
			{"wrong", Fail, "The server does what it has to refuse, or loses a directory that is open.",
				"Use another server, or another file system on it. Nothing else helps: a late request may take what is another volume's.", ""},
		}},
		{"holes", "holes", "SEEK_HOLE in the probe file", "Files with holes, as disk images are, are copied without reading these.", []Problem{
			{"no-holes", Warn, "The server does not tell where they are.", "Nothing needs to be done: zeros are read, and not written.", ""},
		}},
		{"locks", "locks", "a lock is taken on the probe file", "Databases, and whoever shares a volume among pods, rely on them.", []Problem{
			{"no-locks", Fail, "The server does not give one.",
				"NFSv3 needs rpc.statd on both sides, and an open port of the server's lock service. NFS 4.2 needs neither: nfsvers=4.2.", "rpcinfo -p {server}"},
			{"grace", Warn, "The server holds locks back. After a restart it does so for its grace period, in which clients take back the locks that they had: 90 seconds for Linux, if nobody has changed it.",
				"Wait for two minutes, and try again. If it stays so, look at the server's log.", "@cat /proc/fs/nfsd/nfsv4gracetime; dmesg | tail"},
			{"local", Warn, "The share is mounted with nolock: each node has locks of its own, and another node's pod does not see them.",
				"Leave out nolock; NFS 4.2 needs no lock service.", ""},
		}},
	}
}

// measureChecks are about numbers.
func measureChecks() []Check {
	return []Check{
		{"clock", "clock", "the time that the server gives the directory of the probe file", "File times are the server's, and programs compare them with their own.", []Problem{
			{"off", Warn, "Server and client are more than 30 seconds apart.",
				"Have both follow a time server.", "timedatectl set-ntp true; chronyc tracking"},
			{"far-off", Fail, "They are more than five minutes apart. What an interrupted controller has left may not be recognised, and Kerberos fails.",
				"Have both follow a time server.", "timedatectl set-ntp true; chronyc tracking"},
		}},
		{"times", "times are kept", "the probe file is made ten minutes older; by NFS 4.2 another file, too, at which another NFS client looks", "cp -p, tar and rsync set the times of files, and make and backups go by them.", []Problem{
			{"not-kept", Warn, "The server has another time than the one that was set.",
				"Look for a setting of the server's, or of its file system, that has times be its own.", "@dmesg | tail"},
			{"delegated", Warn, "The server loses a time that a program sets, while the client has the file delegated to it: Linux 7.2's does, by NFS 4.2, and others see the time at which the delegation ended. What Mooring copies keeps its times.",
				"Where programs need them: set nfsvers=4.1 in the share's mountOptions, which has no CLONE and no COPY; or have the server delegate nothing.", "@sysctl fs.leases-enable=0"},
		}},
		{"latency", "latency", "the median of 20 GETATTRs", "Making a volume takes some sixteen round trips, a snapshot eight for each file.", []Problem{
			{"slow", Warn, "A round trip takes more than 20 ms.",
				"Look for the way to the server, and at its load.", "nfsiostat 1 3; ping -c 5 {server}"},
		}},
		{"space", "space", "what statfs says", "Volumes have no size of their own: all of them share it.", []Problem{
			{"low", Warn, "Less than 10 % is free.",
				"Free some, or enlarge the file system. Deleted volumes wait in the trash for trashRetention.", "@df -h {path}"},
			{"full", Fail, "Less than 1 % is free.",
				"Free some, or enlarge the file system. Deleted volumes wait in the trash for trashRetention.", "@df -h {path}"},
		}},
		{"inodes", "inodes", "what statfs says", "Each file needs one, whatever its size.", []Problem{
			{"low", Warn, "Less than 10 % is free.", "Remove files, or move to a file system with more inodes.", "@df -i {path}"},
			{"none", Fail, "Less than 1 % is free.", "Remove files, or move to a file system with more inodes.", "@df -i {path}"},
		}},
	}
}
