// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

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
	anyTimes bool     // the server keeps other nanoseconds of some times, and not always of the same
	maybe    []string // what may be broken too: faults of a server or of the client that come and go
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

// What many servers lack, and whose that is.
const (
	// Mooring leaves sockets out: they mean nothing without their process.
	sockets = "missing: socket"
	// NFS has user attributes since 4.2 (RFC 8276); not every file system that is exported has them.
	noAttributes = "user attributes: operation not supported"
	noLists      = "an ACL: operation not supported"
	// NFSv3 has 32 bits without a sign for the seconds of a time (RFC 1813, nfstime3).
	before1970 = "a time before 1970: it is another then"
	after2106  = "a time after 2106: it is another then"
	// NFS-Ganesha 4.3's VFS takes times of symbolic links and does not set them.
	linkTimes = "a time of a symbolic link: it is another then"
	// Linux 7.2 by NFS 4.0: TestZeros shows it without Mooring.
	zeros = `which was open, has "\x00\x00\x00\x00\x00\x00\x00after\n"`
	// Linux 7.2 as a server of 4.2: the time that a program has set is lost with the delegation (RFC 9754).
	lateTimes = "mtime: many entries"
)

// linux are the runs on a kernel's server whose file system has all that NFS has words for. way is how
// files are copied by 4.2.
func linux(way string, versions ...string) (runs []try) {
	for _, version := range versions {
		w := want{method: readAndWrite, lost: []string{sockets}}
		switch version {
		case "4.2":
			w.method, w.changed, w.doctor = way, []string{lateTimes}, []string{"! times: delegated"}
			if way != clone {
				w.doctor = []string{"! clone: no-clone", "! times: delegated"}
			}
		case "3":
			w.refused = []string{after2106, before1970, noAttributes}
		case "4.0":
			w.refused, w.maybe = []string{noAttributes}, []string{zeros}
		default:
			w.refused = []string{noAttributes}
		}
		runs = append(runs, try{version: version, want: w})
	}
	return runs
}

// but is runs of which something is different.
func but(runs []try, change func(*try)) []try {
	for i := range runs {
		change(&runs[i])
	}
	return runs
}

// squashed are the runs on a server where root has the rights of an ordinary user, who owns the share's
// directory: a file that its owner may not read cannot be copied, and the tree has such files.
func squashed(doctor string) []try {
	return but(linux(clone, "4.2", "3"), func(r *try) {
		r.doctor, r.lost, r.method = []string{doctor}, nil, ""
		if r.version == "4.2" {
			r.refused = nil
		}
		r.refused = append(r.refused, "chown of a symlink: operation not permitted", "chown: operation not permitted", "mknod: operation not permitted")
		slices.Sort(r.refused)
		r.broken = []string{"permission denied", "the log does not say how files were copied"}
	})
}

// servers are all of them, in the order of the table.
var servers = []server{
	{name: "knfsd-xfs", title: "Linux, XFS", runs: linux(clone, "4.2", "4.1", "4.0", "3")},
	{name: "knfsd-ext4", title: "Linux, ext4", runs: linux(serverCopy, "4.2", "3")},
	{name: "knfsd-btrfs", title: "Linux, Btrfs", runs: linux(clone, "4.2", "3")},
	{name: "knfsd-f2fs", title: "Linux, F2FS", runs: linux(serverCopy, "4.2", "3")},
	{name: "knfsd-tmpfs", title: "Linux, tmpfs", runs: linux(serverCopy, "4.2", "3")},
	{name: "knfsd-overlayfs", title: "Linux, overlayfs on XFS", runs: but(linux(clone, "4.2", "3"), func(r *try) {
		if r.version == "4.2" { // overlayfs passes CLONE on to XFS, and has no user attributes for NFS
			r.doctor, r.refused = append(r.doctor, "! xattr: no-xattr"), []string{noAttributes}
		}
	})},
	{name: "knfsd-fsid0", title: "Linux, XFS: `fsid=0`, path `/`", runs: linux(clone, "4.2", "4.0")},
	{name: "knfsd-crossmnt", title: "Linux, ext4 below an export with `crossmnt`", runs: linux(serverCopy, "4.2", "3")},
	{name: "knfsd-v4", title: "Linux, XFS: NFSv4 alone, no rpcbind", runs: linux(clone, "4.2")},
	{name: "knfsd-v3", title: "Linux, XFS: NFSv3 alone", runs: but(linux(clone, "3"), func(r *try) {
		r.doctor = []string{"! versions: only-3"}
	})},
	{name: "knfsd-subtree", title: "Linux, XFS: `subtree_check`", runs: linux(clone, "4.2", "3")},
	{name: "knfsd-root-squash", title: "Linux, XFS: `root_squash`, the directory nobody's", runs: squashed("! root: squashed")},
	{name: "knfsd-all-squash", title: "Linux, XFS: `all_squash`, the directory theirs", runs: squashed("! root: all-squashed")},
	{name: "knfsd-async", title: "Linux, XFS: `async`", runs: linux(clone, "4.2", "3")},
	{name: "knfsd-secure", title: "Linux, XFS: `secure`", runs: linux(clone, "4.2", "3")},
	{name: "ganesha-xfs", title: "NFS-Ganesha 4.3, VFS on XFS", runs: ganesha()},
	{name: "ganesha-ext4", title: "NFS-Ganesha 4.3, VFS on ext4", runs: ganesha()[1:3]},
	{name: "go-nfs", title: "go-nfs 0.0.4", runs: []try{{
		// It knows files by their paths: what was opened is lost when it is renamed.
		version: "3", options: "port=2050,mountport=2050,proto=tcp,mountproto=tcp,nolock", hopeless: true,
		want: want{
			doctor: []string{"! acl: no-acl", "! links: no-links", "! locks: local", "! versions: only-3", "✗ renames: wrong"},
			broken: []string{"another file handle when it is renamed"},
		},
	}}},
	{name: "ceph", title: "CephFS 16.2, by NFS-Ganesha 4.3", mem: "5G", runs: but(ganesha(), func(r *try) {
		// It has times of symbolic links and user attributes, and 32 bits without a sign for the seconds of a
		// time. It does not say where holes are.
		if r.hopeless {
			r.doctor = []string{"! acl: no-acl", "! clone: no-clone", "! copy: no-copy", "! holes: no-holes", "✗ latency: unknown-error"}
			return
		}
		r.refused, r.lost, r.method = []string{after2106, before1970, noLists}, []string{sockets}, readAndWrite
		if !r.noDelegations {
			r.refused = append(r.refused, noAttributes)
		} else {
			r.doctor = []string{"! acl: no-acl", "! clone: no-clone", "! copy: no-copy", "! holes: no-holes"}
		}
	})},
	{name: "ceph-kernel", title: "CephFS 16.2, by Linux", mem: "5G", runs: but(linux(serverCopy, "4.2", "3"), func(r *try) {
		r.refused, r.changed = []string{after2106, before1970, noLists, noAttributes}, nil
		if r.version == "4.2" {
			r.doctor = []string{"! acl: no-acl", "! clone: no-clone", "! holes: no-holes", "! xattr: no-xattr"}
		}
	})},
	{name: "gluster", title: "GlusterFS 10.3, by NFS-Ganesha 4.3", mem: "3G", runs: but(ganesha(), func(r *try) {
		if r.hopeless {
			r.doctor = []string{"! clone: no-clone", "! copy: no-copy", "! xattr: no-xattr", "✗ latency: unknown-error"}
			return
		}
		const nanoseconds = ": its nanoseconds are others then"
		r.refused = []string{"a time after 2038" + nanoseconds, "a time after 2106" + nanoseconds, "a time before 1970" + nanoseconds,
			"a time of a symbolic link" + nanoseconds, "a time" + nanoseconds, noAttributes}
		r.lost, r.method, r.doctor = []string{sockets}, readAndWrite, nil
		switch r.version {
		case "4.2":
			r.doctor = []string{"! clone: no-clone", "! copy: no-copy", "! xattr: no-xattr"}
		case "3":
			r.doctor, r.refused[1], r.refused[2] = []string{"! locks: local"}, after2106, before1970
			r.refused = slices.Insert(r.refused, 5, noLists)
		}
		r.anyTimes = true
	})},
}

// ganesha are the runs on an NFS-Ganesha that exports a file system of its machine.
func ganesha() []try {
	lost := []string{sockets, "mtime: absolute, dangling, long, odd, symlink"}
	return []try{
		{version: "4.2", title: "4.2, as it is", hopeless: true, want: want{
			doctor: []string{"! acl: no-acl", "! clone: no-clone", "! copy: no-copy", "! xattr: no-xattr", "✗ latency: unknown-error"},
			broken: []string{"remote I/O error"}, // nfs-ganesha#1385
		}},
		{version: "4.2", noDelegations: true, want: want{
			doctor:  []string{"! acl: no-acl", "! clone: no-clone", "! copy: no-copy", "! xattr: no-xattr"},
			refused: []string{linkTimes, noLists, noAttributes}, lost: lost,
			method: serverCopy + ", " + readAndWrite + " or " + readAndWrite, // COPY only of an empty file
		}},
		{version: "4.0", want: want{
			doctor:  []string{"! acl: no-acl"},
			refused: []string{linkTimes, noLists, noAttributes}, lost: lost, method: readAndWrite,
		}},
		// Its lock manager and that of the client are on one machine here, and have one rpcbind: nolock is
		// the lab's need, and not Ganesha's.
		{version: "3", options: "nolock", want: want{
			doctor:  []string{"! locks: local"},
			refused: []string{after2106, before1970, linkTimes, noLists, noAttributes}, lost: lost, method: readAndWrite,
		}},
	}
}
