// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const (
	// formatFile is the format of the share.
	formatFile = volume.FormatName
	// formatTempPrefix begins the temporary name of a format that is being written.
	formatTempPrefix = "format."
	// idFile has the id of a share whose formatFile has none.
	idFile = volume.AddedIDName
)

// layout opens and initializes what Mooring has on a share: .mooring, its format and its
// directories.
type layout struct{ *Share }

// open opens .mooring and its directories, and creates the missing ones. It reads the format first:
// it changes nothing in a format that this program does not know, or on an export with a wrong id.
func (l layout) open() (err error) {
	if l.state, err = l.ensureDir(l.root, volume.StateDir); err != nil {
		return err
	}
	if l.state != beneath.None {
		if err := l.openFormat(); err != nil {
			return err
		}
	}
	if err := l.checkID(); err != nil || l.state == beneath.None {
		return err
	}
	if !l.formatted && !l.opt.ReadOnly {
		return nil
	}
	if err := l.checkMode(); err != nil {
		return err
	}
	for name, d := range l.directories() {
		if *d, err = l.ensureDir(l.state, name); err != nil {
			return err
		}
	}
	return l.detectLinkCounts()
}

// detectLinkCounts finds out whether the server counts subdirectories in a directory's link count.
func (l layout) detectLinkCounts() error {
	st, err := l.state.StatSelf()
	l.countsSubdirs = err == nil && int(st.Nlink) >= 2+len(contentDirs())
	return err
}

// mayInitialize reports whether the share may be initialized. If the registry requires an id it may
// not: the share would get another one.
func (l layout) mayInitialize() bool {
	return l.opt.Initialize && !l.opt.ReadOnly && (l.def.ID == "" || l.opt.AnyID)
}

// checkID refuses an export that does not have the id in the registry.
func (l layout) checkID() error {
	if id := l.Identity.ID(); l.def.ID != "" && l.def.ID != id && !l.opt.AnyID {
		return volume.WrongShareError(l.def.Name, l.def.ID, id, l.formatted)
	}
	return nil
}

// checkMode denies everybody but root access to .mooring, whoever made it.
func (l layout) checkMode() error {
	st, err := l.state.StatSelf()
	if err != nil || st.Mode&0o077 == 0 || l.opt.ReadOnly {
		return err
	}
	l.step("close " + volume.StateDir)
	return ignore(chmod(l.state, 0o700), unix.EROFS) // a read-only share can still be read
}

// ensureDir opens the directory name in parent, and creates it if it does not exist. It returns
// None if it may not.
func (l layout) ensureDir(parent beneath.Dir, name string) (beneath.Dir, error) {
	found, err := parent.Resolve(name)
	if !is(err, unix.ENOENT) {
		return found, err
	}
	if l.opt.ReadOnly || !l.formatted && !l.mayInitialize() {
		return beneath.None, nil
	}
	l.step("lay out " + name)
	if err := ignore(parent.Mkdir(name, 0o700), unix.EEXIST); err != nil {
		return beneath.None, err
	}
	return parent.Resolve(name)
}

// openFormat reads the format of the share. If the share may be initialized, it writes a format if
// there is none, and an id if the format has none.
func (l layout) openFormat() error {
	found, err := l.loadFormat()
	if err != nil || l.opt.ReadOnly {
		return err
	}
	if found {
		return l.addID()
	}
	if err := l.checkOldLayout(); err != nil {
		// Another process may have written the format since, and gone on.
		if found, again := l.loadFormat(); found || again != nil {
			return again
		}
		return err
	}
	if !l.mayInitialize() {
		return nil
	}
	if err := l.checkMode(); err != nil { // before anything in it is trusted
		return err
	}
	if err := l.checkHandles(); err != nil {
		return err
	}
	id := volume.NewShareID()
	if err := l.writeFormat(formatFile, id); err != nil {
		return err
	}
	if l.Identity.ID() == id && l.opt.OnInitialized != nil {
		l.opt.OnInitialized(l.def, id)
	}
	return nil
}

// checkHandles refuses a server on which a directory's file handle becomes invalid when the
// directory is renamed. Such a handle says nothing about the directory that was opened, and no
// creation could ever finish.
func (l layout) checkHandles() error {
	temp := formatTempPrefix + l.stagingName()
	renamed := formatTempPrefix + l.stagingName()
	l.step("try the server")
	if err := l.state.Mkdir(temp, 0o700); err != nil {
		return err
	}
	defer func() {
		_ = l.state.Rmdir(temp)
		_ = l.state.Rmdir(renamed)
	}()
	d, err := l.state.Resolve(temp)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := l.state.Rename(temp, l.state, renamed); err != nil {
		return err
	}
	err = d.Refresh()
	if is(err, unix.ESTALE, unix.ENOENT) {
		return volume.UnstableHandlesError()
	}
	return err
}

// addID gives an id to a share that was initialized before there were ids. The id has a file of its
// own: rewriting the format here could remove a requirement that a later Mooring has added to it.
func (l layout) addID() error {
	if l.Identity.ID() != "" || !l.mayInitialize() {
		return nil
	}
	return l.writeFormat(idFile, volume.NewShareID())
}

// loadFormat reads and applies the format of the share. It refuses one that this program does not
// know. found: there is one.
func (l layout) loadFormat() (found bool, err error) {
	format, err := l.readFormat()
	if format == nil || err != nil {
		return false, err
	}
	if !l.opt.ReadOnly { // reading is always allowed
		if err := format.CheckRequires(); err != nil {
			return true, err
		}
	}
	l.formatted = true
	l.id.Store(&format.ID)
	return true, nil
}

// readFormat reads the format of the share; nil if there is none.
func (d *disk) readFormat() (*volume.Format, error) {
	return volume.ReadFormat(func(name string) ([]byte, error) {
		data, _, err := d.state.Read(name, maxRecord)
		return data, ignore(err, unix.ENOENT)
	})
}

// checkOldLayout refuses a share that was initialized before there was a format. Since then the
// format is made before any of the other directories.
func (l layout) checkOldLayout() error {
	for _, name := range []string{"volumes", "snapshots", "groups", "trash"} {
		empty, err := isEmptyDir(l.state, name)
		if err != nil {
			return err
		}
		if !empty {
			return volume.OldLayoutError()
		}
	}
	return nil
}

// writeFormat writes a format with an id, create-once, and applies the one that is there then:
// another process may have been first.
func (l layout) writeFormat(name, id string) error {
	data, err := volume.Format{ID: id}.Encode()
	if err != nil {
		return err
	}
	temp := formatTempPrefix + l.stagingName()
	l.step("write the format")
	if err := writeFile(l.state, temp, data); err != nil {
		return err
	}
	l.step("link the format")
	err = hardLink(l.disk, l.state, temp, l.state, name)
	if errors.Is(err, errNoLinks) {
		err = createFile(l.state, name, data)
	}
	if is(err, unix.EEXIST) { // of another process, which may be newer, or an empty one
		err = l.replaceEmptyFormat(temp, name)
	}
	_ = l.state.Unlink(temp)
	if err != nil {
		return err
	}
	_, err = l.loadFormat()
	return err
}

// replaceEmptyFormat replaces a format file that a crash has left empty.
func (l layout) replaceEmptyFormat(temp, name string) error {
	data, _, err := l.state.Read(name, maxRecord)
	if err != nil || len(data) > 0 {
		return err
	}
	l.step("rename the format over an empty one")
	return l.state.Rename(temp, l.state, name)
}
