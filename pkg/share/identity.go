// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// Identity is which share an open one is: the id in its format. An export that is not the one it
// was, because its disk is not mounted on the server, say, has another, or none. A share that has
// none is laid out when something is to be created there, and never in order to look, to list or
// to delete.
type Identity struct{ *disk }

// ID returns the id of the share; "" where it has not been laid out, or was before there were ids. It
// changes when the share gets another while it is open.
func (i *Identity) ID() string {
	if id := i.id.Load(); id != nil {
		return *id
	}
	return ""
}

// Check returns ErrPrecondition where the share has not been laid out.
func (i *Identity) Check() (err error) {
	defer i.wrapError(&err, "look whether it is laid out")
	return i.checkInitialized()
}

// LayOut lays the share out, if nobody has, and gives it an id, if it has none. What is open here stays
// as it is: the share is lost then, and has to be opened anew. It returns the id that the share has now.
func (i *Identity) LayOut(ctx context.Context) (id string, err error) {
	defer i.wrapError(&err, "lay out %s", volume.StateDir)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	opt := i.opt
	opt.Initialize = true
	s, err := Open(fmt.Sprintf("/proc/self/fd/%d", int(i.root)), i.def, opt)
	if err != nil {
		return "", err
	}
	defer s.Close()
	i.lost.Store(true)
	return s.Identity.ID(), nil
}

// Renew gives the share a new id, and returns both. Others that have the share open notice within
// a minute, in the course of Tidy. It is called by hand, and not while something else changes the
// format: of two changes at once one would be lost.
func (i *Identity) Renew(ctx context.Context) (before, now string, err error) {
	defer i.wrapError(&err, "give it a new id")
	if err := i.checkUsable(ctx); err != nil {
		return "", "", err
	}
	format, err := i.readFormat()
	if err != nil {
		return "", "", err
	}
	if format == nil {
		return "", "", volume.NotInitializedError(i.def.Name)
	}
	if err := format.CheckRequires(); err != nil {
		return "", "", err
	}
	before, now = format.ID, volume.NewShareID()
	format.ID = now
	if err := i.replaceFormat(format); err != nil {
		return "", "", err
	}
	i.setID(now)
	return before, now, nil
}

// replaceFormat puts a format in the place of that of the share.
func (i *Identity) replaceFormat(format *volume.Format) error {
	data, err := format.Encode()
	if err != nil {
		return err
	}
	aside := formatTempPrefix + i.stagingName()
	i.step("write the format")
	if err := writeFile(i.state, aside, data); err != nil {
		return err
	}
	i.step("rename the format with the new id into place")
	if err := i.state.Rename(aside, i.state, formatFile); err != nil {
		_ = i.state.Unlink(aside)
		return err
	}
	return nil
}

// setID notes that the share, as it is mounted, has got another id: whoever opens it next is to
// know.
func (i *Identity) setID(id string) {
	i.id.Store(&id)
	i.lost.Store(true)
}

// checkInitialized refuses what can only be done on a share that has been laid out. Another process may
// have done that since.
func (d *disk) checkInitialized() error {
	if d.formatted || d.opt.ReadOnly {
		return nil
	}
	d.requestRemount()
	return volume.NotInitializedError(d.def.Name)
}

// layoutRecheckInterval is how long a share that is not laid out is believed not to be.
const layoutRecheckInterval = time.Minute

// mayBeLaidOut reports whether a share was not laid out when it was opened, and that is a while ago.
func (i *Identity) mayBeLaidOut() bool {
	return !i.formatted && !i.opt.ReadOnly && time.Since(i.opened) > layoutRecheckInterval
}

// checkUsable returns ErrPrecondition for a change on a share that has not been laid out, and what ctx says.
func (d *disk) checkUsable(ctx context.Context) error {
	return firstError(ctx.Err(), d.checkInitialized())
}
