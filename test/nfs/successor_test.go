// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// TestSuccessor replaces a directory by another one of the same name after this node has mounted it. The
// next pod gets the directory that the server has, and not the one in the kernel's cache, which may be in
// the trash.
func TestSuccessor(t *testing.T) {
	for version, each := range map[string][]bool{"3": {false}, "4.0": {false}, "4.2": {false, true}} {
		for _, delegations := range each {
			for name, succeed := range map[string]func(t *testing.T, s *site, node *lab.Driver) (pod string){
				"volume after volume": func(t *testing.T, s *site, node *lab.Driver) string {
					visited(s, node, s.mustCreate("pvc-1", "p/b"))
					s.mustDelete("nas1/pvc-1")
					return shown(s, node, s.mustCreate("pvc-2", "p/b"))
				},
				"one volume's id after itself": func(t *testing.T, s *site, node *lab.Driver) string {
					visited(s, node, s.mustCreate("pvc-1", ""))
					s.mustDelete("nas1/pvc-1")
					v := s.mustCreate("pvc-1", "")
					symlink(t, "../"+v.GetVolumeContext()["subDir"], s.at("p/b"))
					return shown(s, node, v)
				},
				"a volume whose pod is still there": func(t *testing.T, s *site, node *lab.Driver) string {
					shown(s, node, s.mustCreate("pvc-1", "p/b"))
					s.mustDelete("nas1/pvc-1")
					return shown(s, node, s.mustCreate("pvc-2", "p/b"))
				},
				"a name that was none": func(t *testing.T, s *site, node *lab.Driver) string {
					all := shown(s, node, static("all", "server", lab.Server, "share", s.path))
					if _, err := os.Stat(all + "/p/b"); !os.IsNotExist(err) {
						t.Fatal(err)
					}
					return shown(s, node, s.mustCreate("pvc-2", "p/b"))
				},
				"a directory that was renamed": func(t *testing.T, s *site, node *lab.Driver) string {
					mkdir(t, s.at("p/b"))
					visited(s, node, static("b", "share", "nas1", "subDir", "p/b"))
					rename(t, s.at("p/b"), s.at("p/old"))
					mkdir(t, s.at("p/b"))
					return shown(s, node, static("b", "share", "nas1", "subDir", "p/b"))
				},
				"a parent that was renamed": func(t *testing.T, s *site, node *lab.Driver) string {
					mkdir(t, s.at("team"))
					mkdir(t, s.at("team/"+unique(0)))
					mkdir(t, s.at("team/b"))
					shown(s, node, static("b", "share", "nas1", "subDir", "team/b"))
					rename(t, s.at("team"), s.at("old"))
					mkdir(t, s.at("team"))
					mkdir(t, s.at("team/"+unique(0)))
					symlink(t, "../team/"+unique(0), s.at("p/b"))
					return shown(s, node, static(unique(0), "share", "nas1", "subDir", "team/"+unique(0)))
				},
				"a directory of inline volumes": func(t *testing.T, s *site, node *lab.Driver) string {
					mkdir(t, s.at("p/b"))
					inlineAt(s, node, "pod-1")
					rename(t, s.at("p/b"), s.at("p/old"))
					mkdir(t, s.at("p/b"))
					return inlineAt(s, node, "pod-2")
				},
			} {
				t.Run(version+", "+name+map[bool]string{true: ", delegations"}[delegations], func(t *testing.T) {
					if delegations {
						withDelegations(t)
					}
					s := newSite(t, "mountOptions: [nfsvers="+version+"]", "inline: true")
					s.config = "unregistered: allow\n" + s.config
					node := s.start("node", "node")
					shown(s, node, s.mustCreate("pvc-0", "p/a")) // keeps the kernel's cache of the share
					pod := succeed(t, s, node)
					if err := os.WriteFile(pod+"/file", []byte("new"), 0o600); err != nil {
						t.Fatal(err)
					}
					if data, err := os.ReadFile(s.at("p/b/file")); string(data) != "new" {
						t.Errorf("what the pod has written is not in the volume's directory: %q, %v", data, err)
					}
				})
			}
		}
	}
}

// TestNoSuccessor uses two volumes of one directory that is not replaced: their pods share a superblock,
// and therefore locks.
func TestNoSuccessor(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			mkdir(t, s.at("b"))
			node := s.start("node", "node")
			a := s.held(node, static("a", "share", "nas1", "subDir", "b"))
			b := s.held(node, static("b", "share", "nas1", "subDir", "b"))
			if first, second := a.mount(a.target(holder)), b.mount(b.target(holder)); first.Minor != second.Minor {
				t.Errorf("mounted are %v and %v", first, second)
			}
			a.leave()
			b.leave()
		})
	}
}

// visited lets a pod use a volume and removes the pod.
func visited(s *site, node *lab.Driver, v *csi.Volume) {
	s.t.Helper()
	a := s.held(node, v)
	if err := os.WriteFile(a.target(holder)+"/before", nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	a.leave()
}

// shown lets a pod use a volume until the test ends.
func shown(s *site, node *lab.Driver, v *csi.Volume) (target string) {
	s.t.Helper()
	a := s.held(node, v)
	s.t.Cleanup(func() { a.leave() })
	return a.target(holder)
}

// inlineAt lets a pod use the directory p/b until the test ends.
func inlineAt(s *site, node *lab.Driver, name string) (target string) {
	s.t.Helper()
	p := s.pod(node, name, "share", "nas1", "subDir", "p/b")
	p.must(p.publish())
	s.t.Cleanup(func() { p.must(p.unpublish()) })
	return p.target
}
