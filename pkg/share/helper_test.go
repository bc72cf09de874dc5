// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// The instances of the driver in these tests.
const (
	maker      = "0a1b2c3d"
	otherMaker = "ffffffff"
)

// expiredLease is a lease that has always expired.
const expiredLease = -time.Second

var nas1 = volume.Share{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/export", TrashRetention: time.Hour}

// testShare is a share as one process has it open.
type testShare struct {
	files
	*Share
}

// openTestShare opens the share at dir, and lays it out if it is empty.
func openTestShare(t *testing.T, dir string, opt Options) *testShare {
	t.Helper()
	opt.Initialize = true
	s, err := Open(dir, nas1, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &testShare{files: files{T: t, view: localView(dir)}, Share: s}
}

// scratchDir makes a new directory, in memory if possible: many of these tests call fsync(2) thousands of
// times. In the lab, which is for tests on NFS, these tests are skipped.
func scratchDir(t *testing.T) string {
	t.Helper()
	if os.Getenv("MOORING_LAB") != "" {
		t.Skip("it needs no NFS server: make unit has run it")
	}
	dir, err := os.MkdirTemp("/dev/shm", "mooring-share-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newTestShare makes an empty share.
func newTestShare(t *testing.T) *testShare {
	t.Helper()
	return openTestShare(t, scratchDir(t), Options{Maker: maker})
}

// withExpiredLease opens the share as another instance, for which every lease has expired.
func (g *testShare) withExpiredLease() *testShare {
	g.Helper()
	return openTestShare(g.T, g.dir, Options{Maker: otherMaker, Lease: expiredLease})
}

// nextRun opens the share as the next run of the same instance.
func (g *testShare) nextRun() *testShare {
	g.Helper()
	return openTestShare(g.T, g.dir, Options{Maker: g.opt.Maker})
}

// wantError fails the test unless err has that kind, names the share once, and contains all parts.
func (g *testShare) wantError(what string, err, kind error, parts ...string) {
	g.Helper()
	if err == nil || volume.Kind(err) != kind {
		g.Errorf("%s%s: the error is %v (of kind %v), want kind %v", g.label, what, err, volume.Kind(err), kind)
		return
	}
	if n := strings.Count(err.Error(), "share nas1 (10.0.0.1:/export)"); n != 1 {
		g.Errorf("%s%s: the share is named %d times in %v", g.label, what, n, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			g.Errorf("%s%s: %q is not in %v", g.label, what, part, err)
		}
	}
}

// record returns the record of a volume to create.
func record(key, directory string) volume.Record {
	return volume.Record{Key: key, Name: key, Directory: directory, OnDelete: volume.Delete, Created: time.Unix(1, 0).UTC()}
}

// shallowRecord returns the record of a volume that is a snapshot itself.
func shallowRecord(key, snapshot string) volume.Record {
	r := record(key, volume.SnapshotDirectory(snapshot))
	r.Source, r.Shallow = sourceOf(snapshotObject(snapshot)), true
	return r
}

func volumeObject(key string) volume.Object {
	return volume.Object{Kind: volume.ObjectVolume, Key: key}
}
func snapshotObject(key string) volume.Object {
	return volume.Object{Kind: volume.ObjectSnapshot, Key: key}
}
func sourceOf(of volume.Object) *volume.Source {
	return &volume.Source{Object: of, Share: nas1.Name}
}

// source returns the source of a volume as a string.
func source(s *volume.Source) string {
	if s == nil {
		return ""
	}
	return s.String()
}

// begin makes the entry of a volume.
func (g *testShare) begin(r volume.Record) *Pending {
	g.Helper()
	p, found, err := g.Volumes.Begin(g.Context(), r)
	if err != nil || found != nil {
		g.Fatalf("%sbegin %s: %+v, %v", g.label, r.Key, found, err)
	}
	return p
}

// make creates a volume as package provision does: it first undoes an unfinished creation.
func (g *testShare) make(r volume.Record) (*volume.Record, error) {
	for range retries {
		p, found, err := g.Volumes.Begin(g.Context(), r)
		switch {
		case err != nil:
			return nil, err
		case p != nil:
			made, err := g.fill(p)
			if err != nil {
				return nil, p.Fail(g.Context(), err)
			}
			return made, nil
		case found.State == Ready && source(found.Source) != source(r.Source):
			return nil, volume.Errorf(volume.ErrExists, "share %s: it is another", g.def)
		case found.State == Ready:
			return &found.Record, nil
		case found.State == Deleting:
			return nil, busy("it is being deleted")
		}
		if err := g.Volumes.AbortAbandoned(g.Context(), found); err != nil {
			return nil, err
		}
	}
	return nil, busy("again and again")
}

// fill does the remaining steps of a creation.
func (g *testShare) fill(p *Pending) (*volume.Record, error) {
	ctx := g.Context()
	if p.rec.Shallow {
		if err := p.UseSnapshot(ctx); err != nil {
			return nil, err
		}
		return p.Commit(ctx)
	}
	if err := p.MakeDirectory(ctx); err != nil {
		return nil, err
	}
	if p.rec.Source == nil {
		return p.Commit(ctx)
	}
	c, err := p.BeginCopy(ctx, g.Share)
	for {
		if err == nil {
			err = g.copy(c)
		}
		if err != nil {
			return nil, err
		}
		var made *volume.Record
		if made, c, err = p.CommitCopy(ctx); c == nil {
			return made, err
		}
	}
}

// copy copies what a test needs: the file "data", to a file "copy".
func (g *testShare) copy(c *CopyJob) error {
	from, to := c.Trees()
	g.step("copy")
	name := "data"
	if c.inPlace || c.Snapshot() != nil || c.Volume() != nil && c.Volume().Shallow {
		name = "copy"
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s", from, name))
	if err == nil {
		g.step("write the copy")
		err = os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/copy", to), data, 0o644)
	}
	if isMissing(err) { // the source, or the target, is gone
		err = volume.Errorf(volume.ErrBusy, "share %s: %w", g.def, err)
	}
	return err
}

// create makes a volume.
func (g *testShare) create(key, directory string) *volume.Record {
	g.Helper()
	r, err := g.make(record(key, directory))
	g.must(err)
	return r
}

// trySnapshot makes a snapshot of a volume, for a group if group is not nil.
func (g *testShare) trySnapshot(key, of string, group *Group) (*volume.SnapshotRecord, error) {
	r := volume.SnapshotRecord{Key: key, Name: key, Volume: of}
	if group != nil {
		r.Group, r.GroupNonce = group.Key, group.Nonce
	}
	p, found, err := g.Snapshots.Begin(g.Context(), r)
	if found != nil && found.Volume != of {
		return nil, volume.Errorf(volume.ErrExists, "share %s: it is another", g.def)
	}
	if err != nil || found != nil {
		return found, err
	}
	c, err := p.BeginCopy(g.Context(), g.Share)
	if err == nil {
		err = g.copy(c)
	}
	if err == nil {
		var made *volume.SnapshotRecord
		if made, err = p.Commit(g.Context(), time.Unix(1, 0).UTC(), 7, true); err == nil {
			return made, nil
		}
	}
	if !IsTransient(err) {
		_ = p.Abort()
	}
	p.Close()
	return nil, err
}

// snapshot makes a snapshot of a volume.
func (g *testShare) snapshot(key, of string) *volume.SnapshotRecord {
	g.Helper()
	r, err := g.trySnapshot(key, of, nil)
	g.must(err)
	return r
}

// groupRecord returns the record of a group of two snapshots.
func groupRecord(key string) volume.GroupRecord {
	return volume.GroupRecord{Key: key, Name: key, Created: time.Unix(1, 0).UTC(), Members: []volume.Member{{Snapshot: "s1", Volume: "v1"}, {Snapshot: "s2", Volume: "v2"}}}
}

// createGroup makes a group and its snapshots.
func (g *testShare) createGroup(key string) (*Group, error) {
	r, err := g.Groups.Begin(g.Context(), groupRecord(key))
	if err != nil || r.State == Ready {
		return r, err
	}
	for _, m := range r.Members {
		if _, err := g.trySnapshot(m.Snapshot, m.Volume, r); err != nil {
			return nil, err
		}
	}
	return r, g.Groups.Commit(g.Context(), r)
}

// delete deletes a volume.
func (g *testShare) delete(key string) *TrashEntry {
	g.Helper()
	t, err := g.Volumes.Delete(g.Context(), key)
	g.must(err)
	return t
}

// createDeleted creates a volume with a file in it, deletes it, and returns its entry in the trash.
func (g *testShare) createDeleted(key, directory string) TrashEntry {
	g.Helper()
	g.create(key, directory)
	g.put(directory+"/data", "of "+key)
	return *g.delete(key)
}

// remove removes a tree as package copytree does.
func (g *testShare) remove(dir int, name string) error {
	at := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	if name != "." {
		return os.RemoveAll(at)
	}
	entries, err := os.ReadDir(at)
	for _, e := range entries {
		g.step("remove a file")
		err = errors.Join(err, os.RemoveAll(at+"/"+e.Name()))
	}
	if isMissing(err) { // another process was first
		err = nil
	}
	return err
}

// purge purges everything in the trash.
func (g *testShare) purge() error {
	all, err := g.Trash.List(g.Context())
	for _, e := range all {
		err = errors.Join(err, g.Trash.Purge(e, g.remove))
	}
	return err
}

// beforeStep calls do once, before the step of that name.
func (g *testShare) beforeStep(what string, do func()) {
	g.opt.Step = func(step string) {
		if step == what {
			g.opt.Step = nil
			do()
		}
	}
}

// state returns the state of a volume, or -1 if there is none.
func (g *testShare) state(key string) State {
	r, err := g.Volumes.Lookup(g.Context(), key)
	if err != nil {
		return -1
	}
	return r.State
}

// clearShare deletes everything on the share, purges the trash, tidies, and sweeps what dead processes have
// left. It returns what remains.
func clearShare(g *testShare) (left []string) {
	g.Helper()
	var errs []error
	for range retries {
		if errs = clearOnce(g); len(errs) == 0 {
			break
		}
	}
	for _, err := range errs {
		left = append(left, err.Error())
	}
	for _, name := range g.names(".mooring/staging") {
		g.age(".mooring/staging/"+name, staleTempAge+time.Minute)
	}
	g.must(g.sweepStaging())
	for _, p := range g.tree() {
		if p == ".mooring/" || p == ".mooring/"+formatFile || p == ".mooring/"+idFile || p == ".mooring/"+heartbeatFile || p == ".mooring/inline/" {
			continue
		}
		if own, ok := strings.CutPrefix(strings.TrimSuffix(p, "/"), ".mooring/"); ok && g.directories()[own] != nil {
			continue
		}
		left = append(left, p)
	}
	return left
}

func clearOnce(g *testShare) (errs []error) {
	ctx := g.Context()
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	groups, err := g.Groups.Keys(ctx)
	note(err)
	for _, key := range groups {
		_, err := g.Groups.Delete(ctx, key, nil)
		note(err)
	}
	volumes, err := g.Volumes.Keys(ctx)
	note(err)
	for _, key := range volumes {
		_, err := g.Volumes.Delete(ctx, key)
		note(err)
	}
	snapshots, err := g.Snapshots.Keys(ctx)
	note(err)
	for _, key := range snapshots {
		_, err := g.Snapshots.Delete(ctx, key, nil)
		note(err)
	}
	_, err = g.Jobs.Abandoned(ctx)
	note(err)
	note(g.purge())
	for range 3 { // first the directories in a parent, then the parent
		note(g.Tidy(ctx, 0))
	}
	return errs
}

var (
	nonces = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
	ids    = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	dates  = regexp.MustCompile(`\.\d{9,}\.\d{9,}\.json`)
	makers = regexp.MustCompile(`"(maker|run|created|deleted|due)": "[^"]*"`)
)

// listing lists everything on the share, with modes and contents, and without what differs between runs.
func (f *files) listing() (all []string) {
	f.Helper()
	for _, p := range f.tree() {
		info, err := os.Lstat(f.at(p))
		f.must(err)
		line := p + " " + info.Mode().String()
		if info.Mode().IsRegular() {
			line += " " + f.text(p)
		}
		line = ids.ReplaceAllString(nonces.ReplaceAllString(line, "NONCE"), "ID")
		line = dates.ReplaceAllString(line, ".DATES.json")
		all = append(all, makers.ReplaceAllString(line, `"$1"`))
	}
	slices.Sort(all)
	return all
}

// diffLines returns the lines in which two pictures differ.
func diffLines(got, want []string) string {
	var lines []string
	for _, l := range got {
		if !slices.Contains(want, l) {
			lines = append(lines, "+ "+l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			lines = append(lines, "- "+l)
		}
	}
	return strings.Join(lines, "\n")
}
