// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// refusedShare fails the test unless err is ErrPrecondition, and has all parts.
func refusedShare(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if volume.Kind(err) != volume.ErrPrecondition {
		t.Errorf("%s: the error is %v", what, err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q is not in %v", what, part, err)
		}
	}
}

// TestListShares lists shares that are laid out, and not, and that have another id than expected.
func TestListShares(t *testing.T) {
	p := newPool(t, "a", "b", "c", "d")
	s := NewShares(New(p, func(err error) { t.Error(err) }))
	expected := volume.NewShareID()
	ids := map[string]string{}
	for _, name := range []string{"a", "c"} {
		ids[name] = p.open(name, share.Options{}).Identity.ID()
	}
	p.asIs, p.opt, p.ids = true, share.Options{AnyID: true, ReadOnly: true}, map[string]string{"c": expected, "d": expected}
	got := map[string]Share{}
	if err := s.List(t.Context(), Filter{}, func(sh Share) error { got[sh.Name] = sh; return nil }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Share{
		"a": {State: "laid out", ID: ids["a"]}, "b": {State: "not laid out"},
		"c": {State: "another", ID: ids["c"], Expected: expected}, "d": {State: "another", Expected: expected},
	} {
		sh := got[name]
		if sh.State != want.State || sh.ID != want.ID || sh.Expected != want.Expected || sh.Export != "10.0.0.1:/"+name || sh.Total == nil || *sh.Total == 0 || sh.Free == nil {
			t.Errorf("%s is %+v", name, sh)
		}
	}
	if names, err := os.ReadDir(filepath.Join(p.dir, "b")); err != nil || len(names) > 0 {
		t.Errorf("on b are %v, %v", names, err)
	}
}

// TestForget gives up what was on a share, and not what is.
func TestForget(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a", "b")
	s := NewShares(New(p, func(err error) { t.Error(err) }))
	laid := p.open("a", share.Options{})
	p.asIs, p.opt = true, share.Options{AnyID: true}
	err := s.Forgettable(ctx, "a")
	refusedShare(t, "a share that is there", err, laid.Identity.ID(), "nothing was changed")
	_, err = s.Forget(ctx, "a")
	refusedShare(t, "a share that is there", err, laid.Identity.ID(), "nothing was changed")
	if now := p.open("a", share.Options{}); now.Identity.ID() != laid.Identity.ID() {
		t.Errorf("it has the id %q now", now.Identity.ID())
	}
	if err := s.Forgettable(ctx, "b"); err != nil {
		t.Error(err)
	}
	p.ids = map[string]string{"b": volume.NewShareID()} // which does not keep it from being forgotten
	done, err := s.Forget(ctx, "b")
	if err != nil || done.ID == "" || done.Expected != p.ids["b"] {
		t.Errorf("done is %+v, %v", done, err)
	}
	p.ids = nil
	if now := p.open("b", share.Options{}); now.Identity.ID() != done.ID {
		t.Errorf("it has the id %q", now.Identity.ID())
	}
	_, err = s.Forget(ctx, "none")
	refusedShare(t, "a share that is not registered", err, "none")
}

// TestReidentify gives a share another id.
func TestReidentify(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a", "b")
	s := NewShares(New(p, func(err error) { t.Error(err) }))
	before := p.open("a", share.Options{}).Identity.ID()
	p.asIs, p.opt = true, share.Options{AnyID: true}
	done, err := s.Reidentify(ctx, "a")
	if err != nil || done.Before != before || done.ID == before {
		t.Errorf("done is %+v, %v", done, err)
	}
	if now := p.open("a", share.Options{}); now.Identity.ID() != done.ID {
		t.Errorf("it has the id %q", now.Identity.ID())
	}
	_, err = s.Reidentify(ctx, "b")
	refusedShare(t, "what is not laid out", err, "nothing of Mooring's is on the export")
	if names, err := os.ReadDir(filepath.Join(p.dir, "b")); err != nil || len(names) > 0 {
		t.Errorf("on b are %v, %v", names, err)
	}
}
