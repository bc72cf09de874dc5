// SPDX-License-Identifier: Apache-2.0

// Package beneath opens files and directories inside a directory that others can write to,
// and never outside it. A [Dir] is a descriptor of a directory; every operation takes a Dir
// and a path or a name relative to it. No path is ever joined and then opened.
//
// # Threat model
//
// The directory is on an NFS share. Tenants, other clients and the server's administrator
// can change the tree at any moment, also between two system calls of this process or while
// a path is being resolved. The process runs as root, so that an open that lands elsewhere
// reads, changes or removes a file that the attacker could not. Text from users, such as
// the directory of a volume, is used as a path.
//
// The package withstands these attacks:
//
//   - Absolute paths, and ".." that leads out of the directory: [Dir.Resolve] fails with EXDEV.
//   - Symbolic links in any component of the path, to any target, created before or during the
//     call: Resolve fails with ELOOP, or with ENOTDIR if it is the last component. [Dir.Open]
//     fails with ELOOP.
//   - Magic links, such as /proc/PID/root and /proc/PID/fd/N: Resolve fails with ELOOP.
//   - Mount points inside the tree, including bind mounts and a further export of an NFS
//     server: Resolve fails with EXDEV.
//   - A parent directory that is renamed, or replaced by a link, between two operations: a
//     Dir keeps the directory that it was opened on, and the operations use the descriptor and
//     not the name.
//   - FIFOs and devices in the place of a directory: Resolve opens only directories, and with
//     O_PATH, which has no side effects on them.
//
// It does not withstand these:
//
//   - Hard links. A tenant can give a file a second name anywhere in the same file system.
//     Check the number of links if that matters.
//   - A directory that is moved out of the tree after it was opened. The descriptor still
//     refers to it; for the time of one call that cannot be prevented.
//   - Names that are not single components. All functions except Resolve and [Openat] pass a
//     name to the *at system calls: it must be one component that this program chose or read
//     from the directory. Use Resolve for text from users.
//
// # What does not work
//
// The obvious ways are wrong, each for its own reason:
//
//   - os.Open(filepath.Join(root, path)). The kernel follows each link on the way, out of the
//     root if the link says so. filepath.Clean removes "..", but not links.
//   - Check first, open later: Lstat or filepath.EvalSymlinks, check the result, then open the
//     path. The open resolves the path again. An attacker who replaces a component by a link in
//     between bypasses the check (a race between time of check and time of use). Only the file
//     of a descriptor can be checked, because it stays the same.
//   - O_NOFOLLOW on the whole path. It applies to the last component only (open(2)); links in
//     the components before it are followed.
//   - [os.Root]. It keeps to its root, but it follows links inside it, and it crosses mount
//     points by design: a link to another tenant's directory is inside the root.
//   - chroot(2). It changes the whole process, and needs a process for each share.
//
// The right way is one openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS,
// RESOLVE_NO_MAGICLINKS and RESOLVE_NO_XDEV. The kernel enforces all four while it resolves
// the path, so there is no moment in which a check is already out of date. See openat2(2),
// which Linux has had since version 5.6.
//
// # NFS
//
// An NFS client caches attributes and names, and answers from its cache without asking the
// server (RFC 8881, sections 10.6 and 10.8). With a delegation of a directory or file it may
// do so until the server recalls it (sections 10.4 and 10.9). Therefore:
//
//   - A lookup may find a name that another client has removed. Call [Dir.Refresh] first if
//     that would be harmful. [Names] does so itself.
//   - A directory that is opened by its name may be listed from the cache, while the client has a
//     delegation of its parent (Linux 7.2, nfs_lookup_revalidate_delegated). [Entries] opens "." of
//     the open directory, for which the client asks the server. After an open by name, call
//     [Dir.Refresh].
//   - Only creating a name shows that it is free: [Dir.Mkdir] and [Dir.Link] return EEXIST,
//     and exactly one of several clients succeeds.
//   - ESTALE (NFS4ERR_STALE) means that the server does not have the open file or directory any
//     more. Treat it as ENOENT, unless the root of the share itself is stale. EAGAIN says that
//     the client could not find out: the name may exist.
//   - A write may succeed and the error, a full disk for example, come later. [Write]
//     calls fsync(2) before it returns.
//
// Each operation may block for as long as the server does not answer. None takes a context:
// a system call on a dead NFS server cannot be cancelled.
//
// # Errors
//
// Errors are of the type *[os.PathError], with the name that the caller passed; the directory
// itself is called ".". Only [Openat], which replaces a system call, returns in most cases the bare
// [golang.org/x/sys/unix.Errno].
package beneath
