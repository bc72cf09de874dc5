// SPDX-License-Identifier: Apache-2.0

// Package share is one NFS export seen as a rooted directory, and what Mooring keeps on it.
//
// # What is on a share
//
//	<directory>/                        a volume: what the pod sees, and nothing of ours in it
//	.mooring/                           mode 0700
//	  format.json                       what a program has to know in order to change anything here
//	  id.json                           the id of a share whose format.json says none
//	  heartbeat                         rewritten now and then, to see whether the disk takes it
//	  volumes/<key>/                    the entry of a volume. Its record has one of these names:
//	    making.json                       it is being created
//	    placing.json                      the same, and its tree is being put in its place
//	    record.json                       it exists
//	    deletion, deletion/record.json    it is being deleted
//	    abort.json, unplace.json          its creation is being undone: from making, from placing
//	    deletion/                       the holds: while there are any it cannot be deleted
//	      copy.<target>.<nonce>           a copy reads it
//	      user.<key>.<nonce>              a volume is this snapshot itself
//	      change/record.json              an update has locked the record, and writes the new one
//	      sealed                          there will be no more of them: it is being deleted
//	    claim/                          the claim, before it is in its place
//	    stage/tree/                     the tree, on its way in
//	    unstaged/                       the same, which is not to be put in its place any more
//	    copy/                           a whole copy that a project keeps from being renamed into its place
//	    empty/                          an empty directory that is to replace one which cannot be renamed
//	    tree/                           the tree, on its way out
//	  snapshots/<key>/                  the entry of a snapshot, with record and holds as above
//	    data/                           its tree
//	  groups/<key>/                     the entry of a snapshot group, with a record as above
//	  claims/<name>/taken               a file: the directory <name> is a volume's; a link to its record
//	  claims/<name>/<key>.<nonce>       whose it is, where the server has no hard links
//	  claims/<name>/taken/              a directory: <name> is a parent, and the claims in it are here
//	  claims/<name>/dead/               an empty parent that is just being removed
//	  parents/c.<path>                  a parent whose claims we made
//	  parents/d.<path>                  a parent whose directory we made
//	  jobs/<target>.<nonce>             a copy that is under way: a link to the target's record
//	  inline/<key>/                     a directory that a pod has for itself
//	  staging/<maker>.<run>.<nonce>     what is prepared here and then renamed into its place
//	  trash/<key>.<nonce>               the tree of a deleted volume
//	  trash/<key>.<nonce>.snapshot      the tree of a deleted snapshot
//	  trash/<key>.<nonce>.leftover      what never was whole: it is purged at once
//	  trash/<id>.<deleted>.<due>.json   the record of trash/<id>; times in seconds, by the server's clock
//	  trash/<id>.purging                a tree that is just being purged
//
// A key is made of a CSI name, a nonce for each attempt to create something, and a target is
// "volume.<key>" or "snapshot.<key>". Records are JSON (package volume), and are synced before
// they get their name. A volume, snapshot or group exists if its entry has a record.json.
//
// # Rules
//
// A process may stop between any two steps, for any time, and its next step is carried out in
// a world that has moved on. The destination fences it: what is taken away from its place is
// renamed into the entry, and when the entry is removed the rename fails, on the server.
//
//   - An entry is used for one incarnation of its key. Work on it goes through its handle.
//   - Entries and directories of claims are prepared elsewhere, with what is in them, and renamed
//     into place. They are never empty there. What is empty there has ended: anybody may
//     remove it, and nobody puts anything into it.
//   - As long as an entry exists, the claim on its directory stands. The claim is released by who
//     knows that the entry is dead, through the handle of its directory.
//   - Outside of .mooring nothing is renamed or removed unless its claim names the record of an
//     entry that exists; but for an empty parent that we made, into its barred directory of claims.
//   - The name of a record is the state. Steps that exclude each other rename the same file:
//     commit and undo, deletion and hold, restore and purge. Placing a tree and undoing that
//     rename the stage.
//   - What comes in is in stage, what goes out in tree. Names in the trash have a nonce.
//   - An entry that has a record is not removed. A tree that is left in one without a record goes
//     back to the trash if it came from there, and is discarded if it is a copy. Any other goes to
//     the trash without a record, as a stray, which is never purged by itself.
//   - The result of a rename, mkdir, link or unlink decides, and no look before it.
//   - Ages are told by the server's clock. Inode numbers are compared within one call; that of a parent
//     saves a list while the share is open.
//
// docs/design.md has the steps of each protocol, what is there after each of them, and why it
// is not done otherwise. The words that disk.step is called with are those of its tables.
//
// # How paths are opened
//
// A Share holds descriptors of its root and of its own directories (package beneath). A name
// that Mooring made is used with its directory's descriptor, one component at a time, never
// following a link. Text from users, the directory of a volume, is resolved by one openat2(2)
// beneath the root, without symbolic links and without crossing into another file system, so
// that a link that a tenant plants, before or meanwhile, ends in an error and not somewhere
// else. No path is ever joined and then opened.
package share
