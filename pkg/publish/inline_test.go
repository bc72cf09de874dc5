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
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

func newInlineNode(t *testing.T) *node {
	n := newNode(t)
	n.registry.Shares[0].Inline = true
	return n
}

// inlineAt publishes an inline volume: a new directory, or an existing one.
func (n *node) inlineAt(target, directory string, change func(*volume.PublishRequest)) error {
	return n.publish(target, func(r *volume.PublishRequest) {
		r.ID, r.Location = "csi-"+target, volume.Location{}
		r.Inline = &volume.Inline{Share: "nas1", Directory: directory, Pod: "team/" + target}
		if change != nil {
			change(r)
		}
	})
}

func (n *node) unpublishInline(target string) error {
	return n.Pods.Unpublish(context.Background(), "csi-"+target, n.at("pods/"+target))
}

// notes returns the records of inline volumes.
func (n *node) notes() []inlineNote {
	n.Helper()
	notes, err := readAll[inlineNote](n.Inlines.state, inlinePrefix)
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
		t.Fatalf("%d requests", len(n.inlines))
	}
	r := n.inlines[0]
	if r.Key != "csi-a" || r.Server != "10.0.0.1" || r.ReadOnly || r.Target != n.at("pods/a") || !slices.Contains(r.Options, context[0]) || !slices.Contains(r.Options, "nfsvers=4.2") {
		t.Errorf("request = %+v", r)
	}
	if notes := n.notes(); len(notes) != 1 || notes[0] != (inlineNote{ID: "csi-a", Target: n.at("pods/a"), Share: "nas1", Key: "csi-a"}) {
		t.Errorf("records = %+v", notes)
	}
	n.must(n.unpublishInline("a"))
	if r := n.inlines[len(n.inlines)-1]; r.Target != "" || r.Key != "csi-a" || !slices.Contains(r.Options, "nosharecache") {
		t.Errorf("request to remove = %+v", r)
	}
	if notes := n.notes(); len(notes) > 0 {
		t.Errorf("records after the removal = %+v", notes)
	}
	n.absent("pods/a")
	n.must(n.unpublishInline("a"))
	if len(n.inlines) != 2 {
		t.Errorf("%d requests", len(n.inlines))
	}
}

// TestInlineExisting mounts an existing directory, which has no record.
func TestInlineExisting(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "v1", func(r *volume.PublishRequest) { r.ReadOnly = true }))
	if r := n.inlines[0]; r.Key != "" || r.Directory != "v1" || !r.ReadOnly {
		t.Errorf("request = %+v", r)
	}
	if notes := n.notes(); len(notes) > 0 {
		t.Errorf("records = %+v", notes)
	}
	n.refused("read-write now", n.inlineAt("a", "v1", nil), volume.ErrExists)
	n.refused("another directory now", n.inlineAt("a", "v2", func(r *volume.PublishRequest) { r.ReadOnly = true }), volume.ErrExists)
	n.must(n.unpublishInline("a"))
	if len(n.inlines) != 1 {
		t.Errorf("request for a directory that is not ours: %+v", n.inlines)
	}
}

// TestInlineShareDown stops the share: pods do not start, and pods that run can end.
func TestInlineShareDown(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "", nil))
	n.inlineDo = volume.Errorf(volume.ErrUnavailable, "it is down")
	n.refused("publish", n.inlineAt("b", "", nil), volume.ErrUnavailable)
	n.must(n.unpublishInline("a"))
	n.must(n.unpublishInline("b"))
	n.probes.servers["10.0.0.1:2049"] = volume.Errorf(volume.ErrUnavailable, "the server is down")
	n.refused("publish", n.inlineAt("c", "", nil), volume.ErrUnavailable) // without a record
	delete(n.probes.servers, "10.0.0.1:2049")
	for _, note := range n.notes() {
		if !note.Left {
			t.Errorf("not marked for removal: %+v", note)
		}
	}
	n.absent("pods/a")
	n.Inlines.tidyOnce(context.Background(), nil)
	if got := n.notes(); len(got) != 2 {
		t.Fatalf("records = %+v", got)
	}
	n.inlineDo = nil
	s := n.service(n.mounter) // after a restart
	s.Inlines.tidyOnce(context.Background(), nil)
	if notes := n.notes(); len(notes) > 0 {
		t.Errorf("records after the removal = %+v", notes)
	}
}

// TestInlineShareRemoved removes a share from the configuration while it has the directory of a pod that is gone:
// that is logged once, and again when the reason changes.
func TestInlineShareRemoved(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "", nil))
	registered := n.registry.Shares
	n.registry.Shares = nil
	n.must(n.unpublishInline("a"))
	n.absent("pods/a")
	log := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	said := log.GetSink().(ktesting.Underlier).GetBuffer()
	var reasons map[string]string
	want := func(errors int, words string) {
		t.Helper()
		reasons = n.Inlines.tidyOnce(klog.NewContext(t.Context(), log), reasons)
		if text := said.String(); strings.Count(text, "Cannot remove the directory") != errors || !strings.Contains(text, words) {
			t.Errorf("logged is\n%s", text)
		}
	}
	want(1, "not in Mooring's configuration")
	want(1, "")
	n.registry.Shares = registered
	n.inlineDo = volume.Errorf(volume.ErrUnavailable, "it is down")
	want(2, "it is down")
	n.inlineDo = nil
	want(2, "")
	if notes := n.notes(); len(notes)+len(reasons) > 0 {
		t.Errorf("records after the removal = %+v, reasons = %v", notes, reasons)
	}
}

// TestInlineStateDamaged ends pods while the state directory is full, damaged or gone.
func TestInlineStateDamaged(t *testing.T) {
	n := newInlineNode(t)
	for _, pod := range []string{"a", "b", "c"} {
		n.must(n.inlineAt(pod, "", nil))
	}
	n.must(n.mounter.Unmount(context.Background(), n.at("pods/a")))
	n.Inlines.unsaved.Store(n.at("pods/a"), true) // as when the disk is full
	n.Inlines.tidyOnce(context.Background(), nil)
	if r := n.inlines[len(n.inlines)-1]; r.Target != "" || r.Key != "csi-a" || len(n.notes()) != 2 {
		t.Errorf("last request = %+v, records = %+v", r, n.notes())
	}
	n.must(os.WriteFile(n.at("state/"+fileName(inlinePrefix, n.at("pods/b"))), nil, 0o600))
	n.must(n.unpublishInline("b"))
	n.absent("pods/b")
	n.must(os.RemoveAll(n.at("state")))
	n.must(n.unpublishInline("c"))
	n.absent("pods/c")
}

// TestAnswerLost makes an attempt mount the directory and fail, so that the record says that the pod is
// gone: the retry corrects that.
func TestAnswerLost(t *testing.T) {
	n := newInlineNode(t)
	n.inlineDo = volume.Errorf(volume.ErrUnavailable, "the answer is lost")
	n.refused("publish", n.inlineAt("a", "", nil), volume.ErrUnavailable)
	n.inlineDo = nil
	n.must(n.do(context.Background(), n.inlines[0]))
	n.must(n.inlineAt("a", "", nil))
	n.must(n.mounter.Unmount(context.Background(), n.at("pods/a"))) // the machine restarts
	before := len(n.inlines)
	n.Inlines.tidyOnce(context.Background(), nil)
	if len(n.inlines) != before {
		t.Errorf("request to remove the directory of a running pod: %+v", n.inlines[before:])
	}
}

// TestTidySkips checks that Tidy skips the directories of running pods, and locked ones.
func TestTidySkips(t *testing.T) {
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
	n.Inlines.tidyOnce(context.Background(), nil)
	if len(n.inlines) != before || len(n.notes()) != 3 {
		t.Errorf("requests = %+v, records = %+v", n.inlines[before:], n.notes())
	}
	unlock()
	n.Inlines.tidyOnce(context.Background(), nil)
	if got := n.inlines[before:]; len(got) != 1 || got[0].Key != "csi-locked" || len(n.notes()) != 2 {
		t.Errorf("requests = %+v, records = %+v", got, n.notes())
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
		"a file as target":    {func(r *volume.PublishRequest) { r.Target = n.at("pods/file") }, volume.ErrPrecondition},
		"a relative target":   {func(r *volume.PublishRequest) { r.Target = "pods/x" }, volume.ErrInvalid},
		"no parent directory": {func(r *volume.PublishRequest) { r.Target = n.at("none/x") }, volume.ErrPrecondition},
	} {
		n.refused(what, n.inlineAt("x", "", c.change), c.kind)
	}
	if len(n.inlines) > 0 || len(n.notes()) > 0 {
		t.Errorf("requests = %+v, records = %+v", n.inlines, n.notes())
	}
}

// TestStateDamaged damages one record: the error names it, and the others are used.
func TestStateDamaged(t *testing.T) {
	n := newInlineNode(t)
	n.must(n.inlineAt("a", "", nil))
	n.must(os.WriteFile(n.at("state/"+inlinePrefix+"00.json"), []byte("{"), 0o600))
	notes, err := readAll[inlineNote](n.Inlines.state, inlinePrefix)
	if len(notes) != 1 || err == nil || !strings.Contains(err.Error(), inlinePrefix+"00.json") {
		t.Errorf("records = %+v, error = %v", notes, err)
	}
	n.must(os.WriteFile(n.at("state/.new-half"), []byte("{"), 0o600))
	n.service(n.mounter)
	n.absent("state/.new-half")
	n.must(os.RemoveAll(n.at("state")))
	if err := n.Inlines.state.put(inlinePrefix, "/x", notes[0]); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("put without a directory: %v", err)
	}
	if files, _ := filepath.Glob(n.at("state/*")); len(files) > 0 {
		t.Errorf("files = %q, want none", files)
	}
}
