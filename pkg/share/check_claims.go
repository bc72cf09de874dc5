// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// claimsCheck is the part of a check that inspects claims, and directories without a claim.
type claimsCheck struct{ *check }

// checkAll checks the claims, level by level. It finds unclaimed empty directories beside volumes, and no
// deeper.
func (c claimsCheck) checkAll(ctx context.Context) error {
	for parents := []string{""}; len(parents) > 0; {
		var claimed, unclaimed, below []string
		err := inParallel(ctx, len(parents), func(i int) error {
			here, others, err := c.listDirectories(ctx, parents[i])
			c.mu.Lock()
			defer c.mu.Unlock()
			claimed, unclaimed = append(claimed, here...), append(unclaimed, others...)
			return err
		})
		if err != nil {
			return err
		}
		err = inParallel(ctx, len(claimed), func(i int) error {
			l := claimCheck{check: c.check, directory: claimed[i]}
			err := c.runOne(ctx, claimLocation(claimed[i]), l.run)
			if l.isParent {
				c.mu.Lock()
				defer c.mu.Unlock()
				below = append(below, claimed[i])
			}
			return err
		})
		if err != nil {
			return err
		}
		err = inParallel(ctx, len(unclaimed), func(i int) error {
			return c.runOne(ctx, unclaimed[i], func(f *finding) error { return c.checkUnclaimed(unclaimed[i], f) })
		})
		if err != nil {
			return err
		}
		parents = below
	}
	return nil
}

// claimLocation returns the path of the claim on a directory, relative to the share.
func claimLocation(directory string) string {
	parent, name := volume.SplitDirectory(directory)
	return stateName("claims", path.Join(claimPath(parent), name))
}

// listDirectories lists the directories in a parent of volumes: those with something among the claims, and
// those without.
func (c claimsCheck) listDirectories(ctx context.Context, parent string) (claimed, others []string, err error) {
	claims, err := c.claims.dir.Resolve(claimPath(parent))
	if err != nil {
		return nil, nil, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE)
	}
	defer claims.Close()
	all, err := listNames(ctx, claims)
	if err != nil {
		return nil, nil, ignore(err, unix.ESTALE)
	}
	known := map[string]bool{}
	for _, name := range all {
		known[name] = true
		claimed = append(claimed, path.Join(parent, name))
	}
	dir, err := c.root.Resolve(parent)
	if err != nil {
		return claimed, nil, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.ESTALE)
	}
	defer dir.Close()
	err = beneath.Entries(dir, func(name string, isDir bool) error {
		mayBe := isDir && !known[name] && !strings.HasPrefix(name, volume.ArchiveName("", ""))
		if mayBe && (parent != "" || name != volume.StateDir && name != "lost+found") {
			others = append(others, path.Join(parent, name))
		}
		return ctx.Err()
	})
	return claimed, others, err
}

// checkUnclaimed checks a directory for which there was nothing among the claims.
func (c claimsCheck) checkUnclaimed(directory string, f *finding) error {
	if volume.CheckDirectory(directory) != nil {
		return nil // no volume can have had it
	}
	found, err := c.claims.find(directory, inode{})
	claimed := found.dir != beneath.None
	found.close()
	if claimed || !isMissing(err) {
		return nil // it has a claim now
	}
	if noted, err := c.claims.parents.hasNote(directoryNote, directory); err != nil || noted {
		return err // Tidy removes it
	}
	d, err := c.root.Resolve(directory)
	if err != nil {
		return ignore(err, unix.ENOTDIR, unix.ELOOP, unix.EXDEV)
	}
	defer d.Close()
	empty, err := beneath.IsEmpty(d)
	if err != nil || !empty {
		return err
	}
	f.reportNote("remove it if nobody needs it", "the directory is empty and belongs to no volume: somebody made it, or it is that of a retained volume, or an interrupted creation left it")
	return nil
}

// claimCheck is one inspection of what is among the claims for a directory.
type claimCheck struct {
	*check
	directory string
	isParent  bool // it is a parent of volumes
}

func (l *claimCheck) run(f *finding) error {
	up, name := volume.SplitDirectory(l.directory)
	dir, err := l.claims.dir.Resolve(claimPath(up))
	if err != nil {
		return err
	}
	defer dir.Close()
	claimDir, err := dir.Resolve(name)
	if is(err, unix.ENOTDIR, unix.ELOOP) {
		f.reportUnexpected()
		return nil
	}
	if err != nil {
		return err
	}
	defer claimDir.Close()
	if err := claimDir.Refresh(); err != nil {
		return err
	}
	st, err := claimDir.StatSelf()
	if err != nil {
		return err
	}
	f.version = fmt.Sprint(st.Ino, st.Mtim)
	in := map[string]bool{}
	if err := beneath.Entries(claimDir, func(name string, isDir bool) error { in[name] = isDir; return nil }); err != nil {
		return err
	}
	recent := !l.isOld(toTime(st.Mtim))
	l.checkNames(in, recent, f)
	isParent, taken := in[takenName]
	switch {
	case taken && isParent:
		return l.checkParent(claimDir, f)
	case taken && len(in) == 1 && l.isConfirmed():
		return nil
	case taken:
		return l.checkVolumeClaim(claimDir, recent, f)
	case len(in) == 0 && up != "": // at the top it may be that of a volume in the trash
		f.reportNote("nothing has to be done: the next volume that gets the directory removes it; or remove it", "nobody has a claim there")
	}
	return nil
}

// isConfirmed reports whether the claim is the one that a volume's record says.
func (l *claimCheck) isConfirmed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.claimed[l.directory]
}

// checkNames checks what is in a directory of claims besides a claim.
func (l *claimCheck) checkNames(in map[string]bool, recent bool, f *finding) {
	where := f.path
	defer func() { f.path = where }()
	isParent, taken := in[takenName]
	for name, isDir := range in {
		f.path = where + "/" + name
		_, _, owner := cutNonce(name)
		switch {
		case name == takenName, strings.HasPrefix(name, ".nfs"):
		case name == deadName && isDir && taken && !isParent: // under a bar, which is reported itself
		case name == deadName && isDir:
			if !recent {
				f.reportError("check whether it contains anything that is needed: it was the directory "+fmt.Sprintf("%q", l.directory)+"; move it back there, or remove it", "the removal of the idle parent directory %q was not finished", l.directory)
			}
		case owner && !isDir && taken: // names the owner, on a server without hard links
		case owner && !isDir:
			if !recent {
				f.reportWarning("remove it: no volume can have the directory as long as it is there", "it names the owner of a claim that was released")
			}
		default:
			f.reportUnexpected()
		}
	}
}

// checkParent checks the claims of a parent of volumes.
func (l *claimCheck) checkParent(claimDir beneath.Dir, f *finding) error {
	l.isParent = true
	d, err := claimDir.Resolve(takenName)
	if err != nil {
		return err
	}
	defer d.Close()
	empty, err := beneath.IsEmpty(d)
	if err != nil || !empty {
		return err
	}
	for _, kind := range []string{claimsNote, directoryNote} {
		if noted, err := l.claims.parents.hasNote(kind, l.directory); err != nil || noted {
			return err // Tidy removes it
		}
	}
	f.reportNote("nothing has to be done: it blocks nothing; or remove it", "it is for volumes in %q, but there are none, and %s has no note of it", l.directory, stateName("parents"))
	return nil
}

// checkVolumeClaim checks the claim of a volume.
func (l *claimCheck) checkVolumeClaim(claimDir beneath.Dir, recent bool, f *finding) error {
	holder, err := l.claims.readOwner(claimDir)
	if kind := volume.Kind(err); kind == volume.ErrDamaged || kind == volume.ErrBusy {
		return l.checkOwnerless(claimDir, recent, f)
	}
	if err != nil {
		return err
	}
	s, exists, err := l.readReferenced(l.Volumes.table, holder.key)
	if err != nil {
		return err
	}
	if !exists {
		l.reportDeadClaim(holder, f)
		return nil
	}
	r, err := volume.DecodeRecord(holder.key, s.data)
	if err != nil {
		return nil // reported with the volume
	}
	switch {
	case r.Nonce != holder.nonce && s.state == Ready && r.Directory == l.directory:
	case r.Nonce != holder.nonce:
		l.reportDeadClaim(holder, f)
	case s.state == Deleting: // the claim may be on its archived name
	case r.Directory != l.directory || r.Shallow:
		f.reportError("once it is clear that nobody needs the directory "+fmt.Sprintf("%q", l.directory)+", remove "+f.path+" on the server", "it belongs to volume %s, whose directory is %q", holder.key, r.Directory)
	}
	return nil
}

func (l *claimCheck) reportDeadClaim(want owner, f *finding) {
	f.reportNote("nothing has to be done: the next volume that gets the directory takes it over", "it was left by a volume %s, with the nonce %s, that does not exist any more", want.key, want.nonce)
}

// checkOwnerless checks a claim without an owner: a bar that was left while a parent was removed, or a
// damaged claim.
func (l *claimCheck) checkOwnerless(claimDir beneath.Dir, recent bool, f *finding) error {
	st, err := claimDir.Stat(takenName)
	if err != nil || recent {
		return err
	}
	if st.Nlink > 1 { // a link to a record, which is reported itself
		return nil
	}
	if st.Size == 0 {
		f.reportWarning("nothing has to be done: a controller removes the bar within a quarter of an hour, or for the next volume that gets the directory", "the directory %q is barred: its removal as an idle parent was not finished", l.directory)
		return nil
	}
	f.reportError("once it is clear which volume has the directory, remove "+f.path+"/"+takenName+" on the server", "the claim on the directory %q does not name its owner", l.directory)
	return nil
}
