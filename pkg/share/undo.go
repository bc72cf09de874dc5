// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"slices"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Undo takes away what Begin and the steps after it made, the record last. It is for a
// refusal that a retry would get too. What does not succeed stays for a retry to resume.
func (m *Making) Undo() error {
	defer m.Leave()
	if err := m.allowed(context.Background()); err != nil {
		return err
	}
	err := m.undo()
	if err != nil {
		return m.s.fail(fmt.Sprintf("undo the making of volume %s", m.rec.Key), err)
	}
	return nil
}

func (m *Making) undo() error {
	s := m.s
	if !m.rec.Shallow {
		if err := m.undoDirectory(); err != nil {
			return err
		}
		if err := s.release(m.rec.Directory, m.rec.Key); err != nil {
			return err
		}
	}
	if err := m.close(); err != nil {
		return err
	}
	s.step("undo the record")
	err := ignore(s.volumes.Unlink(jsonName(m.rec.Key)), unix.ENOENT)
	if err == nil && m.rec.Shallow {
		err = s.unmarkUser(&m.rec)
	}
	return err
}

// GiveUp ends a making that has failed with err, and returns the error to report. What the
// server refuses for good is undone, so that nothing stays behind; anything else is left for
// a retry to resume.
func (m *Making) GiveUp(ctx context.Context, err error) error {
	if late := m.Late(); late != nil {
		err = late // whatever stood in the way may be the work of one who has taken over
	}
	if !slices.Contains([]error{volume.ErrUnavailable, volume.ErrTimeout, volume.ErrBusy, nil}, volume.Kind(err)) {
		if undo := m.Undo(); undo != nil {
			klog.FromContext(ctx).Error(undo, "What was begun of a volume stays for a retry to resume")
		}
	}
	m.Leave()
	return err
}

// undoDirectory removes the directory where this volume has made it. rmdir(2) sees to it
// that nothing but an empty one goes.
func (m *Making) undoDirectory() error {
	if !m.made && !m.resumed || m.rec.Adopted {
		return nil
	}
	parent, name := volume.SplitDirectory(m.rec.Directory)
	claims, err := m.s.claims.Resolve(parent)
	owner := ""
	if err == nil {
		owner, err = readClaim(claims, name)
		claims.Close()
	}
	if unclaimed(err) || err == nil && owner != m.rec.Key {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := m.s.root.Resolve(parent)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer at.Close()
	d, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	ours := m.made || m.isOurs(d) == nil
	d.Close()
	if !ours {
		return nil
	}
	m.s.step("undo the directory")
	return ignore(at.Rmdir(name), unix.ENOENT)
}
