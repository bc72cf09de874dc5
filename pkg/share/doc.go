// SPDX-License-Identifier: Apache-2.0

// Package share keeps Mooring's state on a share: one NFS export, opened as a rooted directory.
//
// # Layout of a share
//
//	<directory>/                        a volume: what the pod sees, and nothing else
//	.mooring/                           mode 0700
//	  format.json                       what a program must know to change anything here, and the share's id
//	  format.<maker>.<run>.<nonce>      a format that is being written
//	  id.json                           the id of a share whose format.json has none
//	  heartbeat                         rewritten periodically, to check that the disk accepts writes
//	  volumes/<key>/                    the entry of a volume. Its record has one of these names:
//	    making.json                       the volume is being created
//	    placing.json                      the same, and its tree is being renamed into its place
//	    record.json                       it exists
//	    deletion, deletion/record.json    a file: it is being deleted
//	    abort.json, unplace.json          its creation is being undone: from making, from placing
//	    deletion/                       the holds: while there is one, the volume cannot be deleted
//	      copy.<target>.<nonce>           a copy reads it
//	      user.<key>.<nonce>              a volume is this snapshot itself
//	      change/record.json              an update has locked the record, and writes the new one
//	      sealed                          there will be no more holds: it is being deleted
//	    claim/                          the claim, before it is in its place
//	    stage/tree/                     the tree, on its way in
//	    unstaged/                       a staged tree that will not be placed any more
//	    copy/                           a complete copy that a project quota keeps out of its place
//	    empty/                          an empty directory that replaces one which cannot be renamed
//	    tree/                           the tree, on its way out
//	  snapshots/<key>/                  the entry of a snapshot, with record and holds as above
//	    data/                           its tree
//	  groups/<key>/                     the entry of a snapshot group, with a record as above
//	  claims/<name>/taken               a file: the directory <name> is a volume's; a link to its record
//	  claims/<name>/<key>.<nonce>       the owner of the claim, if the server has no hard links
//	  claims/<name>/taken/              a directory: <name> is a parent, whose directories have their claims here
//	  claims/<name>/dead/               an empty parent that is being removed
//	  parents/c.<path>                  a parent whose claims Mooring made
//	  parents/d.<path>                  a parent whose directory Mooring made
//	  jobs/<target>.<nonce>             a copy in progress: a link to the target's record
//	  inline/<key>/                     the directory of a pod's inline volume
//	  staging/<maker>.<run>.<nonce>     what is prepared here and then renamed into its place
//	  trash/<key>.<nonce>               the tree of a deleted volume
//	  trash/<key>.<nonce>.snapshot      the tree of a deleted snapshot
//	  trash/<key>.<nonce>.leftover      an incomplete tree, which is purged at once
//	  trash/<id>.<deleted>.<due>.json   the record of trash/<id>; times in seconds, by the server's clock
//	  trash/<id>.purging                a tree that is being purged
//
// Records are JSON (package volume), and are synced before they get their name.
//
// # Terms
//
//   - Laid out, or initialized: the share has a format.json.
//   - Key: the name under which an object is recorded, derived from its CSI name (volume.KeyFor).
//   - Incarnation: one of the objects that had a key one after the other. Each attempt to create
//     one has a nonce, which is in its record and in the names above.
//   - Entry: the directory of one incarnation. A volume, snapshot or group exists if its entry has a
//     record.json. The entry is dead when it has been removed.
//   - Target: the volume or snapshot that a copy becomes: "volume.<key>" or "snapshot.<key>".
//   - Place: the path at which a tree or directory is used. To place a tree is to rename it there.
//   - Claim: the file that says which volume has a directory.
//   - Parent: a directory above those of volumes. A bar is the empty file "taken" with which a
//     process that removes an idle parent prevents claims in it.
//   - Hold: a file in an entry that prevents its deletion.
//   - Mark: the rename of a record after which there is no way back: to delete, or to undo.
//   - Maker: the instance of the driver that creates an object. Run: one process of it.
//   - Lease: how long others leave an unfinished object to its maker, since the mtime of its record.
//     The maker renews it: it sets the mtime (CopyJob.Renew). The file heartbeat is something else.
//   - Stray: a tree of unknown origin, which Mooring never purges.
//   - Lost: an open share that must be mounted again (Share.Lost).
//
// The comments of the exported methods list the names that they change. In them "entry" is the
// entry's directory. Volumes.Begin, Pending.MakeDirectory and Pending.Commit create a volume;
// Pending.BeginCopy and Pending.CommitCopy fill it; Volumes.Update changes its record;
// Volumes.Delete deletes it, and Trash.Purge ends it. Snapshots.Begin, PendingSnapshot.BeginCopy and
// PendingSnapshot.Commit create a snapshot.
//
// # Rules
//
// A process may stop between any two steps, for any time. By its next step everything may have
// changed. The destination of a rename is the fence: a tree that leaves its place is renamed into the
// entry. If the entry has been removed, the server refuses that rename.
//
//   - An entry belongs to one incarnation of its key. All work on it uses its handle.
//   - Entries and directories of claims are prepared elsewhere, with their content, and renamed into
//     place. They are never empty there. An empty one has ended: any process may remove it, and none
//     puts anything into it.
//   - While an entry exists, its volume has the claim on its directory. A process releases a claim
//     only if it knows that the entry is dead, and through the handle of the claim's directory.
//   - Outside of .mooring a process renames or removes only what is claimed by the record of an
//     entry that exists. The one exception is an empty parent that Mooring made, which goes into its
//     barred directory of claims.
//   - The name of a record is its state. Steps that exclude each other rename the same file: commit
//     and undo, deletion and hold, restore and purge. Placing a tree and undoing that rename the
//     stage.
//   - A tree on its way in is in stage, a tree on its way out in tree. Names in the trash have a
//     nonce.
//   - An entry that has a record is not removed. A tree in an entry without a record goes back to the
//     trash if it came from there, and is discarded if it is a copy. Any other tree goes to the trash
//     without a record, as a stray, which Mooring never purges.
//   - The result of a rename, mkdir, link or unlink decides, never a check before it.
//   - Ages are measured by the server's clock. Inode numbers are compared only within one call; that
//     of a parent saves a listing while the share is open.
//
// docs/design.md has the steps of each protocol, the state after each of them, and the alternatives
// that were rejected. The names passed to disk.step are those in its tables.
//
// # How paths are opened
//
// A Share holds descriptors of its root and of its own directories (package beneath). A name that
// Mooring made is resolved in its directory's descriptor, one component at a time, and no link is
// followed. Text from users, the directory of a volume, is resolved by one openat2(2) beneath the
// root, without symbolic links and without crossing into another file system. A link that a tenant
// plants, before or at the same time, ends in an error and leads nowhere else. No path is ever joined
// and then opened.
package share
