// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// layoutCheck is the part of a check that inspects .mooring itself.
type layoutCheck struct{ *check }

// checkAll checks .mooring, the format, and what is in .mooring.
func (c layoutCheck) checkAll(ctx context.Context) error {
	if err := c.runOne(ctx, volume.StateDir, c.checkMode); err != nil {
		return err
	}
	if err := c.runOne(ctx, stateName(formatFile), c.checkFormat); err != nil {
		return err
	}
	all, err := listNames(ctx, c.state)
	if err != nil {
		return err
	}
	for name := range c.directories() {
		err := c.runOne(ctx, stateName(name), func(f *finding) error { return c.checkOwnDirectory(name, f) })
		if err != nil {
			return err
		}
	}
	return c.runAll(ctx, "", all, c.checkName)
}

func (c layoutCheck) checkMode(f *finding) error {
	if err := c.state.Refresh(); err != nil {
		return err
	}
	st, err := c.state.StatSelf()
	if err != nil {
		return err
	}
	if mode := st.Mode & 0o7777; mode&0o077 != 0 {
		f.reportError("chmod 0700 it: a controller does so too when it starts", "its mode is %04o: users other than its owner can read or change what is in it", mode)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		f.reportNote("export with no_root_squash, or make sure that no user on a client has that number", "it belongs to the user %d, and not to root: a user with that number can change it", st.Uid)
	}
	return nil
}

func (c layoutCheck) checkFormat(f *finding) error {
	backup := "restore it from a backup"
	data, _, err := c.state.Read(formatFile, maxRecord)
	if isMissing(err) {
		if err := (layout{c.Share}).checkOldLayout(); err != nil {
			what, remedy, _ := cutRemedy(err)
			f.reportError(remedy, "it is missing: %s", what)
			return nil
		}
	}
	if ignore(err, unix.ENOENT, unix.ESTALE) == nil && len(data) == 0 {
		f.reportWarning("nothing has to be done, if the right disk is exported: the next volume that is created writes it", "it is missing, or empty")
		return nil
	}
	if err != nil {
		return err
	}
	format, err := volume.DecodeFormat(data)
	if err != nil {
		f.reportUndecodable(err, backup)
		return nil
	}
	f.reportUnsupported(format.Unsupported())
	if format.ID == "" && c.Identity.ID() == "" {
		f.reportNote("nothing has to be done: the next volume that is created makes one", "the share has no id: it was laid out before there were ids")
	}
	return nil
}

func (c layoutCheck) checkAddedID(f *finding) error {
	data, _, err := c.state.Read(idFile, maxRecord)
	if err != nil || len(data) == 0 {
		return err
	}
	if _, err := volume.DecodeAddedID(data); err != nil {
		f.reportUndecodable(err, "remove it")
	}
	return nil
}

// reportUndecodable reports that a record cannot be read, with the decoder's message.
func (f *finding) reportUndecodable(err error, remedy string) {
	what, advice, hasRemedy := cutRemedy(err)
	if hasRemedy {
		remedy = advice
	}
	if what, upgrade, _ := strings.Cut(what, ": upgrade "); errors.Is(err, volume.ErrPrecondition) {
		f.reportWarning("upgrade "+upgrade, "%s", what)
		return
	}
	f.reportError(remedy, "%s", what)
}

// cutRemedy splits a decoder's error into what is wrong and its remedy.
func cutRemedy(err error) (what, remedy string, ok bool) {
	return strings.Cut(err.Error(), "; nothing was changed: ")
}

// reportUnsupported reports that a record requires what this program does not know.
func (f *finding) reportUnsupported(names []string) {
	if len(names) > 0 {
		f.reportWarning("upgrade Mooring, and check again: this one cannot check it", "it requires %s, which this Mooring does not know", strings.Join(names, ", "))
	}
}

// checkOwnDirectory checks that one of Mooring's own directories exists.
func (c layoutCheck) checkOwnDirectory(name string, f *finding) error {
	err := checkOpens(c.state, name)
	if is(err, unix.ENOENT) {
		f.reportError("restore it from a backup; if it was empty, a controller makes it when it starts", "it is missing")
		return nil
	}
	return err
}

// checkName checks that something belongs in .mooring.
func (c layoutCheck) checkName(name string, f *finding) error {
	f.path = stateName(name)
	if name == formatFile || name == heartbeatFile || name == volume.InlineDir || c.directories()[name] != nil {
		return nil
	}
	if name == idFile {
		return c.checkAddedID(f)
	}
	if strings.HasPrefix(name, "mooring-doctor") || strings.HasPrefix(name, ".mooring-doctor-") { // of a doctor that runs now
		return nil
	}
	if strings.HasPrefix(name, formatTempPrefix) {
		f.reportNote("remove it", "it was left by a controller that died while it wrote the format")
		return nil
	}
	f.reportUnexpected()
	return nil
}

// indexCheck is the part of a check that inspects the parents, the jobs and staging.
type indexCheck struct{ *check }

// checkAll checks the parents, the jobs and what is in staging.
func (c indexCheck) checkAll(ctx context.Context) error {
	for _, part := range []struct {
		name string
		dir  beneath.Dir
		do   func(name string, f *finding) error
	}{
		{"parents", c.claims.parents.index, checkParentNote},
		{"jobs", c.Jobs.dir, c.checkJob},
		{"staging", c.staging, c.checkStaged},
	} {
		all, err := listNames(ctx, part.dir)
		if err != nil {
			return err
		}
		if err := c.runAll(ctx, part.name, all, part.do); err != nil {
			return err
		}
	}
	return nil
}

func checkParentNote(name string, f *finding) error {
	if _, ok := parseNote(name); !ok {
		f.reportUnexpected()
	}
	return nil
}

func (c indexCheck) checkJob(name string, f *finding) error {
	id, nonce, ok := cutNonce(name)
	target, known := volume.ParseObject(id)
	if !ok || !known {
		f.reportUnexpected()
		return nil
	}
	// A job is removed after its target's record.
	if state, alive, err := c.stateOf(target, nonce); err != nil || alive && state != Ready {
		return err
	}
	f.reportNote("nothing has to be done: a controller removes it when it next lists the copies", "it says that a copy is being made as %s, which is not being made", target)
	return nil
}

func (c indexCheck) checkStaged(name string, f *finding) error {
	st, err := c.staging.Stat(name)
	if err != nil {
		return err
	}
	if _, _, isOwn := cutNonce(name); !isOwn {
		f.reportUnexpected()
		return nil
	}
	if modified := toTime(st.Mtim); c.now.Sub(modified) > staleTempAge {
		f.reportWarning("nothing has to be done: the next start of a controller removes it", "it was left by a process that died at %s", formatTime(modified))
	}
	return nil
}
