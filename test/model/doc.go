// SPDX-License-Identifier: Apache-2.0

// Package model is a model of the protocol by which pkg/share changes .mooring, and explores it: every
// order in which the calls of a few processes can reach the server. See "The fence" and "In which order
// it changes" in docs/design.md.
//
// # What is modelled
//
// A file system (fs.go) with what NFS makes sure of: mkdir, link, rename, unlink and rmdir are atomic,
// and a file handle is dead for ever when its file was removed. What removes a directory removes a file, too,
// as NFSv4 does; the look before it is a call of its own. A directory is named by its handle, and
// what is in it by its name; mkdir gives no handle, and the lookup after it is a call of its own.
//
// Processes that create, restore, copy, change, delete, archive and purge volumes, undo creations, and
// tidy parents. A directory may have a project of its own, with which it cannot be renamed, until somebody
// changes that (kept.go). Each process is written after the code, file by file, and names its changes as the code does
// (run.step). One step of the model is one call. Between any two calls a process may stop, for ever or
// until all others have done what they want: nothing depends on time, and whether a lease is over is up
// to the task (takes). In some scenarios the server carries out one call, or two, a second time, at any
// later moment; or the answer to it is lost, and the process sends it again.
//
// The search is over all interleavings, nearest first, and equal states are looked at once. What a
// process prepares in staging/ is done at once, as nobody else knows of it. The short run (go test)
// interrupts one process, and has a bound of states. The full one (make model) explores, to its end,
// what comes of one interruption and one second call or two; up to a bound, two interruptions; and up to
// another, any number of both, nearest first. A process that stops for ever is one that was interrupted.
// It says how many states there were, and which scenarios were explored to their end.
//
// A plan makes the protocol simpler, or mends it. The tests show what each simpler form does wrong, so
// the model would find it in pkg/share, too.
//
// # What is judged
//
// After each step (judge.go):
//   - a volume that was committed, and not marked by who was asked to delete it, is there: with its own
//     directory in its place, its data in that, its claim, and its snapshot if it is one itself;
//   - none that was deleted lives again, and no process changes the owner of another's directory;
//   - what a pod has written is in a live volume, in an entry, or in the trash, until it is purged;
//   - what a stranger has put into a directory is not taken for a volume's;
//   - who says OK says what was so at some moment since it was asked.
//
// In each state it is asked what is left if all processes stop there for ever (converge.go). One process
// alone then deletes, undoes, tidies and purges all that there is. Nothing may stay but what is expected
// to, what design.md lists as left to people (empty directories, strays), and claims of dead volumes,
// which whoever wants the name releases. After that the volumes can be made anew.
//
// # What is not
//
//   - A second CREATE of a record. Over NFSv3, one of making.json that is carried out after an undo has
//     marked the record leaves an empty making.json to a late maker, whose commit then succeeds: it
//     answers OK, and there is no such volume. To look at the record after each commit would cost a
//     round trip. NFSv4.1 carries out no call twice.
//   - Second calls that pkg/share does not survive, unless scenario.strict is set: a late second mkdir of
//     stage/, of stage/tree, or of taken/, the mark of a parent.
//     limits in the tests lists them, and shows how each comes about.
//   - What a client remembers, and the looks that are there for that reason alone. A call is judged by
//     the server.
//   - Of project quotas: a parent that hands down a third project, a copy that is kept from its place by one
//     and made there once more, archives, and the undo of a creation whose directory cannot be moved. What
//     was kept in its place and then moved is brought back by a process that first looks whether it is
//     being purged.
//   - Servers without hard links; adopted directories; the content of records, and so the lost update of
//     two processes that share a lock that was broken; the times in the names of the trash: all is due,
//     and all records of one tree have one name.
//   - Snapshots are volumes without a directory: their trees, the groups, the notes in jobs/ and parents/,
//     and inline volumes are not there. Parents have one level. An archive tries one name.
//   - The code tries five times where the model does three (maxTries).
package model
