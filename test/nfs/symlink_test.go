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

// linkVictims makes the targets of links: a volume with data, and a directory beside the share.
func linkVictims(t *testing.T, s *site) (outside string) {
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

// linkTargets are the targets that a tenant may choose, relative to the share's root.
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

// TestPlantedLinks puts a link in the place of a new volume's directory, or of its parent.
func TestPlantedLinks(t *testing.T) {
	s := newSite(t, noCache)
	outside := linkVictims(t, s)
	mkdir(t, s.at("dir"))
	n := 0
	for name, target := range linkTargets(s, outside, "tenant") {
		for _, pattern := range []string{"*", "*/x", "*/x/y/z", "dir/*/x", "dir/*"} {
			for _, existing := range []string{"refuse", "adopt"} {
				n++ // a parent's name cannot be that of a volume immediately afterwards
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

// TestLinksBeforeDelete puts a link in the place of a volume's directory, or of its parent, before the
// volume is deleted.
func TestLinksBeforeDelete(t *testing.T) {
	for _, onDelete := range []string{"delete", "archive", "retain"} {
		t.Run(onDelete, func(t *testing.T) {
			s := newSite(t, noCache)
			outside := linkVictims(t, s)
			refused := 0
			for name, target := range linkTargets(s, outside, "tenant") {
				t.Run(name, func(t *testing.T) { refused += deleteBelowLink(t, s, onDelete, target, outside) })
				t.Run(name+", own", func(t *testing.T) { deleteLink(t, s, onDelete, target, outside) })
			}
			if refused == 0 && onDelete != "retain" { // does not touch the directory, wherever it is
				t.Error("no deletion met the link")
			}
		})
	}
}

// deleteBelowLink deletes a volume whose parent was moved away and replaced by a link. It returns 1 if
// that was refused. Success is correct too: the controller then had the right directory in its cache.
func deleteBelowLink(t *testing.T, s *site, onDelete, target, outside string) (refused int) {
	eventually(t, waitTimeout, "the volume is made", func() bool { // its cache may still have the parent of the test before
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
			// It is marked, and the retry continues.
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

// deleteLink deletes a volume whose directory is now a link.
func deleteLink(t *testing.T, s *site, onDelete, target, outside string) {
	v := s.mustCreate("pvc-1", "own", "onDelete", onDelete)
	write(t, s.at("own/data"), "of the tenant")
	rename(t, s.at("own"), s.at("moved"))
	symlink(t, target, s.at("own"))
	unchanged(t, outside, func() {
		unchanged(t, s.at("victim"), func() {
			s.mustDelete(v.VolumeId)
			if onDelete == "archive" { // only directories are archived: an administrator must decide
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
	eventually(t, waitTimeout, "the trash is purged", func() bool { return len(inTrash(t, s)) == 0 })
}

// TestLinksDuringCreateAndDelete exchanges directories and links all the time while volumes are made and
// deleted in those directories.
func TestLinksDuringCreateAndDelete(t *testing.T) {
	s := newSite(t, noCache)
	outside := linkVictims(t, s)
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
		enough := time.Now().Add(waitTimeout)
		for i := range tenants {
			all.Go(func() {
				name := fmt.Sprintf("pvc-%d", i)
				for time.Now().Before(enough) && !(tally[0].seen(20) && tally[1].seen(5)) {
					_, err := s.create(name, params{"subDir": fmt.Sprintf("tenant%d/x", i), "uid": "1234", "mountPermissions": "0707"})
					tally[0].count(t, "create", err)
					// A creation gets Aborted until a refused deletion is tried again.
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

// createAtLast creates a volume with retries, like a provisioner: the client may still have the removed
// link in its cache for a short time.
func createAtLast(t *testing.T, s *site, name string, p params) {
	t.Helper()
	eventually(t, waitTimeout, name+" is created", func() bool {
		_, err := s.create(name, p)
		if err != nil {
			wantCode(t, err, codes.FailedPrecondition, "symbolic link")
		}
		return err == nil
	})
}

// deleteAtLast is createAtLast for the deletion of a volume that may exist.
func deleteAtLast(t *testing.T, s *site, name string) {
	t.Helper()
	eventually(t, waitTimeout, name+" is deleted", func() bool {
		err := s.delete("nas1/" + name)
		if err != nil {
			wantCode(t, err, codes.FailedPrecondition, "symbolic link")
		}
		return err == nil
	})
}

// exchange swaps the directories and links of all tenants again and again until stop, which leaves the
// directories in their places.
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
				time.Sleep(50 * time.Microsecond) // leave the one CPU to others
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

// tally counts the results of calls that may succeed or be refused because of a link.
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

// TestLinksInTrash replaces directories of a deleted volume by links while it is purged, like a tenant
// that still has it open.
func TestLinksInTrash(t *testing.T) {
	s := newSite(t, noCache)
	outside := linkVictims(t, s)
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
			eventually(t, waitTimeout, "the trash is purged", func() bool { return len(inTrash(t, s)) == 0 }) // maybe at the second try
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
