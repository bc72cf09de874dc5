// SPDX-License-Identifier: Apache-2.0

package model

// A plan is in what a protocol differs from that of pkg/share, which is the empty plan.
type plan struct {
	// Simpler forms: the model finds what each of them does wrong.

	lease          bool // a directory is renamed into the trash by who has the lock
	comparesOld    bool // the same, after a look at its claim
	comparesNew    bool // the same, before a look at its claim: what is another's is put back
	claimFirst     bool // the claim is released before the entry is removed
	unchecked      bool // the claim is released whether the entry could be removed or not
	claimFile      bool // a claim is one file under the directory's name
	inPlace        bool // entries and claims are made by mkdir in their place, and then opened
	oneMark        bool // deletion and undo mark the record by the same name
	anyNonce       bool // a deletion that begins again deletes what it finds then
	takesAgain     bool // a deletion takes the directory away at each retry
	clearsAll      bool // whatever is found in an entry that is to go is removed
	lockBeside     bool // an update's lock lies beside the record, and not among the holds
	holdsBlind     bool // who holds a source does not look whether it is there still
	holdLost       bool // who copies does not mind that its hold was gone
	linksPlaced    bool // that a tree is being placed is said by a link, and not by a rename of the record
	oneName        bool // a tree has one name in the entry, on its way in and on its way out
	dirFirst       bool // an undo looks at the directory, and then at the stage
	unnoted        bool // an undo throws the stage away, and does not write down that it did
	oldName        bool // an undone restore puts the tree back under the name that it had
	chownsLate     bool // a directory gets its owner without a question whether the entry is there
	anyParent      bool // a parent's claims are made in any directory of claims that is empty
	looksFirst     bool // an undo looks for what is unstaged, and then closes the stage
	leavesDead     bool // a directory of claims without a claim is left if there is a parent in it
	trustsHold     bool // who finds its own hold does not look whether the source is there still
	removesKept    bool // a directory that cannot be moved is removed by rmdir, and not replaced
	purgesUnsaid   bool // who purges in place does not say so before
	adoptsFound    bool // a directory that a late process has made is not replaced
	refusesInPlace bool // a claim in an entry that is to go is removed there, and not renamed into staging first
	unsealed       bool // a directory of holds is removed, and the record gets its name
	overlooksTaken bool // a purge in place that finds no directory does not look for a tree in the entry

	// What pkg/share does not do, and what would mend it: see limits.

	stageByHandle bool // who made the stage keeps its handle, and never looks it up by its name
	copiesAside   bool // a copy grows under another name, and gets its own by a rename
	marksByRename bool // a directory of claims is made a parent's by a rename, and not by mkdir
}

// mended is what pkg/share would be without the limits that the model knows of.
var mended = plan{stageByHandle: true, copiesAside: true, marksByRename: true}

// A phase is a piece of a protocol between two points at which a process knows no more than its
// registers.
type phase uint8

// phases says what is done in each phase. What it returns is the next one.
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
