// SPDX-License-Identifier: Apache-2.0

package main

// server is one of those that test/servers/server brings up.
type server struct {
	name, title string
	mem         string // of the guest; "": 2G
	runs        []try
}

// try is how a server is mounted, and what is expected then.
type try struct {
	version string // nfsvers
	title   string // "": the version
	options string // more mount options
	// noDelegations has the client ask for no delegation of directories: the parameter
	// directory_delegations=N of the kernel's module nfsv4.
	noDelegations bool
	// forgets: what was on the server is lost when it is killed. It is not, then.
	forgets bool
	// hopeless: most fails on the server. Doctor is asked, and a volume lives as far as it gets.
	hopeless bool
	want
}

// want is what is expected of a run, besides that nothing is wrong. It is in the words of result.
type want struct {
	doctor   []string
	refused  []string
	changed  []string
	lost     []string
	method   string
	failures []string // of csi-sanity
	broken   []string // each has to be a part of what is broken, and nothing else to be broken
}

func (s server) memory() string {
	if s.mem == "" {
		return "2G"
	}
	return s.mem
}

func (r try) name() string {
	if r.title != "" {
		return r.title
	}
	return r.version
}

// all are the mount options of the run.
func (r try) all() string {
	if r.options == "" {
		return "nfsvers=" + r.version
	}
	return "nfsvers=" + r.version + "," + r.options
}

const (
	clone        = "CLONE"
	serverCopy   = "COPY"
	readAndWrite = "read and write"
)

// servers are all of them, in the order of the table.
var servers = []server{
	{name: "knfsd-xfs", title: "Linux, XFS", runs: []try{{version: "4.2"}, {version: "4.1"}, {version: "4.0"}, {version: "3"}}},
	{name: "knfsd-ext4", title: "Linux, ext4", runs: ends},
	{name: "knfsd-btrfs", title: "Linux, Btrfs", runs: ends},
	{name: "knfsd-f2fs", title: "Linux, F2FS", runs: ends},
	{name: "knfsd-tmpfs", title: "Linux, tmpfs", runs: ends},
	{name: "knfsd-overlayfs", title: "Linux, overlayfs on XFS", runs: ends},
	{name: "knfsd-fsid0", title: "Linux, XFS: `fsid=0`, path `/`", runs: []try{{version: "4.2"}, {version: "4.0"}}},
	{name: "knfsd-crossmnt", title: "Linux, ext4 below an export with `crossmnt`", runs: ends},
	{name: "knfsd-v4", title: "Linux, XFS: NFSv4 alone, no rpcbind", runs: []try{{version: "4.2"}}},
	{name: "knfsd-v3", title: "Linux, XFS: NFSv3 alone", runs: []try{{version: "3"}}},
	{name: "knfsd-subtree", title: "Linux, XFS: `subtree_check`", runs: ends},
	{name: "knfsd-root-squash", title: "Linux, XFS: `root_squash`, the directory nobody's", runs: ends},
	{name: "knfsd-all-squash", title: "Linux, XFS: `all_squash`, the directory theirs", runs: ends},
	{name: "knfsd-async", title: "Linux, XFS: `async`", runs: ends},
	{name: "knfsd-secure", title: "Linux, XFS: `secure`", runs: ends},
	{name: "ganesha-xfs", title: "NFS-Ganesha 4.3, VFS on XFS", runs: ganesha},
	{name: "ganesha-ext4", title: "NFS-Ganesha 4.3, VFS on ext4", runs: ganesha[1:3]},
	{name: "ganesha-mem", title: "NFS-Ganesha 4.3, MEM", runs: []try{{version: "4.2", noDelegations: true, forgets: true}, {version: "3", options: "nolock", forgets: true}}},
	{name: "go-nfs", title: "go-nfs 0.0.4", runs: []try{{version: "3", options: "port=2050,mountport=2050,proto=tcp,mountproto=tcp,nolock"}}},
	{name: "ceph", title: "CephFS 16.2, by NFS-Ganesha 4.3", mem: "5G", runs: ganesha},
	{name: "ceph-kernel", title: "CephFS 16.2, by Linux", mem: "5G", runs: ends},
	{name: "gluster", title: "GlusterFS 10.3, by NFS-Ganesha 4.3", mem: "3G", runs: ganesha},
}

var (
	ends = []try{{version: "4.2"}, {version: "3"}}
	// Ganesha's lock manager and that of the client are on one machine here, and have one rpcbind:
	// nolock is the lab's need, and not Ganesha's.
	ganesha = []try{
		{version: "4.2", title: "4.2, as it is", hopeless: true},
		{version: "4.2", noDelegations: true},
		{version: "4.0"},
		{version: "3", options: "nolock"},
	}
)
