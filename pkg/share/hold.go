// SPDX-License-Identifier: Apache-2.0

package share

import (
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// A hold keeps a volume or snapshot from being deleted. It is a file in the directory
// "deletion" of the entry. A deletion has to rename the record to that very name, which a
// directory prevents: so the server decides which of the two was first.
//
// A copy gives its hold up before it is committed. That the file was still there proves that
// the source stood all the while; so a hold that was abandoned can be removed by anybody.

// The kinds of holds: of a copy that is being made, and of a volume that is the snapshot itself.
const (
	copyHold = "copy."
	userHold = "user."
)

// holds are the holds on an entry, of this process and of others.
type holds struct{ entry *entry }

func (e *entry) holds() holds { return holds{e} }

// hold is one that this process has.
type hold struct {
	dir   beneath.Dir // the directory of holds
	entry *entry
	name  string
}

// take takes a hold on a source. from is the entry whose record the hold is a link to, if
// that is on the same share. ErrNotFound: the source is being deleted.
func (h holds) take(name string, from *entry) (*hold, error) {
	for range retries {
		d, err := h.open()
		if err != nil {
			return nil, err
		}
		h.entry.step("hold the source")
		if from != nil && from.disk == h.entry.disk {
			err = h.entry.linkOrCreate(from.dir, makingFile, d, name, "")
		} else {
			err = touch(d, name, unix.O_EXCL)
		}
		if err == nil || is(err, unix.EEXIST) && strings.HasPrefix(name, userHold) { // our own, whose answer got lost
			err = h.checkUnsealed(d, func() { _ = d.Unlink(name) })
		}
		if err == nil {
			return &hold{dir: d, entry: h.entry, name: name}, nil
		}
		d.Close()
		if !isMissing(err) {
			return nil, err
		}
		if from != nil && from.isGone() {
			return nil, busy("the creation of %s %s was undone by another", from.kind, from.key)
		}
		if err := h.refresh(); err != nil { // that there are holds may be this client's memory
			return nil, h.explainDeleting(err)
		}
	}
	return nil, busy("%s %s is used and let go again and again", h.entry.kind, h.entry.key)
}

// open opens the directory of holds and makes it where it does not exist.
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

// checkUnsealed asks, once there is something among the holds, whether that came too late; else they will not be
// sealed as long as it is there. undo removes it.
func (h holds) checkUnsealed(d beneath.Dir, undo func()) error {
	_, err := d.Stat(sealName)
	if is(err, unix.ENOENT) {
		return nil
	}
	undo()
	if err == nil {
		return h.explainDeleting(unix.ENOTDIR)
	}
	return h.explainDeleting(err)
}

func (h holds) explainDeleting(err error) error {
	if is(err, unix.ENOTDIR, unix.ESTALE) {
		return volume.Errorf(volume.ErrNotFound, "%s %s is being deleted", h.entry.kind, h.entry.key)
	}
	return err
}

// checkExists asks, once a hold is taken, whether the record still says that the entry exists.
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

// renew shows that the hold is needed.
func (h *hold) renew() error { return utimes(h.dir, h.name) }

// release gives the hold up. An error means that it may not have stood all the while: what was
// read under it is not to be believed.
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

// removeHold removes a hold that is not needed any more: its owner is no more.
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

// close lets go of the handle and leaves the hold.
func (h *hold) close() {
	if h.dir != beneath.None {
		h.dir.Close()
		h.dir = beneath.None
	}
}

// holders returns who holds the entry, and removes the holds of those that are no more.
func (h holds) holders() ([]string, error) {
	holders, _, err := h.list()
	return holders, err
}

// list is holders. sealed: there are none, and will be none: see deletionMark.
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

// isAbandoned reports whether the one who holds is no more.
func (h holds) isAbandoned(d beneath.Dir, name string) (bool, error) {
	if id, ok := strings.CutPrefix(name, userHold); ok {
		key, nonce, ok := cutNonce(id)
		if !ok {
			return false, nil
		}
		return h.entry.volumes.isDead(key, nonce)
	}
	if !strings.HasPrefix(name, copyHold) && !strings.HasPrefix(name, ".nfs") {
		return false, nil // a later Mooring's, which knows how long it stands
	}
	_, st, err := d.Read(name, 1) // opening asks the server for its time
	if isMissing(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	// The link of a maker that was undone counts only itself.
	age, err := h.entry.age(st.Mtim)
	return age > h.entry.opt.Lease, err
}

// unknownHolderPrefix begins what is said of a hold that this program does not know.
const unknownHolderPrefix = "the hold "

// describeHolder says in words what the name of a hold stands for.
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

// cutNonce takes "<key>.<nonce>" apart.
func cutNonce(id string) (key, nonce string, ok bool) {
	i := strings.LastIndexByte(id, '.')
	if i <= 0 || !volume.ValidNonce(id[i+1:]) {
		return "", "", false
	}
	return id[:i], id[i+1:], true
}
