// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Identity is which share an open one is: the id in its format. An export that is not the one it
// was, because its disk is not mounted on the server, say, has another, or none. A share that has
// none is laid out when something is to be created there, and never in order to look, to list or
// to delete.
type Identity struct{ *disk }

// ID returns the id of the share; "" where it has not been laid out, or was before there were ids.
func (i *Identity) ID() string { return i.id }

// Check returns ErrConflict where the share has not been laid out.
func (i *Identity) Check() (err error) {
	defer i.explain(&err, "look whether it is laid out")
	return i.laidOut()
}

// LayOut lays the share out, if nobody has. What is open here stays as it is: the share is lost
// then, and has to be opened anew. It returns the id that the share has now.
func (i *Identity) LayOut(ctx context.Context) (id string, err error) {
	defer i.explain(&err, "lay out %s", volume.StateDir)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	opt := i.opt
	opt.LayOut = true
	s, err := Open(fmt.Sprintf("/proc/self/fd/%d", int(i.root)), i.def, opt)
	if err != nil {
		return "", err
	}
	defer s.Close()
	i.lost.Store(true)
	return s.id, nil
}

// Renew gives the share a new id, and returns both. Others that have the share open notice within
// a minute, in the course of Tidy. It is called by hand, and not while something else changes the
// format: of two changes at once one would be lost.
func (i *Identity) Renew(ctx context.Context) (before, now string, err error) {
	defer i.explain(&err, "give it a new id")
	if err := i.present(ctx); err != nil {
		return "", "", err
	}
	data, _, err := i.state.Read(formatFile, maxRecord)
	if err != nil {
		return "", "", err
	}
	format, err := volume.DecodeFormat(data)
	if err == nil {
		err = format.CheckRequires()
	}
	if err != nil {
		return "", "", err
	}
	before, now = format.ID, volume.NewShareID()
	format.ID = now
	if data, err = format.Encode(); err != nil {
		return "", "", err
	}
	aside := "format." + i.aside()
	i.step("write the format")
	if err := writeOwn(i.state, aside, data); err != nil {
		return "", "", err
	}
	i.step("rename the format with the new id into place")
	if err := i.state.Rename(aside, i.state, formatFile); err != nil {
		_ = i.state.Unlink(aside)
		return "", "", err
	}
	i.lost.Store(true)
	return before, now, nil
}

// laysOut reports whether the share may be laid out. With an id that it has to have it may not:
// it would get another.
func (d *disk) laysOut() bool {
	return d.opt.LayOut && !d.opt.ReadOnly && (d.def.ID == "" || d.opt.AnyID)
}

// useFormat takes over what the format of the share says.
func (d *disk) useFormat(data []byte) error {
	format, err := volume.DecodeFormat(data)
	if err == nil && !d.opt.ReadOnly { // who only looks may
		err = format.CheckRequires()
	}
	if err != nil {
		return err
	}
	d.formatted, d.id = true, format.ID
	return nil
}

// newFormat is the format of a share that is being laid out.
type newFormat struct{ *disk }

// write writes the format of a share that has none, create-once.
func (d newFormat) write(id string) error {
	data, err := volume.Format{ID: id}.Encode()
	if err != nil {
		return err
	}
	aside := "format." + d.aside()
	d.step("write the format")
	if err := writeOwn(d.state, aside, data); err != nil {
		return err
	}
	d.step("link the format")
	err = d.state.Link(aside, d.state, formatFile)
	if noLinks(err) {
		err = create(d.state, formatFile, data)
	}
	if is(err, unix.EEXIST) { // another's, which may be newer, or an empty one
		err = d.replaceEmpty(aside)
	}
	_ = d.state.Unlink(aside)
	if err != nil {
		return err
	}
	return d.written(id)
}

// replaceEmpty replaces a format that a crash has left empty.
func (d newFormat) replaceEmpty(aside string) error {
	data, _, err := d.state.Read(formatFile, maxRecord)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		d.step("rename the format over an empty one")
		return d.state.Rename(aside, d.state, formatFile)
	}
	return nil
}

// written reads the format that was just written here, with that id, or by another process
// that was first.
func (d newFormat) written(id string) error {
	data, _, err := d.state.Read(formatFile, maxRecord)
	if err != nil {
		return err
	}
	if err := d.useFormat(data); err != nil {
		return err
	}
	if d.id == id && d.opt.LaidOut != nil {
		d.opt.LaidOut(d.def, id)
	}
	return nil
}

// checkID refuses an export that does not have the id which the registry says.
func (d *disk) checkID() error {
	if d.opt.AnyID || d.def.ID == "" || d.def.ID == d.id {
		return nil
	}
	return volume.WrongShare(d.def.Name, d.def.ID, d.id, d.formatted)
}

// laidOut refuses what can only be done on a share that has been laid out. Another process may
// have done that since.
func (d *disk) laidOut() error {
	if d.formatted || d.opt.ReadOnly {
		return nil
	}
	d.doubt()
	return volume.NotLaidOut(d.def.Name)
}

// unlaidInterval is how long a share that is not laid out is believed not to be.
const unlaidInterval = time.Minute

// mayBeLaidOut reports whether a share was not laid out when it was opened, and that is a while ago.
func (i *Identity) mayBeLaidOut() bool {
	return !i.formatted && !i.opt.ReadOnly && time.Since(i.opened) > unlaidInterval
}

// present returns ErrConflict for a change on a share that has not been laid out, and what ctx says.
func (d *disk) present(ctx context.Context) error {
	return cmpErr(ctx.Err(), d.laidOut())
}
