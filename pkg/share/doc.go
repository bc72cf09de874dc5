// SPDX-License-Identifier: Apache-2.0

// Package share is one NFS export seen as a rooted directory, and what Mooring keeps on it.
//
// # What is on a share
//
//	<directory>/                     a volume: what the pod sees, and nothing of ours in it
//	.mooring/                        0700
//	  volumes/<key>.json             the record of a volume
//	  claims/<directory>             whose the directory is: a link to the record. Its parents
//	                                 are directories here too, so that the file system itself
//	                                 refuses a volume inside another, or around one
//	  claims/<parent>/.mooring       the parent was made by us, and goes some time after its
//	                                 last volume
//	  staging/<key>.<nonce>.json     a record being written
//	  trash/<key>.<time>             a deleted volume, to be purged or brought back
//	  trash/<key>.<time>.json        its record
//	  trash/<key>.<time>.purging     what is just being purged
//
// # In which order it changes
//
// Create: the record is written aside, synced, and published under its name by link(2), which
// one of any number of racers wins (create-once). It says ready: 0. Then the claim is linked
// from it; then the directory made, and given its owner and mode; then the record's one digit
// becomes 1. Whoever retries finds the record by the volume's name, does what is missing, and
// ends with the same. What was begun by another process, a second controller during a rolling
// update, say, is left to it for the time of a Lease, and is then taken over.
//
// Delete: the directory is renamed into the trash, then the claim removed, then the record
// renamed after the directory. As long as anything is left to be done the record is there for
// a retry to find. Nothing is destroyed whose claim does not name the record that asks for it.
//
// Purge: the tree is renamed, then removed, then the record. Restore: the record is published,
// create-once, then the claim, then the tree renamed into its place, then the record in the
// trash removed. Both rename the same name: one wins.
//
// Nothing here has a lock on the server or needs one: link(2) and mkdir(2) say EEXIST, and
// rename(2) is atomic. A client's memory of names is distrusted wherever something hangs on
// it: that a name is free is found out by creating it, and before a claim is believed the
// client is made to ask whether the directory it is in has changed. What cannot be asked for
// so cheaply is avoided: a directory above volumes is not removed while any client may still
// remember it (Tidy).
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
