// SPDX-License-Identifier: Apache-2.0

// Package model is a model of the protocol by which pkg/share changes .mooring, and explores it: every
// order in which the calls of a few processes can reach the server. See "The fence" and "In which order
// it changes" in docs/design.md.
//
// # What is modelled
//
// A file system (fs.go) with the guarantees of NFS: mkdir, link, rename, unlink and rmdir are atomic,
// and a file handle is dead forever when its file was removed. A call that removes a directory removes a
// file too, as in NFSv4; the lookup before it is a call of its own. A call names a directory by its handle,
// and an entry in it by its name; mkdir returns no handle, and the lookup after it is a call of its own.
//
// Processes that create, restore, copy, change, delete, archive and purge volumes, undo creations, and
// tidy parents. A directory may have a project of its own, with which it cannot be renamed until that is
// changed (kept.go). Each process follows the code, file by file, and names its changes as the code does
// (run.step). One step of the model is one call. Between any two calls a process may stop, forever or
// until all others have finished: nothing depends on time, and the task determines whether a lease is
// over (takes). In some scenarios the server executes one or two calls a second time, at any later
// moment; or the reply is lost, and the process sends the call again.
//
// The search covers all interleavings, nearest first, and visits equal states once. What a process
// prepares in staging/ is done in one step, since no other process uses it. The short run (go test)
// interrupts one process, and has a bound of states. The full one (make model) explores to its end
// one interruption and one or two second calls; up to a bound, two interruptions; and up to another
// bound, any number of both, nearest first. A process that stops forever counts as interrupted.
// The run reports the number of states, and which scenarios were explored to their end.
//
// A plan makes the protocol simpler, or repairs it. The tests show what each simpler form does wrong,
// so that the model would find it in pkg/share too.
//
// # What is checked
//
// After each step (judge.go):
//   - a committed volume that no deletion has marked exists: with its own directory in its place, its
//     data in that, its claim, and its snapshot if it is one itself;
//   - no deleted volume exists again, and no process changes the owner of another volume's directory;
//   - data of a pod is in a live volume, in an entry, or in the trash, until it is purged;
//   - files that a user has put into a directory are not taken for those of a volume;
//   - the answer OK was true at some moment since the request.
//
// For each state, the model checks what is left if all processes stop there forever (converge.go). One
// process alone then deletes, undoes, tidies and purges everything. Only expected files may remain, those
// that design.md leaves to administrators (empty directories, strays), and claims of dead volumes, which
// the next user of the name releases. After that the volumes can be made again.
//
// # What is not modelled
//
//   - A second CREATE of a record. Over NFSv3, one of making.json that is executed after an undo has
//     marked the record leaves an empty making.json to a late maker, whose commit then succeeds: it
//     answers OK, and the volume does not exist. A check of the record after each commit would cost a
//     round trip. NFSv4.1 does not execute a call twice.
//   - Second calls that pkg/share does not survive, unless scenario.strict is set: a late second mkdir of
//     stage/, of stage/tree, or of taken/, the mark of a parent.
//     limits in the tests lists them, and shows how each of them happens.
//   - The caches of a client, and the lookups that exist only because of them. The server decides about
//     each call.
//   - Of project quotas: a parent that hands down a third project, a copy that cannot be moved to its place
//     because of one and is made there again, archives, and the undo of a creation whose directory cannot be
//     moved. A tree that was kept in its place and then moved is restored by a process that first checks
//     whether it is being purged.
//   - Servers without hard links; adopted directories; the content of records, and therefore the lost update
//     of two processes that share a broken lock; the times in the names of the trash: everything is due, and
//     all records of one tree have one name.
//   - Snapshots are volumes without a directory: there are no trees of snapshots, groups, entries in jobs/
//     and parents/, and inline volumes. Parents have one level. An archive tries one name.
//   - The code tries five times, the model three times (maxTries).
package model
