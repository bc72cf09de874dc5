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

// layoutCheck is the part of a check that is about .mooring itself.
type layoutCheck struct{ *check }

// layout checks .mooring, the format, and what is in .mooring.
func (c layoutCheck) layout(ctx context.Context) error {
	if err := c.at(ctx, volume.StateDir, c.lookMode); err != nil {
		return err
	}
	if err := c.at(ctx, stateName(formatFile), c.lookFormat); err != nil {
		return err
	}
	all, err := names(ctx, c.state)
	if err != nil {
		return err
	}
	for name := range c.own() {
		err := c.at(ctx, stateName(name), func(f *finding) error { return c.lookOwn(name, f) })
		if err != nil {
			return err
		}
	}
	return c.each(ctx, "", all, c.lookNamed)
}

func (c layoutCheck) lookMode(f *finding) error {
	if err := c.state.Refresh(); err != nil {
		return err
	}
	st, err := c.state.Self()
	if err != nil {
		return err
	}
	if mode := st.Mode & 0o7777; mode&0o077 != 0 {
		f.broken("chmod 0700 it: the start of a controller does so too", "its mode is %04o: others than its owner can read what is in it, or change it", mode)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		f.note("export with no_root_squash, or see that nobody has that number on a client", "it belongs to the user %d, and not to root: whoever has that number can change it", st.Uid)
	}
	return nil
}

func (c layoutCheck) lookFormat(f *finding) error {
	backup := "restore it from a backup"
	data, _, err := c.state.Read(formatFile, maxRecord)
	if missing(err) {
		if err := (layout{c.Share}).checkUnformatted(); err != nil {
			what, remedy, _ := cutRemedy(err)
			f.broken(remedy, "it is missing: %s", what)
			return nil
		}
	}
	if missing(err) || err == nil && len(data) == 0 {
		f.warn("nothing has to be done, if the right disk is exported: the next volume that is created writes it", "it is missing, or empty")
		return nil
	}
	if err != nil {
		return err
	}
	format, err := volume.DecodeFormat(data)
	if err != nil {
		f.undecodable(err, backup)
		return nil
	}
	f.requires(format.Unsupported())
	if format.ID == "" && c.Identity.ID() == "" {
		f.note("nothing has to be done: the next volume that is created makes one", "the share has no id: it is from before there were ids")
	}
	return nil
}

func (c layoutCheck) lookAddedID(f *finding) error {
	data, _, err := c.state.Read(idFile, maxRecord)
	if err != nil || len(data) == 0 {
		return err
	}
	if _, err := volume.DecodeAddedID(data); err != nil {
		f.undecodable(err, "remove it")
	}
	return nil
}

// undecodable says that a record cannot be read, in the words of the error of the decoder.
func (f *finding) undecodable(err error, remedy string) {
	what, advice, told := cutRemedy(err)
	if told {
		remedy = advice
	}
	if what, upgrade, _ := strings.Cut(what, ": upgrade "); errors.Is(err, volume.ErrPrecondition) {
		f.warn("upgrade "+upgrade, "%s", what)
		return
	}
	f.broken(remedy, "%s", what)
}

// cutRemedy takes what a decoder says of a record apart.
func cutRemedy(err error) (what, remedy string, ok bool) {
	return strings.Cut(err.Error(), "; nothing was changed: ")
}

// requires says that a record requires what this program does not know.
func (f *finding) requires(names []string) {
	if len(names) > 0 {
		f.warn("upgrade Mooring, and check again: this one cannot judge it", "it requires %s, which this Mooring does not know", strings.Join(names, ", "))
	}
}

// lookOwn looks whether one of Mooring's own directories is there.
func (c layoutCheck) lookOwn(name string, f *finding) error {
	d, err := c.state.Resolve(name)
	if err == nil {
		d.Close()
		return nil
	}
	if is(err, unix.ENOENT) {
		f.broken("restore it from a backup; if there was nothing in it, the next start of a controller makes it", "it is missing")
		return nil
	}
	return err
}

// lookNamed looks whether something belongs in .mooring.
func (c layoutCheck) lookNamed(name string, f *finding) error {
	f.where = stateName(name)
	if name == formatFile || name == heartbeatFile || name == volume.InlineDir || c.own()[name] != nil {
		return nil
	}
	if name == idFile {
		return c.lookAddedID(f)
	}
	if strings.HasPrefix(name, "mooring-doctor") || strings.HasPrefix(name, ".mooring-doctor-") { // of one that runs
		return nil
	}
	if strings.HasPrefix(name, formatAside) {
		f.note("remove it", "it was left by a controller that died while it wrote the format")
		return nil
	}
	f.unexpected()
	return nil
}

// indexCheck is the part of a check that is about the parents, the jobs and staging.
type indexCheck struct{ *check }

// indexes checks the parents, the jobs and what is in staging.
func (c indexCheck) indexes(ctx context.Context) error {
	for _, part := range []struct {
		name string
		dir  beneath.Dir
		look func(name string, f *finding) error
	}{
		{"parents", c.claims.parents.dir, lookParent},
		{"jobs", c.Jobs.dir, c.lookJob},
		{"staging", c.staging, c.lookStaged},
	} {
		all, err := names(ctx, part.dir)
		if err != nil {
			return err
		}
		if err := c.each(ctx, part.name, all, part.look); err != nil {
			return err
		}
	}
	return nil
}

func lookParent(name string, f *finding) error {
	if _, ok := parentOf(name); !ok {
		f.unexpected()
	}
	return nil
}

func (c indexCheck) lookJob(name string, f *finding) error {
	id, nonce, ok := cutNonce(name)
	target, known := volume.ParseObject(id)
	if !ok || !known {
		f.unexpected()
		return nil
	}
	// It goes after the record of what was made.
	if state, alive, err := c.standing(target, nonce); err != nil || alive && state != Ready {
		return err
	}
	f.note("nothing has to be done: the next controller that looks forgets it", "it says that a copy is being made as %s, which is not being made", target)
	return nil
}

func (c indexCheck) lookStaged(name string, f *finding) error {
	st, err := c.staging.Stat(name)
	if err != nil {
		return err
	}
	if _, _, ours := cutNonce(name); !ours {
		f.unexpected()
		return nil
	}
	if at := timeOf(st.Mtim); c.now.Sub(at) > staleAside {
		f.warn("nothing has to be done: the next start of a controller removes it", "it was left by a process that died at %s", stamp(at))
	}
	return nil
}
