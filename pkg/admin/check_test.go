// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

const goldenCheck = `[
  {
    "share": "a",
    "severity": "error",
    "path": ".mooring/volumes/pvc-1",
    "what": "its directory \"one\\u009b\" does not exist",
    "remedy": "restore the directory from a backup, or delete the PersistentVolumeClaim, which forgets the volume"
  },
  {
    "share": "c",
    "severity": "warning",
    "path": ".mooring/mine",
    "what": "nothing of that name belongs there",
    "remedy": "if a newer Mooring has used the share, leave it to that one; otherwise find out who put it there, and move it away"
  },
  {
    "share": "c",
    "severity": "note",
    "path": "stray",
    "what": "the directory is empty and belongs to no volume: somebody made it, or it is that of a retained volume, or an interrupted creation left it",
    "remedy": "remove it if nobody needs it"
  }
]`

// TestCheck has two shares with problems, one without, and one that cannot be opened.
func TestCheck(t *testing.T) {
	p := newPool(t, "a", "b", "c", "good")
	p.create("a", "pvc-1", "one\u009b", "")
	p.create("a", "pvc-2", "two", "")
	p.create("c", "pvc-1", "one", "")
	p.create("good", "pvc-1", "team/one", "")
	p.silent["b"] = volume.Errorf(volume.ErrUnavailable, "share b does not answer")
	for _, err := range []error{
		os.Remove(p.at("a/one\u009b")), os.Mkdir(p.at("c/stray"), 0o755), os.Mkdir(p.at("c/.mooring/mine"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.lists()
	p.opt.Lease = time.Millisecond
	s, reported := p.service()
	var found []Problem
	wrong := 0
	err := s.Check(t.Context(), Filter{}, func(p Problem) error {
		found = append(found, p)
		if p.Wrong() {
			wrong++
		}
		return nil
	})
	if err != nil || wrong != 2 {
		t.Errorf("%d are wrong, %v", wrong, err)
	}
	text, err := JSON(found, "", "  ")
	if err != nil || string(text) != goldenCheck {
		t.Errorf("found is %s, %v", text, err)
	}
	if said := reported(); !strings.Contains(said, "share b does not answer") {
		t.Errorf("reported is %q", said)
	}
	if err := s.Check(t.Context(), Filter{Shares: []string{"good"}}, func(p Problem) error {
		t.Errorf("found is %+v", p)
		return nil
	}); err != nil {
		t.Error(err)
	}
}
