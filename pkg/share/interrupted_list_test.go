// SPDX-License-Identifier: Apache-2.0

package share

import "slices"

// interruptedOps returns the interrupted operations on the share of the fixture.
func interruptedOps() []interruptedOp {
	return slices.Concat(interruptedCreationOps(), interruptedCopyOps(), interruptedDeletionOps(), interruptedUndoOps(), interruptedOtherOps())
}

func interruptedCreationOps() []interruptedOp {
	return []interruptedOp{
		{key: "create-1", operation: createOp, at: "write the record"},
		{key: "create-2", operation: createOp, at: "rename the entry into place"},
		{key: "create-3", operation: createOp, at: "rename the claim into place", left: Making},
		{key: "create-4", operation: createOp, at: "make the directory", left: Making},
		{key: "create-5", operation: createOp, at: "commit", left: Making},
		{key: "create-6", operation: belowOp, at: "make a parent", left: Making},
		{key: "create-7", operation: belowOp, at: "make the directory", left: Making},
		{key: "adopt-1", operation: adoptOp, at: "commit", left: Making},
		{key: "share-1", operation: shareOp, at: "hold the source", left: Making},
		{key: "share-2", operation: shareOp, at: "commit", left: Making},
	}
}

func interruptedCopyOps() []interruptedOp {
	return []interruptedOp{
		{key: "clone-1", operation: cloneOp, at: "hold the source", left: Making},
		{key: "clone-2", operation: cloneOp, at: "release the hold", left: Making},
		{key: "clone-3", operation: cloneOp, at: "rename the tree into its place", left: Making},
		{key: "clone-4", operation: cloneOp, at: "commit", left: Making},
		{key: "clone-5", operation: cloneOp, at: "remove the note of the copy", left: Ready},
		{key: "fill-1", operation: fillOp, at: "release the hold", left: Making},
		{key: "fill-2", operation: fillOp, at: "commit", left: Making},
		{key: "snap-1", operation: snapOp, at: "hold the source", left: Making},
		{key: "snap-2", operation: snapOp, at: "release the hold", left: Making},
		{key: "snap-3", operation: snapOp, at: "commit", left: Making},
		{key: "snap-4", operation: snapOp, at: "remove the note of the copy", left: Ready},
		{key: "group-1", operation: groupOp, at: "prepare the entry", nth: 3, left: Making},
		{key: "group-2", operation: groupOp, at: "commit", nth: 3, left: Making},
	}
}

func interruptedDeletionOps() []interruptedOp {
	return []interruptedOp{
		{key: "delete-1", operation: deleteOp, at: "take the directory away", left: Deleting},
		{key: "delete-2", operation: deleteOp, at: "move the tree into the trash", left: Deleting},
		{key: "delete-3", operation: deleteOp, at: "move the record into the trash", left: Deleting},
		{key: "delete-4", operation: deleteOp, at: "remove the entry"},
		{key: "delete-5", operation: deleteOp, at: "release the claim"},
		{key: "delete-6", operation: deleteBelowOp, at: "remove the directory of the claim"},
		{key: "retain-1", operation: retainOp, at: "move the record into the trash", left: Deleting},
		{key: "retain-2", operation: retainOp, at: "release the claim"},
		{key: "archive-1", operation: archiveOp, at: "make the archived name", left: Deleting},
		{key: "archive-2", operation: archiveOp, at: "rename the directory to its archived name", left: Deleting},
		{key: "archive-3", operation: archiveOp, at: "move the record into the trash", left: Deleting},
		{key: "archive-4", operation: archiveOp, at: "release the claim"},
		{key: "unshare-1", operation: unshareOp, at: "move the record into the trash", left: Deleting},
		{key: "unshare-2", operation: unshareOp, at: "release the hold"},
		{key: "unsnap-1", operation: unsnapOp, at: "move the tree into the trash", left: Deleting},
		{key: "unsnap-2", operation: unsnapOp, at: "move the record into the trash", left: Deleting},
		{key: "unsnap-3", operation: unsnapOp, at: "remove the entry"},
		{key: "ungroup-1", operation: ungroupOp, at: "mark as being deleted", nth: 2, left: Deleting},
		{key: "ungroup-2", operation: ungroupOp, at: "remove the group's record", left: Deleting},
		{key: "ungroup-3", operation: ungroupOp, at: "remove the entry", nth: 3},
	}
}

func interruptedUndoOps() []interruptedOp {
	return []interruptedOp{
		interruptedUndo("undo-1", createOp, "commit", "take the directory away", Aborting),
		interruptedUndo("undo-2", createOp, "commit", "remove the directory", Aborting),
		interruptedUndo("undo-3", createOp, "commit", "move the record into the trash", Aborting),
		interruptedUndo("undo-4", createOp, "commit", "remove the entry", Empty),
		interruptedUndo("undo-5", createOp, "commit", "release the claim", Empty),
		interruptedUndo("unclone-1", cloneOp, "rename the tree into its place", "take what is staged", Aborting),
		interruptedUndo("unclone-2", cloneOp, "rename the tree into its place", "note that nothing was placed", Aborting),
		interruptedUndo("unclone-3", cloneOp, "commit", "take the directory away", Aborting),
		interruptedUndo("unclone-4", cloneOp, "commit", "take what was placed", Aborting),
		interruptedUndo("unclone-5", cloneOp, "commit", "note that nothing was placed", Aborting),
		interruptedUndo("unclone-6", cloneOp, "commit", "move the record into the trash", Aborting),
		interruptedUndo("unclone-7", cloneOp, "release the hold", "remove the note of the copy", Empty),
		interruptedUndo("unrestore-1", restoreOp, "commit", "move the tree into the trash", Aborting),
		interruptedUndo("unrestore-2", restoreOp, "commit", "move the record into the trash", Aborting),
		interruptedUndo("unrestore-3", restoreOp, "rename the tree into its place", "note that nothing was placed", Aborting),
		interruptedUndo("unmake-1", snapOp, "release the hold", "remove the record", Aborting),
		interruptedUndo("unmake-2", snapOp, "release the hold", "remove the entry", Empty),
	}
}

func interruptedOtherOps() []interruptedOp {
	return []interruptedOp{
		{key: "update-1", operation: updateOp, at: "lock the record", left: Ready},
		{key: "update-2", operation: updateOp, at: "write the changed record aside", left: Ready},
		{key: "update-3", operation: updateOp, at: "rename the changed record into place", left: Ready},
		{key: "update-4", operation: updateOp, at: "unlock the record", left: Ready},
		{key: "restore-1", operation: restoreOp, at: "take the tree out of the trash", left: Making},
		{key: "restore-2", operation: restoreOp, at: "begin to place the tree", left: Making},
		{key: "restore-3", operation: restoreOp, at: "rename the tree into its place", left: Making},
		{key: "restore-4", operation: restoreOp, at: "remove the record from the trash", left: Making},
		{key: "restore-5", operation: restoreOp, at: "commit", left: Making},
		{key: "purge-1", operation: purgeOp, at: inPurge},
		{key: "purge-2", operation: purgeOp, at: "remove the record from the trash"},
		{key: "keep-1", operation: keepOp, at: "promise when the directory is purged", left: Deleting},
		{key: "unkeep-1", operation: unkeepOp, at: "purge in place", left: Deleting},
		{key: "unkeep-2", operation: unkeepOp, at: "replace the directory by the empty one", left: Deleting},
		{key: "unkeep-3", operation: unkeepOp, at: "remove the record", left: Deleting},
		{key: "refill-1", operation: refillOp, at: "set the copy aside", left: Making},
		{key: "refill-2", operation: refillOp, at: "write the copy", nth: 2, left: Making},
		{key: "refill-3", operation: refillOp, at: "commit", left: Making},
		{key: "tidy-1", operation: tidyOp, at: "bar the parent"},
		{key: "tidy-2", operation: tidyOp, at: "take an empty parent away"},
		{key: "tidy-3", operation: tidyOp, at: "remove an empty parent"},
		{key: "tidy-4", operation: tidyOp, at: "remove the bar"},
		{key: "tidy-5", operation: tidyOp, at: "remove the directory of the claim"},
		{key: "tidy-6", operation: tidyOp, at: "remove the note of the parent", nth: 2},
	}
}
