// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// Identity says which share this is: the id in its format. An export whose disk is not mounted on the
// server, for example, has another id, or none. A share without a format is laid out only to create
// something on it, never to read, to list or to delete.
type Identity struct{ *disk }

// ID returns the id of the share, or "" if the share has not been laid out, or was laid out before there
// were ids. It changes if the share gets another id while it is open.
func (i *Identity) ID() string {
	if id := i.id.Load(); id != nil {
		return *id
	}
	return ""
}

// Check returns ErrPrecondition if the share has not been laid out.
func (i *Identity) Check() (err error) {
	defer i.wrapError(&err, "check whether it is laid out")
	return i.checkInitialized()
}

// LayOut lays the share out if no process has, and gives it an id if it has none. The creation of a
// volume calls it, and mooringctl share forget; OpenInline does the same. It makes .mooring
// and, last, Mooring's directories in it. Between them it renames a directory format.<...> to check
// the server's file handles, and writes format.json, create-once; for a share that has only no id,
// id.json. It returns the id that the share has now. It does not change what is open here: the
// share is lost then, and the caller must open it again.
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

// Renew gives the share a new id, and returns the old and the new one. Processes that have the share open
// notice it within a minute, in Tidy. An administrator calls it, and not while something else changes the
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

// replaceFormat replaces the format of the share.
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

// setID records that the share has got another id while it is mounted, and lets it be opened again.
func (i *Identity) setID(id string) {
	i.id.Store(&id)
	i.lost.Store(true)
}

// checkInitialized returns ErrPrecondition if the share has not been laid out. Another process may have laid
// it out since it was opened: then the share is mounted again.
func (d *disk) checkInitialized() error {
	if d.formatted || d.opt.ReadOnly {
		return nil
	}
	d.requestRemount()
	return volume.NotInitializedError(d.def.Name)
}

// layoutRecheckInterval is how long a share that was not laid out is assumed to be so still.
const layoutRecheckInterval = time.Minute

// mayBeLaidOut reports whether the share was not laid out when it was opened, and that was a while ago.
func (i *Identity) mayBeLaidOut() bool {
	return !i.formatted && !i.opt.ReadOnly && time.Since(i.opened) > layoutRecheckInterval
}

// checkUsable returns the error of ctx, or ErrPrecondition if the share has not been laid out. A method that
// changes something calls it first.
func (d *disk) checkUsable(ctx context.Context) error {
	return firstError(ctx.Err(), d.checkInitialized())
}
