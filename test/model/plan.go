// SPDX-License-Identifier: Apache-2.0

package model

// A plan is the differences of a protocol from that of pkg/share, which is the empty plan.
type plan struct {
	// Simpler forms: the model finds a fault in each of them.

	lease          bool // the holder of the lock renames a directory into the trash
	comparesOld    bool // the same, after a check of its claim
	comparesNew    bool // the same, before a check of its claim: another volume's directory is put back
	claimFirst     bool // the claim is released before the entry is removed
	unchecked      bool // the claim is released whether the entry could be removed or not
	claimFile      bool // a claim is one file under the directory's name
	inPlace        bool // entries and claims are made by mkdir in their place, and then opened
	oneMark        bool // deletion and undo mark the record by the same name
	anyNonce       bool // a deletion that is retried deletes the volume that it finds then
	takesAgain     bool // a deletion moves the directory away at each retry
	clearsAll      bool // everything in a dying entry is removed
	lockBeside     bool // the lock of an update is beside the record, and not among the holds
	holdsBlind     bool // a process that holds a source does not check whether it still exists
	holdLost       bool // a copy ignores that its hold was removed
	linksPlaced    bool // a link, and not a rename of the record, marks that a tree is being placed
	oneName        bool // a tree has the same name in the entry on its way in and out
	dirFirst       bool // an undo checks the directory, and then the stage
	unnoted        bool // an undo discards the stage without a record of that
	oldName        bool // an undone restore puts the tree back under the name that it had
	chownsLate     bool // a directory gets its owner without a check that the entry exists
	anyParent      bool // a parent's claims are made in any directory of claims that is empty
	looksFirst     bool // an undo searches for the unstaged tree, and then closes the stage
	leavesDead     bool // a directory of claims without a claim is left if there is a parent in it
	trustsHold     bool // a process that finds its own hold does not check whether the source still exists
	removesKept    bool // a directory that cannot be moved is removed by rmdir, and not replaced
	purgesUnsaid   bool // a purge in place does not mark that before
	adoptsFound    bool // a directory that a late process has made is not replaced
	refusesInPlace bool // a claim in a dying entry is removed there, and not renamed into staging first
	unsealed       bool // a directory of holds is removed, and the record gets its name
	overlooksTaken bool // a purge in place that finds no directory does not search for a tree in the entry

	// Repairs that pkg/share does not have: see limits.

	stageByHandle bool // the maker of the stage keeps its handle, and never looks it up by its name
	copiesAside   bool // a copy grows under another name, and gets its own by a rename
	marksByRename bool // a directory of claims is made a parent's by a rename, and not by mkdir
}

// mended is pkg/share without the known limits.
var mended = plan{stageByHandle: true, copiesAside: true, marksByRename: true}

// A phase is a piece of a protocol between two points at which a process has no state except its
// registers.
type phase uint8

// phases executes each phase, and returns the next one.
var phases [lastPhase]func(*run) phase

// The phases.
const (
	stopped phase = iota
	readEntry
	fate
	fateKnown
	finish
	clearEntry
	clearStage
	discard
	rescue
	rescued
	moveIn
	create
	createPrepareEntry
	createOpen
	createPrepare
	createPlace
	createUnprepare
	createThere
	createFound
	createAgain
	createClaim
	createTake
	createTakeInPlace
	createTakeFile
	createPrepareAgain
	createClaimAgain
	createContend
	createContendFate
	createRefused
	createFailed
	createParent
	createDir
	createUsed
	createReplace
	createOwn
	createFill
	createCommit
	createFreed
	openParent
	openParentIn
	openParentFate
	makeParent
	makeParentPut
	restoreTake
	placeBegin
	place
	placed
	takeHold
	takeHoldIn
	takeHoldLook
	copySource
	copyTree
	copyRead
	copyEnd
	dropHold
	pod
	intrude
	unfix
	giveUp
	giveUpKnown
	gaveUp
	abort
	abortMarked
	settle
	abortDir
	abortClaim
	abortEmpty
	abortPlaced
	closeStage
	closeStageEnd
	stageClosed
	abortStray
	abortRecord
	abortForget
	abortRelease
	abortResolved
	abortEnd
	release
	dropClaim
	resolve
	remove
	removeKnown
	removed
	aborted
	removeAgain
	removeMark
	removeRetry
	removeClaim
	removeTree
	removeKeep
	removeMoved
	removeRecord
	removeForget
	removeRelease
	removeUnrecord
	removeHolds
	removeHold
	removeHoldDead
	removeHoldFate
	removeMarkAgain
	removeSeal
	removeUnderSeal
	removeUnchecked
	removeSimpler
	archive
	archiveClaim
	archiveDirectory
	archiveRename
	update
	updateLock
	updateAgain
	updateWrite
	updatePut
	updateUnlock
	purge
	purgeFate
	purgeFinish
	purgeKept
	purgeKeptClaim
	purgeKeptLook
	purgeKeptOut
	purgeKeptReplace
	purgeKeptRecord
	purgeForget
	purgeResolve
	purgeArchive
	purgeRelease
	purgeTake
	purgeTree
	purgeRecord
	tidy
	tidied
	freeParent
	tidyIn
	sweepEmpty
	tidyTake
	tidyDead
	tidyUnbar
	unbar
	removeUnclaimed
	putBack
	lastPhase
)
