// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

func newInlineNode(t *testing.T) *node {
	n := newNode(t)
	n.registry.Shares[0].Inline = true
	return n
}

// inlineAt has a pod want a directory of its own, or one that is there.
func (n *node) inlineAt(target, directory string, change func(*volume.PublishRequest)) error {
	return n.publish(target, func(r *volume.PublishRequest) {
		r.ID, r.Location = "csi-"+target, volume.Location{}
		r.Inline = &volume.Inline{Share: "nas1", Directory: directory, Pod: "team/" + target}
		if change != nil {
			change(r)
		}
	})
}

func (n *node) inlineGone(target string) error {
	return n.Pods.Unpublish(context.Background(), "csi-"+target, n.at("pods/"+target))
}

// notes are what is noted of inline volumes.
func (n *node) notes() []inline {
	n.Helper()
	notes, err := all[inline](n.Inlines.state, inlinePrefix)
	n.must(err)
	return notes
}

func TestInlineLife(t *testing.T) {
	n := newInlineNode(t)
	n.inlineDo = nil
	n.registry.Shares[0].MountOptions = append(n.registry.Shares[0].MountOptions, "sharecache")
	context := []string{`context="system_u:object_r:container_file_t:s0:c1,c2"`}
	for range 2 {
		n.must(n.inlineAt("a", "", func(r *volume.PublishRequest) { r.Inline.Context = context }))
	}
	if len(n.inlines) != 1 {
		t.Fatalf("there were %d requests", len(n.inlines))
	}
	r := n.inlines[0]
	if r.Key != "csi-a" || r.Server != "10.0.0.1" || r.ReadOnly || r.Target != n.at("pods/a") || !slices.Contains(r.Options, context[0]) || !slices.Contains(r.Options, "nfsvers=4.2") {
		t.Errorf("the request is %+v", r)
	}
	if notes := n.notes(); len(notes) != 1 || notes[0] != (inline{ID: "csi-a", Target: n.at("pods/a"), Share: "nas1", Key: "csi-a"}) {
		t.Errorf("noted is %+v", notes)
	}
	n.must(n.inlineGone("a"))
	if r := n.inlines[len(n.inlines)-1]; r.Target != "" || r.Key != "csi-a" || !slices.Contains(r.Options, "nosharecache") {
		t.Errorf("to remove it, the request is %+v", r)
	}
	if notes := n.notes(); len(notes) > 0 {
		t.Errorf("still noted is %+v", notes)
	}
	n.absent("pods/a")
	n.must(n.inlineGone("a"))
	if len(n.inlines) != 2 {
		t.Errorf("there were %d requests", len(n.inlines))
	}
}

// TestInlineThere shows a directory that is there, of which nothing is noted.
func TestInlineThere(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "v1", func(r *volume.PublishRequest) { r.ReadOnly = true }))
	if r := n.inlines[0]; r.Key != "" || r.Directory != "v1" || !r.ReadOnly {
		t.Errorf("the request is %+v", r)
	}
	if notes := n.notes(); len(notes) > 0 {
		t.Errorf("noted is %+v", notes)
	}
	n.refused("read-write now", n.inlineAt("a", "v1", nil), volume.ErrExists)
	n.refused("another directory now", n.inlineAt("a", "v2", func(r *volume.PublishRequest) { r.ReadOnly = true }), volume.ErrExists)
	n.must(n.inlineGone("a"))
	if len(n.inlines) != 1 {
		t.Errorf("somebody's directory is touched: %+v", n.inlines)
	}
}

// TestInlineShareAway has the share away: pods do not begin, and those that end can go.
func TestInlineShareAway(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "", nil))
	n.inlineDo = volume.Errorf(volume.ErrUnavailable, "it is away")
	n.refused("publish", n.inlineAt("b", "", nil), volume.ErrUnavailable)
	n.must(n.inlineGone("a"))
	n.must(n.inlineGone("b"))
	n.probes.servers["10.0.0.1:2049"] = volume.Errorf(volume.ErrUnavailable, "nobody is asked")
	n.refused("publish", n.inlineAt("c", "", nil), volume.ErrUnavailable) // of which nothing is noted
	delete(n.probes.servers, "10.0.0.1:2049")
	for _, note := range n.notes() {
		if !note.Left {
			t.Errorf("this is not to be removed later: %+v", note)
		}
	}
	n.absent("pods/a")
	n.Inlines.tidyOnce(context.Background())
	if got := n.notes(); len(got) != 2 {
		t.Fatalf("noted is %+v", got)
	}
	n.inlineDo = nil
	s := n.service(n.mounter) // the program was started again meanwhile
	s.Inlines.tidyOnce(context.Background())
	if notes := n.notes(); len(notes) > 0 {
		t.Errorf("still noted is %+v", notes)
	}
}

// TestInlineStateDamaged has the state directory be full, damaged or gone when a pod goes: it can go.
func TestInlineStateDamaged(t *testing.T) {
	n := newInlineNode(t)
	for _, pod := range []string{"a", "b", "c"} {
		n.must(n.inlineAt(pod, "", nil))
	}
	n.must(n.mounter.Unmount(context.Background(), n.at("pods/a")))
	n.Inlines.unnoted.Store(n.at("pods/a"), true) // as when the disk is full
	n.Inlines.tidyOnce(context.Background())
	if r := n.inlines[len(n.inlines)-1]; r.Target != "" || r.Key != "csi-a" || len(n.notes()) != 2 {
		t.Errorf("the last request is %+v, noted is %+v", r, n.notes())
	}
	n.must(os.WriteFile(n.at("state/"+fileName(inlinePrefix, n.at("pods/b"))), nil, 0o600))
	n.must(n.inlineGone("b"))
	n.absent("pods/b")
	n.must(os.RemoveAll(n.at("state")))
	n.must(n.inlineGone("c"))
	n.absent("pods/c")
}

// TestAnswerIsLost has an attempt mount the directory and fail for all that, so that the pod is noted to
// be gone: with the retry it is there.
func TestAnswerIsLost(t *testing.T) {
	n := newInlineNode(t)
	n.inlineDo = volume.Errorf(volume.ErrUnavailable, "the answer is lost")
	n.refused("publish", n.inlineAt("a", "", nil), volume.ErrUnavailable)
	n.inlineDo = nil
	n.must(n.do(context.Background(), n.inlines[0]))
	n.must(n.inlineAt("a", "", nil))
	n.must(n.mounter.Unmount(context.Background(), n.at("pods/a"))) // the machine is started again
	before := len(n.inlines)
	n.Inlines.tidyOnce(context.Background())
	if len(n.inlines) != before {
		t.Errorf("the directory of a pod that is there is removed: %+v", n.inlines[before:])
	}
}

// TestTidyLeaves has tidying leave alone what a pod has, and what somebody is at.
func TestTidyLeaves(t *testing.T) {
	n := newInlineNode(t)
	for _, pod := range []string{"runs", "locked", "back"} {
		n.must(n.inlineAt(pod, "", nil))
	}
	left := n.notes()
	for _, note := range left {
		note.Left = note.ID != "csi-runs"
		n.must(n.Inlines.state.put(inlinePrefix, note.Target, note))
	}
	n.must(n.mounter.Unmount(context.Background(), n.at("pods/locked")))
	unlock, err := n.Inlines.lock("csi-locked", "csi-locked", n.at("pods/locked"), true)
	n.must(err)
	before := len(n.inlines)
	n.Inlines.tidyOnce(context.Background())
	if len(n.inlines) != before || len(n.notes()) != 3 {
		t.Errorf("requested was %+v, noted is %+v", n.inlines[before:], n.notes())
	}
	unlock()
	n.Inlines.tidyOnce(context.Background())
	if got := n.inlines[before:]; len(got) != 1 || got[0].Key != "csi-locked" || len(n.notes()) != 2 {
		t.Errorf("requested was %+v, noted is %+v", got, n.notes())
	}
}

func TestInlineRefuses(t *testing.T) {
	n := newInlineNode(t)
	n.registry.Shares = append(n.registry.Shares, volume.Share{Name: "closed", Servers: []string{"10.0.0.2"}, Path: "/x"})
	n.must(os.WriteFile(n.at("pods/file"), nil, 0o600))
	for what, c := range map[string]struct {
		change func(*volume.PublishRequest)
		kind   error
	}{
		"an unknown share":    {func(r *volume.PublishRequest) { r.Inline.Share = "nas9" }, volume.ErrPrecondition},
		"a closed share":      {func(r *volume.PublishRequest) { r.Inline.Share = "closed" }, volume.ErrRefused},
		"an export":           {func(r *volume.PublishRequest) { r.Inline.Share = "10.0.0.1:/export" }, volume.ErrInvalid},
		"a directory above":   {func(r *volume.PublishRequest) { r.Inline.Directory = "../x" }, volume.ErrInvalid},
		"Mooring's own":       {func(r *volume.PublishRequest) { r.Inline.Directory = ".mooring/volumes" }, volume.ErrInvalid},
		"a file in the way":   {func(r *volume.PublishRequest) { r.Target = n.at("pods/file") }, volume.ErrPrecondition},
		"a relative target":   {func(r *volume.PublishRequest) { r.Target = "pods/x" }, volume.ErrInvalid},
		"no parent directory": {func(r *volume.PublishRequest) { r.Target = n.at("none/x") }, volume.ErrPrecondition},
	} {
		n.refused(what, n.inlineAt("x", "", c.change), c.kind)
	}
	if len(n.inlines) > 0 || len(n.notes()) > 0 {
		t.Errorf("requested was %+v, noted is %+v", n.inlines, n.notes())
	}
}

// TestStateDamaged has a note be no JSON: it is named, and the others are used.
func TestStateDamaged(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "", nil))
	n.must(os.WriteFile(n.at("state/"+inlinePrefix+"00.json"), []byte("{"), 0o600))
	notes, err := all[inline](n.Inlines.state, inlinePrefix)
	if len(notes) != 1 || err == nil || !strings.Contains(err.Error(), inlinePrefix+"00.json") {
		t.Errorf("the notes are %+v, the error %v", notes, err)
	}
	n.must(os.WriteFile(n.at("state/.new-half"), []byte("{"), 0o600))
	n.service(n.mounter)
	n.absent("state/.new-half")
	n.must(os.RemoveAll(n.at("state")))
	if err := n.Inlines.state.put(inlinePrefix, "/x", notes[0]); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a note that cannot be written: %v", err)
	}
	if files, _ := filepath.Glob(n.at("state/*")); len(files) > 0 {
		t.Errorf("there are %q", files)
	}
}
