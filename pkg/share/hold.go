// SPDX-License-Identifier: Apache-2.0

package share

import (
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// A hold keeps a volume or snapshot from being deleted. It is a file in the directory "deletion" of the
// entry. A deletion must rename the record to that same name, and a directory prevents this rename: so the
// server decides which of the two was first.
//
// A copy releases its hold before it is committed. If the file is still there then, the source existed all
// the time. So any process may remove an abandoned hold.

// The kinds of holds: of a copy that is being made, and of a volume that is the snapshot itself.
const (
	copyHold = "copy."
	userHold = "user."
)

// holds are the holds on an entry, of this process and of others.
type holds struct{ entry *entry }

func (e *entry) holds() holds { return holds{e} }

// hold is a hold that this process has.
type hold struct {
	dir   beneath.Dir // the directory of holds
	entry *entry
	name  string
}

// take takes a hold on an entry. If from is an entry of the same share, the hold is a link to its record.
// ErrNotFound: the entry is being deleted. ErrBusy: the creation of from was undone.
func (h holds) take(name string, from *entry) (*hold, error) {
	for range retries {
		d, err := h.open()
		if err != nil {
			return nil, err
		}
		err = h.add(d, name, from)
		if err == nil {
			return &hold{dir: d, entry: h.entry, name: name}, nil
		}
		d.Close()
		if !isMissing(err) {
			return nil, err
		}
		if from != nil && from.isGone() {
			return nil, busy("the creation of %s %s was undone by another process", from.kind, from.key)
		}
		if err := h.refresh(); err != nil { // this client may have cached the directory of holds
			return nil, h.explainDeleting(err)
		}
	}
	return nil, busy("%s %s is held and released again and again", h.entry.kind, h.entry.key)
}

// add makes the file of a hold in d, the directory of holds.
func (h holds) add(d beneath.Dir, name string, from *entry) error {
	h.entry.step("hold the source")
	var err error
	if from != nil && from.disk == h.entry.disk {
		err = h.entry.linkOrCreate(from.dir, makingFile, d, name, "")
	} else {
		err = touch(d, name, unix.O_EXCL)
	}
	if is(err, unix.EEXIST) && strings.HasPrefix(name, userHold) { // our own: the answer got lost
		err = nil
	}
	if err != nil {
		return err
	}
	return h.checkUnsealed(d, func() { _ = d.Unlink(name) })
}

// open opens the directory of holds, and makes it if it does not exist. ErrNotFound: the entry is being
// deleted.
func (h holds) open() (beneath.Dir, error) {
	d, err := h.entry.dir.Resolve(deletionName)
	if is(err, unix.ENOENT) {
		h.entry.step("make the directory of holds")
		if err := ignore(h.entry.dir.Mkdir(deletionName, 0o700), unix.EEXIST); err != nil {
			return beneath.None, h.explainDeleting(err)
		}
		d, err = h.entry.dir.Resolve(deletionName)
	}
	return d, h.explainDeleting(err)
}

// checkUnsealed checks, after something was added to the holds, that they were not sealed before. They
// cannot be sealed while it is there. If they were sealed, undo removes it.
func (h holds) checkUnsealed(d beneath.Dir, undo func()) error {
	_, err := d.Stat(sealName)
	if is(err, unix.ENOENT) {
		return nil
	}
	undo()
	if err != nil {
		return h.explainDeleting(err)
	}
	return h.explainDeleting(unix.ENOTDIR)
}

func (h holds) explainDeleting(err error) error {
	if is(err, unix.ENOTDIR, unix.ESTALE) {
		return volume.Errorf(volume.ErrNotFound, "%s %s is being deleted", h.entry.kind, h.entry.key)
	}
	return err
}

// checkExists checks, after a hold was taken, that the entry still has the record of what exists. If
// not, it returns ErrNotFound.
func (h holds) checkExists() error {
	if err := h.entry.dir.Refresh(); err != nil {
		return h.explainDeleting(err)
	}
	_, err := h.entry.dir.Stat(recordFile)
	if isMissing(err) {
		return volume.Errorf(volume.ErrNotFound, "%s %s is being deleted", h.entry.kind, h.entry.key)
	}
	return err
}

// renew shows that the hold is still needed.
func (h *hold) renew() error { return utimes(h.dir, h.name) }

// release removes the hold. An error means that the hold may have been lost in the meantime (ErrBusy: it
// was): the caller must not trust what it read under it.
func (h *hold) release() error {
	h.entry.step("release the hold")
	err := h.dir.Unlink(h.name)
	h.dir.Close()
	h.dir = beneath.None
	if isMissing(err) {
		return busy("the hold on %s %s was lost: it may have been deleted meanwhile", h.entry.kind, h.entry.key)
	}
	return err
}

// removeHold removes a hold whose owner does not exist any more.
func (t *table) removeHold(key, name string) error {
	e, err := t.openCurrent(key)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer e.close()
	d, err := e.dir.Resolve(deletionName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE)
	}
	defer d.Close()
	t.step("release the hold")
	return ignore(d.Unlink(name), unix.ENOENT, unix.ESTALE)
}

// close closes the handle and keeps the hold.
func (h *hold) close() {
	if h.dir != beneath.None {
		h.dir.Close()
		h.dir = beneath.None
	}
}

// holders returns who holds the entry. It removes the holds whose owners do not exist any more.
func (h holds) holders() ([]string, error) {
	holders, _, err := h.list()
	return holders, err
}

// list does the same as holders. sealed: there are no holds, and no hold can be added: see deletionMark.
func (h holds) list() (holders []string, sealed bool, err error) {
	d, err := h.entry.dir.Resolve(deletionName)
	if is(err, unix.ENOENT, unix.ENOTDIR) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	var names []string
	err = beneath.Names(d, func(name string) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, false, ignore(err, unix.ESTALE) // it was just replaced
	}
	if slices.Contains(names, sealName) {
		return nil, true, nil
	}
	for _, name := range names {
		if name == changeName {
			if err := h.breakLock(d); err != nil {
				return nil, false, err
			}
			continue
		}
		dead, err := h.isAbandoned(d, name)
		if err != nil {
			return nil, false, err
		}
		if !dead {
			holders = append(holders, describeHolder(name))
			continue
		}
		h.entry.step("remove an abandoned hold")
		if err := ignore(d.Unlink(name), unix.ENOENT); err != nil {
			return nil, false, err
		}
	}
	slices.Sort(holders)
	return holders, false, nil
}

// isAbandoned reports whether the owner of a hold does not exist any more.
func (h holds) isAbandoned(d beneath.Dir, name string) (bool, error) {
	if id, ok := strings.CutPrefix(name, userHold); ok {
		key, nonce, ok := cutNonce(id)
		if !ok {
			return false, nil
		}
		return h.entry.volumes.isDead(key, nonce)
	}
	if !strings.HasPrefix(name, copyHold) && !strings.HasPrefix(name, ".nfs") {
		return false, nil // of a later Mooring, which knows how long it lasts
	}
	_, st, err := d.Read(name, 1) // opening it asks the server for its mtime
	if isMissing(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	// It may be a link to the record of a creation that was undone: then nobody renews it any more.
	age, err := h.entry.age(st.Mtim)
	return age > h.entry.opt.Lease, err
}

// unknownHolderPrefix begins the description of a hold that this program does not know.
const unknownHolderPrefix = "the hold "

// describeHolder describes the owner of a hold by the hold's name.
func describeHolder(name string) string {
	if id, ok := strings.CutPrefix(name, userHold); ok {
		key, _, _ := cutNonce(id)
		return "volume " + key
	}
	id, _, _ := cutNonce(strings.TrimPrefix(name, copyHold))
	if o, ok := volume.ParseObject(id); ok {
		return "the copy " + o.String()
	}
	return unknownHolderPrefix + name
}

// cutNonce splits "<key>.<nonce>".
func cutNonce(id string) (key, nonce string, ok bool) {
	i := strings.LastIndexByte(id, '.')
	if i <= 0 || !volume.ValidNonce(id[i+1:]) {
		return "", "", false
	}
	return id[:i], id[i+1:], true
}
