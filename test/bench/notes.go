// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
)

// note explains the round trips of some kinds in an operation. The explanations come from strace(1) with a
// delay at each system call, and from mountstats in between.
type note struct {
	operation string
	kinds     string
	purpose   string
}

// copied means snapshot, restore and clone.
const copied = "copying"

var notes = []note{
	{"create", "OPEN CLOSE", "the record is written in its entry; in a new namespace, the notes of parents"},
	{"create", "WRITE", "the record, synced"},
	{"create", "LINK", "the claim is a link to the record"},
	{"create", "CREATE MKDIR", "the entry, the claim's directory, the volume's; new parents, and their claims (and v3 creates files so)"},
	{"create", "RENAME", "the entry and the claim into their places; the record, which is the commit"},
	{"create", "REMOVE", "what was prepared for a volume that is there already"},
	{"create", "SETATTR", "the owner; the mode"},
	{"create", "GETATTR ACCESS", "may this client work in the directories that were just made, and that were renamed?"},
	{"create", "LOOKUP", "the record, after its entry was renamed; parents, of which it is not known whether they are there"},
	{"create", "OPEN_NOATTR READ", "the record that is there already"},
	{"delete", "OPEN OPEN_NOATTR READ CLOSE", "the record is read"},
	{"delete", "GETATTR", "the time of the server, where the claim does not tell it"},
	{"delete", "RENAME", "the mark; the directory into the entry, and into the trash; the record after it"},
	{"delete", "REMOVE", "the entry; the claim"},
	{"delete", "LOOKUP ACCESS", "the claim; what a restarted controller does not know yet; does a share lie in it? Not asked where no directory does"},
	{"delete", "DELEGRETURN", "a delegation is given back before what it is of goes"},
	{"trash-look", "GETATTR READDIR READDIRPLUS", "the purger lists the trash, whose names say when an entry is due"},
	{"publish-first", "LOOKUP_ROOT LOOKUP", "the kernel walks from the server's root to the volume's directory"},
	{"publish-first", "FSINFO PATHCONF SERVER_CAPS", "what the server can do, at its root and again where the share's file system begins"},
	{"publish-first", "SECINFO_NO_NAME", "which security the server's root wants"},
	{"publish-first", "GETATTR ACCESS", "the directory to be mounted"},
	{copied, "OPEN_NOATTR OPEN CLOSE CREATE MKDIR", "a file is opened, its copy made (v3: CREATE; CREATE, MKDIR of directories)"},
	{copied, "CLONE COPY", "its data, which the server copies"},
	{copied, "SEEK", "where a sparse file has data"},
	{copied, "READ WRITE", "its data through the client; and the driver's own records"},
	{copied, "OFFLOAD_STATUS", "the client asks whether a long COPY is done"},
	{copied, "COMMIT", "data that were copied are on the disk"},
	{copied, "SETATTR", "its times, and its owner and mode where the server has set others"},
	{copied, "LISTXATTRS GETACL", "has it attributes and an ACL? Not asked of a snapshot in which nothing has"},
	{copied, "READDIR READDIRPLUS", "directories are read, with their entries' attributes"},
	{copied, "LINK RENAME REMOVE", "the note of the copy, the hold on its source, the claim of a volume; the copy put in its place; the ends of these"},
	{"stats", "STATFS GETATTR", "the question itself, and whether the directory is there still, in a child that can be killed"},
}

// explain prints the notes on the operations in the rows.
func (b *bench) explain(to io.Writer) {
	seen := map[string]bool{}
	for _, r := range b.rows {
		for kind := range r.ByKind {
			seen[r.Operation+" "+kind] = true
			if r.Files > 0 {
				seen[copied+" "+kind] = true
			}
		}
	}
	heading := "\nWhat the round trips are for:\n"
	for _, n := range notes {
		var kinds []string
		for _, kind := range strings.Fields(n.kinds) {
			if seen[n.operation+" "+kind] {
				kinds = append(kinds, kind)
			}
		}
		if kinds != nil {
			fmt.Fprintf(to, "%s  %-10s  %s: %s\n", heading, n.operation, strings.Join(kinds, ", "), n.purpose)
			heading = ""
		}
	}
	for _, r := range b.rows {
		if r.Operation == "purge" {
			fmt.Fprintf(to, "%s  a purge with %g ms of delay: %s round trips and %.2f ms for each of %d entries\n",
				heading, r.DelayMS, short(r.RoundTrips/treeEntries), r.MedianS*1e3/treeEntries, treeEntries)
			heading = ""
		}
	}
}
