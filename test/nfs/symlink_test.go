// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// prey makes what links lead to: a volume with data, and a directory beside the share.
func prey(t *testing.T, s *site) (outside string) {
	t.Helper()
	s.mustCreate("pvc-victim", "victim")
	outside = s.path + "-outside"
	for _, dir := range []string{s.at("victim"), outside} {
		write(t, dir+"/data", "precious")
		write(t, dir+"/x/data", "precious too")
		symlink(t, "data", dir+"/link")
	}
	if err := os.Chown(s.at("victim/x"), 4711, 4712); err != nil {
		t.Fatal(err)
	}
	return outside
}

// linkTargets are the targets that a tenant may choose, as seen from the share's root.
func linkTargets(s *site, outside, tenant string) map[string]string {
	return map[string]string{
		"another volume's":           "victim",
		"another volume's, absolute": s.path + "/victim",
		"out of the share":           "../" + filepath.Base(outside),
		"out of the share, absolute": outside,
		"etc":                        "/etc",
		"the root":                   "../../../../../../..",
		"the share":                  ".",
		"Mooring's own":              ".mooring/volumes",
		"itself":                     tenant,
		"nothing":                    "missing",
	}
}

// TestPlantedLinks has a link in the place of a new volume's directory, or of a parent of it.
func TestPlantedLinks(t *testing.T) {
	s := newSite(t, noCache)
	outside := prey(t, s)
	mkdir(t, s.at("dir"))
	n := 0
	for name, target := range linkTargets(s, outside, "tenant") {
		for _, pattern := range []string{"*", "*/x", "*/x/y/z", "dir/*/x", "dir/*"} {
			for _, existing := range []string{"refuse", "adopt"} {
				n++ // a name that was a parent a moment ago cannot be a volume's yet
				subDir := strings.Replace(pattern, "*", fmt.Sprintf("tenant%d", n), 1)
				where := strings.TrimSuffix(strings.TrimSuffix(subDir, "/y/z"), "/x")
				t.Run(fmt.Sprintf("%s, %s, %s", name, pattern, existing), func(t *testing.T) {
					symlink(t, target, s.at(where))
					unchanged(t, outside, func() {
						unchanged(t, s.export, func() {
							_, err := s.create("pvc-1", params{"subDir": subDir, "existingDirectory": existing, "uid": "1234", "mountPermissions": "0777"})
							wantCode(t, err, codes.FailedPrecondition, "nas1 (127.0.0.1:"+s.path+")", fmt.Sprintf("%q", subDir), "symbolic link", "remove it on the server")
						})
					})
					if err := os.Remove(s.at(where)); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
	s.mustDelete("nas1/pvc-victim")
	s.empty("dir")
}

// TestLinksBeforeDelete has a link in the place of a volume's directory, or of its parent, when
// the volume is deleted.
func TestLinksBeforeDelete(t *testing.T) {
	for _, onDelete := range []string{"delete", "archive", "retain"} {
		t.Run(onDelete, func(t *testing.T) {
			s := newSite(t, noCache)
			outside := prey(t, s)
			refused := 0
			for name, target := range linkTargets(s, outside, "tenant") {
				t.Run(name, func(t *testing.T) { refused += deleteBelowLink(t, s, onDelete, target, outside) })
				t.Run(name+", own", func(t *testing.T) { deleteLink(t, s, onDelete, target, outside) })
			}
			if refused == 0 && onDelete != "retain" { // which leaves the directory alone, wherever it is
				t.Error("no deletion met the link")
			}
		})
	}
}

// deleteBelowLink deletes a volume whose parent has been moved away, with a link in its place.
// It returns 1 where that was refused. It is no fault if it was not: then the controller knew
// the right directory from before.
func deleteBelowLink(t *testing.T, s *site, onDelete, target, outside string) (refused int) {
	eventually(t, patience, "the volume is made", func() bool { // the parent went behind the controller's back
		_, err := s.create("pvc-1", params{"subDir": "tenant/x", "onDelete": onDelete})
		return err == nil
	})
	v := s.mustCreate("pvc-1", "tenant/x", "onDelete", onDelete)
	write(t, s.at("tenant/x/data"), "of the tenant")
	rename(t, s.at("tenant"), s.at("moved"))
	symlink(t, target, s.at("tenant"))
	unchanged(t, outside, func() {
		unchanged(t, s.at("victim"), func() {
			before := tree(t, s.export)
			err := s.delete(v.VolumeId)
			if err == nil {
				return
			}
			refused = 1
			wantCode(t, err, codes.FailedPrecondition, "pvc-1", "nas1 (127.0.0.1:"+s.path+")", "symbolic link", "remove it on the server")
			// It is marked, and the retry goes on.
			before[".mooring/volumes/pvc-1/deletion"] = before[".mooring/volumes/pvc-1/record.json"]
			delete(before, ".mooring/volumes/pvc-1/record.json")
			if d := differences(before, tree(t, s.export)); d != nil {
				t.Errorf("the share was changed: %q", d)
			}
		})
	})
	if refused == 1 {
		if err := os.Remove(s.at("tenant")); err != nil {
			t.Fatal(err)
		}
		rename(t, s.at("moved"), s.at("tenant"))
	}
	s.mustDelete(v.VolumeId)
	purged(t, s)
	for _, name := range []string{"tenant", "moved"} {
		if err := os.RemoveAll(s.at(name)); err != nil {
			t.Fatal(err)
		}
	}
	return refused
}

// deleteLink deletes a volume that is a link by now.
func deleteLink(t *testing.T, s *site, onDelete, target, outside string) {
	v := s.mustCreate("pvc-1", "own", "onDelete", onDelete)
	write(t, s.at("own/data"), "of the tenant")
	rename(t, s.at("own"), s.at("moved"))
	symlink(t, target, s.at("own"))
	unchanged(t, outside, func() {
		unchanged(t, s.at("victim"), func() {
			s.mustDelete(v.VolumeId)
			if onDelete == "archive" { // which is of directories: the link waits for somebody to decide
				for _, name := range inTrash(t, s) {
					if got, err := os.Readlink(s.at(".mooring/trash", name)); err != nil || got != target {
						t.Errorf("%s in the trash is a link to %q (%v)", name, got, err)
					}
					if err := os.Remove(s.at(".mooring/trash", name)); err != nil {
						t.Error(err)
					}
				}
			}
			purged(t, s)
		})
	})
	for _, name := range []string{"moved", "own", "archived-own"} {
		if err := os.RemoveAll(s.at(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// purged waits until nothing is in the trash.
func purged(t *testing.T, s *site) {
	t.Helper()
	eventually(t, patience, "the trash is purged", func() bool { return len(inTrash(t, s)) == 0 })
}

// TestLinksDuringCreateAndDelete exchanges directories and links all the time, while volumes are
// made in those directories and deleted.
func TestLinksDuringCreateAndDelete(t *testing.T) {
	s := newSite(t, noCache)
	outside := prey(t, s)
	const tenants = 12
	targets := []string{"victim", s.path + "/victim", "../" + filepath.Base(outside), outside}
	for i := range tenants {
		mkdir(t, s.at(fmt.Sprintf("tenant%d", i)))
		symlink(t, targets[i%len(targets)], s.at(fmt.Sprintf("tenant%d.link", i)))
	}
	victims := func(do func()) {
		unchanged(t, outside, func() { unchanged(t, s.at("victim"), func() { unchanged(t, s.at(".mooring/claims/victim"), do) }) })
	}
	victims(func() {
		stop := exchange(t, s.export, tenants)
		var tally [2]tally
		var all sync.WaitGroup
		enough := time.Now().Add(patience)
		for i := range tenants {
			all.Go(func() {
				name := fmt.Sprintf("pvc-%d", i)
				for time.Now().Before(enough) && !(tally[0].seen(20) && tally[1].seen(5)) {
					_, err := s.create(name, params{"subDir": fmt.Sprintf("tenant%d/x", i), "uid": "1234", "mountPermissions": "0707"})
					tally[0].count(t, "create", err)
					// Aborted is what a creation is told as long as a refused deletion is not tried again.
					if err == nil || status.Code(err) == codes.Aborted {
						tally[1].count(t, "delete", s.delete("nas1/"+name))
					}
				}
			})
		}
		all.Wait()
		stop()
		t.Logf("create: %v; delete: %v", &tally[0], &tally[1])
		if !tally[0].seen(20) || !tally[1].seen(5) {
			t.Errorf("create: %v; delete: %v: too few of either", &tally[0], &tally[1])
		}
		// With the directories back in their places everything is made and deleted again.
		for i := range tenants {
			name := fmt.Sprintf("pvc-%d", i)
			deleteAtLast(t, s, name)
			createAtLast(t, s, name, params{"subDir": fmt.Sprintf("tenant%d/x", i), "uid": "1234", "mountPermissions": "0707"})
			s.mustDelete("nas1/" + name)
			if err := os.Remove(s.at(fmt.Sprintf("tenant%d.link", i))); err != nil {
				t.Error(err)
			}
		}
	})
	s.mustDelete("nas1/pvc-victim")
	var left []string
	for i := range tenants {
		left = append(left, fmt.Sprintf("tenant%d", i))
	}
	s.empty(left...)
}

// createAtLast creates a volume as a provisioner does, by trying again: the client may still show
// the link that has gone (share.doubt), but not for long.
func createAtLast(t *testing.T, s *site, name string, p params) {
	t.Helper()
	eventually(t, patience, name+" is created", func() bool {
		_, err := s.create(name, p)
		if err != nil {
			wantCode(t, err, codes.FailedPrecondition, "symbolic link")
		}
		return err == nil
	})
}

// deleteAtLast is the same for the deletion of a volume that may be there.
func deleteAtLast(t *testing.T, s *site, name string) {
	t.Helper()
	eventually(t, patience, name+" is deleted", func() bool {
		err := s.delete("nas1/" + name)
		if err != nil {
			wantCode(t, err, codes.FailedPrecondition, "symbolic link")
		}
		return err == nil
	})
}

// exchange swaps the directories and links of all tenants, again and again, until it is
// stopped; then the directories are back in their places.
func exchange(t *testing.T, export string, tenants int) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for even := true; ; even = !even {
			for i := range tenants {
				name := fmt.Sprintf("%s/tenant%d", export, i)
				if err := unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, name+".link", unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
				}
				time.Sleep(50 * time.Microsecond) // the one CPU is for others too
			}
			select {
			case <-quit:
				if !even {
					return
				}
			default:
			}
		}
	})
	return func() { close(quit); done.Wait() }
}

// tally counts what became of calls that may succeed or be refused because of a link.
type tally struct{ done, refused, busy atomic.Int64 }

func (c *tally) String() string {
	return fmt.Sprintf("%d done, %d refused, %d busy", c.done.Load(), c.refused.Load(), c.busy.Load())
}

func (c *tally) seen(n int64) bool { return c.done.Load() >= n && c.refused.Load() >= n }

func (c *tally) count(t *testing.T, what string, err error) {
	switch status.Code(err) {
	case codes.OK:
		c.done.Add(1)
	case codes.FailedPrecondition:
		c.refused.Add(1)
	case codes.Aborted:
		c.busy.Add(1)
	default:
		t.Errorf("%s: %v", what, err)
	}
}

// TestLinksInTrash has a tenant, whose volume is deleted while it is still open, exchange
// directories in it by links while it is purged.
func TestLinksInTrash(t *testing.T) {
	s := newSite(t, noCache)
	outside := prey(t, s)
	unchanged(t, outside, func() {
		unchanged(t, s.at("victim"), func() {
			v := s.mustCreate("pvc-1", "dir")
			for i := range 8 {
				for j := range 20 {
					write(t, s.at(fmt.Sprintf("dir/tenant%d/d%d/data", i, j)), "of the tenant")
				}
				symlink(t, []string{outside, s.at("victim"), "../victim", "../../victim"}[i%4], s.at(fmt.Sprintf("dir/tenant%d.link", i)))
			}
			fd, err := unix.Open(s.at("dir"), unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			quit := make(chan struct{})
			var done sync.WaitGroup
			done.Go(func() { exchangeIn(fd, quit) })
			s.mustDelete(v.VolumeId)
			eventually(t, patience, "the trash is purged", func() bool { return len(inTrash(t, s)) == 0 }) // at the second try, it may be
			close(quit)
			done.Wait()
		})
	})
}

func exchangeIn(fd int, quit chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-time.After(50 * time.Microsecond):
		}
		for i := range 8 { // one after the other is removed
			name := fmt.Sprintf("tenant%d", i)
			_ = unix.Renameat2(fd, name, fd, name+".link", unix.RENAME_EXCHANGE)
		}
	}
}
