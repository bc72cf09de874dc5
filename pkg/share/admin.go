// SPDX-License-Identifier: Apache-2.0

package share

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Changed returns when a volume or snapshot that is not finished last came a step further, by
// the server's clock: when its copy was begun, when it was marked as being deleted or undone. It
// is zero where there is none. Of one that exists it says nothing.
func (s *Share) Changed(o volume.Object) (at time.Time, err error) {
	defer s.explain(&err, "look how far %s is", o)
	t := s.Volumes.table
	if o.Kind == volume.OfSnapshot {
		t = s.Snapshots.table
	}
	e, err := t.open(o.Key)
	if err != nil {
		return time.Time{}, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	defer e.close()
	at, err = e.deletedAt()
	if err != nil {
		return time.Time{}, ignore(err, unix.ESTALE)
	}
	return at, nil
}
