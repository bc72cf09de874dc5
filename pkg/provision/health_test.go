// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// TestServerDies has a server die under an operation: the caller hears soon, and whoever comes
// next is told to wait until the operation has really ended.
func TestServerDies(t *testing.T) {
	o, err := open(t.TempDir(), share.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.share.Close()
	synctest.Test(t, func(t *testing.T) {
		s := New(o, o, nil, noFault)
		h := volume.Handle{Share: "nas1", Key: "pvc-1"}
		stuck, ended := make(chan struct{}), make(chan struct{})
		hang := func(context.Context, *share.Share) (int, error) {
			<-stuck
			defer close(ended)
			return 1, nil
		}
		o.dies = volume.Errorf(volume.ErrUnavailable, "share nas1 (10.0.0.1:/export): the server 10.0.0.1 does not answer")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := onVolume(ctx, s.Volumes.access, h, nil, hang)
		took := time.Since(start)
		if volume.Kind(err) != volume.ErrUnavailable || took != 10*time.Second+bounded.Grace ||
			!strings.Contains(err.Error(), "pvc-1") || !strings.Contains(err.Error(), "10.0.0.1 does not answer") || strings.Count(err.Error(), "nas1") != 1 {
			t.Errorf("after %v the error is %v", took, err)
		}
		o.dies = nil
		if _, err := onVolume(ctx, s.Volumes.access, h, nil, hang); volume.Kind(err) != volume.ErrBusy {
			t.Errorf("a retry overtakes what is under way: %v", err)
		}
		close(stuck)
		<-ended
		synctest.Wait()
		got, err := onVolume(ctx, s.Volumes.access, h, nil, func(context.Context, *share.Share) (int, error) { return 2, nil })
		if got != 2 || err != nil {
			t.Errorf("later it is %v, %v", got, err)
		}
	})
}

// unwell lists what has something wrong with it, page by page.
func unwell(t *testing.T, s *Service, most int) (all []string) {
	t.Helper()
	p := volume.Page{Max: most}
	for {
		found, next, err := s.Health.List(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range found {
			for _, c := range h.Conditions {
				all = append(all, h.Handle.Key+" "+string(c.Reason))
				if c.Severity == 0 || c.Message == "" {
					t.Errorf("this says too little: %+v", c)
				}
			}
		}
		if p.Token = next; next == "" {
			return all
		}
	}
}

// gone is a Shares whose share cannot be opened any more.
type gone struct {
	*one
	err error
}

func (g *gone) Open(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	if g.err != nil {
		return nil, nil, g.err
	}
	return g.one.Open(ctx, name, options)
}

// TestHealthOfDisk has the disk of a share fail.
func TestHealthOfDisk(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	o, err := open(dir, share.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.share.Close()
	shares, fault := &gone{one: o}, volume.Condition{}
	s := New(shares, o, nil, func(name string) volume.Condition {
		if name != "nas1" {
			t.Errorf("asked is of %q", name)
		}
		return fault
	})
	for _, key := range []string{"pvc-a", "pvc-b"} {
		if _, err := s.Volumes.Create(ctx, volume.CreateRequest{Name: key, Params: volume.Params{Shares: []string{"nas1"}}}); err != nil {
			t.Fatal(err)
		}
	}
	h := volume.Handle{Share: "nas1", Key: "pvc-a"}
	want := func(c volume.Condition) {
		t.Helper()
		if got, err := s.Health.Volume(ctx, h); err != nil || len(got) != 1 || got[0] != c {
			t.Errorf("it is %+v, %v, want %+v", got, err, c)
		}
		if got, both := unwell(t, s, 0), []string{"pvc-a " + string(c.Reason), "pvc-b " + string(c.Reason)}; !slices.Equal(got, both) {
			t.Errorf("not well are %q", got)
		}
	}
	for _, reason := range []volume.Reason{volume.ReadOnlyServer, volume.DiskFailing, volume.ShareFull} {
		fault = volume.Condition{Severity: volume.Degraded, Reason: reason, Message: "told by the watcher"}
		want(fault)
	}
	fault = volume.Condition{}
	if all := unwell(t, s, 0); all != nil {
		t.Errorf("not well are %q", all)
	}
	for errno, reason := range map[unix.Errno]volume.Reason{unix.EIO: volume.DiskFailing, unix.EROFS: volume.ReadOnlyServer} {
		shares.err = o.share.WrapError("open it", errno)
		want(volume.Condition{Severity: volume.Inaccessible, Reason: reason, Message: shares.err.Error()})
	}
}

func TestHealth(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	o, err := open(dir, share.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.share.Close()
	shares := &gone{one: o}
	s := New(shares, o, nil, noFault)
	for _, key := range []string{"pvc-a", "pvc-b", "pvc-c", "pvc-d"} {
		if _, err := s.Volumes.Create(ctx, volume.CreateRequest{Name: key, Params: volume.Params{Shares: []string{"nas1"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if all := unwell(t, s, 0); all != nil {
		t.Errorf("not well are %q", all)
	}
	for _, name := range []string{"pvc-a", "pvc-b"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "pvc-b")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, volume.StateDir, "volumes/pvc-c/record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]volume.Reason{"pvc-a": volume.DirectoryMissing, "pvc-b": volume.DirectoryMissing, "pvc-c": volume.RecordDamaged, "pvc-d": ""} {
		conditions, err := s.Health.Volume(ctx, volume.Handle{Share: "nas1", Key: key})
		if err != nil || (want == "") != (conditions == nil) || want != "" && conditions[0].Reason != want {
			t.Errorf("%s is %+v, %v", key, conditions, err)
		}
	}
	if _, err := s.Health.Volume(ctx, volume.Handle{Share: "nas1", Key: "pvc-z"}); volume.Kind(err) != volume.ErrNotFound {
		t.Errorf("of a volume that is not there: %v", err)
	}
	want := []string{"pvc-a DirectoryMissing", "pvc-b DirectoryMissing", "pvc-c RecordDamaged"}
	for most := range 4 {
		if all := unwell(t, s, most); !slices.Equal(all, want) {
			t.Errorf("in pages of %d there are %q", most, all)
		}
	}
	shares.err = volume.Errorf(volume.ErrUnavailable, "it is away")
	if c, err := s.Health.Volume(ctx, volume.Handle{Share: "nas1", Key: "pvc-d"}); err != nil || len(c) != 1 || c[0].Reason != volume.ServerUnreachable {
		t.Errorf("of a share that is away: %+v, %v", c, err)
	}
	for most := range 3 { // what was known of it
		if all := unwell(t, s, most); len(all) != 4 || !strings.Contains(strings.Join(all, ","), "pvc-d ServerUnreachable") {
			t.Errorf("in pages of %d there are %q", most, all)
		}
	}
	for want, err := range map[volume.Reason]error{
		volume.ShareUnusable: volume.Errorf(volume.ErrPrecondition, "another share"), volume.AccessDenied: volume.Errorf(volume.ErrRefused, "denied"),
	} {
		shares.err = err
		if c, err := s.Health.Volume(ctx, volume.Handle{Share: "nas1", Key: "pvc-d"}); err != nil || len(c) != 1 || c[0].Reason != want {
			t.Errorf("the condition is %+v, %v, want %s", c, err, want)
		}
	}
	shares.err = volume.Errorf(volume.ErrPrecondition, "unknown")
	if c, err := s.Health.Volume(ctx, volume.Handle{Share: "nas9", Key: "pvc-d"}); err != nil || len(c) != 1 || c[0].Reason != volume.ShareNotRegistered {
		t.Errorf("of a share that is not registered: %+v, %v", c, err)
	}
	if _, _, err := s.Health.List(ctx, volume.Page{Token: "no token"}); volume.Kind(err) != volume.ErrBusy {
		t.Errorf("the error is %v", err)
	}
	o.def.Name = "nas2" // nas1 was removed
	unwell(t, s, 0)
	if keys, kept := s.Health.known.Load("nas1"); kept {
		t.Errorf("kept of a share that was removed are %v", keys)
	}
}
