// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// TestCounter increments a number in one file from two pods of a node, which use two volumes: each takes a
// lock, reads the number and writes the next one. No increment may be lost.
func TestCounter(t *testing.T) {
	for _, version := range versions {
		for name, pods := range map[string]func(t *testing.T, s *site, node *lab.Driver) [2]string{
			"two pods of a volume": func(t *testing.T, s *site, node *lab.Driver) [2]string {
				a := s.held(node, s.mustCreate("pvc-1", "dir")).withT(t)
				a.must(a.publish("pod", false))
				t.Cleanup(func() { a.leave("pod") })
				return [2]string{a.target(holder + "/counter"), a.target("pod/counter")}
			},
			"two volumes that are one directory": func(t *testing.T, s *site, node *lab.Driver) [2]string {
				mkdir(t, s.at("dir"))
				return two(t, s.held(node, static("a", "share", "nas1", "subDir", "dir")), "counter", s.held(node, static("b", "share", "nas1", "subDir", "dir")), "counter")
			},
			"an export, and a directory in it": func(t *testing.T, s *site, node *lab.Driver) [2]string {
				mkdir(t, s.at("dir"))
				return two(t, s.held(node, static("a", "server", lab.Server, "share", s.path)), "dir/counter", s.held(node, static("b", "share", "nas1", "subDir", "dir")), "counter")
			},
			"a volume that a pod which reads has first": func(t *testing.T, s *site, node *lab.Driver) [2]string {
				a := s.seat(node, s.mustCreate("pvc-1", "dir"))
				a.must(a.publish("reader", true))
				a.must(a.hold())
				a.must(a.publish("pod", false))
				t.Cleanup(func() { a.leave("reader", "pod") })
				return [2]string{a.target(holder + "/counter"), a.target("pod/counter")}
			},
			"a share whose options were changed": func(t *testing.T, s *site, node *lab.Driver) [2]string {
				a := s.held(node, s.mustCreate("pvc-1", "dir"))
				s.kill(node)
				s.config = strings.Replace(s.config, "nfsvers="+version, "nfsvers="+version+", noatime", 1)
				a.node = s.start("node", "node")
				a.must(a.publish("pod", false))
				t.Cleanup(func() { a.leave("pod") })
				return [2]string{a.target(holder + "/counter"), a.target("pod/counter")}
			},
			"two inline volumes": func(t *testing.T, s *site, node *lab.Driver) [2]string {
				mkdir(t, s.at("dir"))
				var files [2]string
				for i := range files {
					p := s.pod(node, fmt.Sprint("inline-", i), "share", "nas1", "subDir", "dir")
					p.must(p.publish())
					t.Cleanup(func() { p.must(p.unpublish()) })
					files[i] = p.target + "/counter"
				}
				return files
			},
		} {
			t.Run(version+", "+name, func(t *testing.T) {
				s := newSite(t, "mountOptions: [nfsvers="+version+"]", "inline: true")
				s.config = "unregistered: allow\n" + s.config
				const each = 300
				files := pods(t, s, s.start("node", "node"))
				if err := os.WriteFile(files[0], []byte("0"), 0o600); err != nil {
					t.Fatal(err)
				}
				var counting sync.WaitGroup
				for _, file := range files {
					counting.Go(func() {
						if err := count(file, each); err != nil {
							t.Error(err)
						}
					})
				}
				counting.Wait()
				if data, err := os.ReadFile(s.at("dir/counter")); string(data) != fmt.Sprint(2*each) {
					t.Errorf("they have counted to %q, and not to %d (%v)", data, 2*each, err)
				}
			})
		}
	}
}

func two(t *testing.T, a *seat, in string, b *seat, of string) [2]string {
	t.Cleanup(func() { a.leave(); b.leave() })
	return [2]string{a.target(holder + "/" + in), b.target(holder + "/" + of)}
}

// count increments the number in a file, under a lock of this open file description (fcntl(2),
// F_OFD_SETLKW).
func count(path string, times int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for range times {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &lock); err != nil {
			return fmt.Errorf("lock %s: %w", path, err)
		}
		data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<10))
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte(fmt.Sprint(n+1)), 0); err != nil {
			return err
		}
		lock.Type = unix.F_UNLCK
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &lock); err != nil {
			return err
		}
	}
	return nil
}
