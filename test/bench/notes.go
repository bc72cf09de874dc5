// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
)

// note says what the round trips of some kinds are for in an operation. This is from a look
// with strace(1), which had each system call wait, and at mountstats in between.
type note struct {
	operation string
	kinds     string
	purpose   string
}

// copied stands for snapshot, restore and clone.
const copied = "copying"

var notes = []note{
	{"create", "OPEN CLOSE", "the record is written aside; in a new namespace, the parent's mark"},
	{"create", "WRITE", "the record, synced; at the end its one digit that says ready"},
	{"create", "LINK", "the record's name, create-once; then the directory's claim"},
	{"create", "CREATE MKDIR", "the directory; a new parent, and the parent's directory of claims (and v3 creates files so)"},
	{"create", "REMOVE", "the record's name aside"},
	{"create", "SETATTR", "the owner; the mode"},
	{"create", "GETATTR ACCESS", "a directory that is opened, to change its owner, or was changed; v3: may the record be linked?"},
	{"create", "LOOKUP", "parents, of which it is not known whether they are there; the record that is there already"},
	{"create", "OPEN_NOATTR READ", "the record that is there already"},
	{"delete", "OPEN OPEN_NOATTR READ CLOSE", "the record is read"},
	{"delete", "GETATTR", "its attributes after that, and the directory of claims: the claim has to be a link to it"},
	{"delete", "RENAME", "the directory into the trash; then the record"},
	{"delete", "REMOVE", "the claim; of a namespace without volumes its directory, mark and directory of claims"},
	{"delete", "LOOKUP ACCESS", "what a restarted controller does not know yet: the claim, the directory, whether it may"},
	{"delete", "DELEGRETURN", "a delegation is given back before what it is of goes"},
	{"trash-look", "GETATTR READDIR READDIRPLUS", "the purger lists the trash"},
	{"trash-look", "OPEN OPEN_NOATTR READ CLOSE", "and reads when the new entry is due"},
	{"stage", "LOOKUP_ROOT LOOKUP", "the kernel walks from the server's root to the volume's directory"},
	{"stage", "FSINFO PATHCONF SERVER_CAPS", "what the server can do, at its root and again where the share's file system begins"},
	{"stage", "SECINFO_NO_NAME", "which security the server's root wants"},
	{"stage", "GETATTR ACCESS", "the directory to be mounted"},
	{copied, "OPEN_NOATTR OPEN CLOSE CREATE MKDIR", "a file is opened, its copy made (v3: CREATE; CREATE, MKDIR of directories)"},
	{copied, "CLONE COPY", "its data, which the server copies"},
	{copied, "SEEK", "where a sparse file has data"},
	{copied, "READ WRITE", "its data through the client; and the driver's own records"},
	{copied, "OFFLOAD_STATUS", "the client asks whether a long COPY is done"},
	{copied, "COMMIT", "data that were copied are on the disk"},
	{copied, "SETATTR", "its times, and its owner and mode where the server has set others"},
	{copied, "LISTXATTRS GETACL", "has it attributes and an ACL? Not asked of a snapshot in which nothing has"},
	{copied, "READDIR READDIRPLUS", "directories are read, with their entries' attributes"},
	{copied, "LINK RENAME REMOVE", "the job, the claim of a volume; the copy put in its place; the job ends"},
	{"stats", "STATFS", "the question itself, in a child that can be killed"},
}

// explain prints the notes on what occurs in the rows.
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
