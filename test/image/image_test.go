// SPDX-License-Identifier: Apache-2.0

//go:build image

// Package image looks at the image that "make image" has made.
package image

import (
	"archive/tar"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// programs are all that can be run in the image.
var programs = []string{
	"usr/bin/cat", "usr/bin/dash", "usr/bin/flock", "usr/bin/mooring", "usr/bin/mount",
	"usr/sbin/mount.nfs", "usr/sbin/rpc.statd", "usr/sbin/start-statd",
}

// most is how many bytes the files of an image may have.
const most = 40 << 20

// image is an archive that was unpacked.
type image struct {
	*testing.T
	root   string
	arch   string
	config struct {
		Architecture string
		Config       struct {
			Entrypoint, Env []string
			User            string
			Labels          map[string]string
		}
	}
}

// open unpacks the image of an architecture.
func open(t *testing.T, arch string) *image {
	t.Helper()
	im := &image{T: t, root: t.TempDir(), arch: arch}
	file := filepath.Join(os.Getenv("MOORING_IMAGES"), "image-"+arch+".tar")
	entry := func(name string, use func(io.Reader)) {
		t.Helper()
		f, err := os.Open(file)
		im.must(err)
		defer f.Close()
		for archive := tar.NewReader(f); ; {
			h, err := archive.Next()
			im.must(err)
			if h.Name != name {
				continue
			}
			if h.Typeflag == tar.TypeSymlink {
				t.Fatalf("%s is a link", name)
			}
			use(archive)
			return
		}
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	decode := func(v any) func(io.Reader) { return func(r io.Reader) { im.must(json.NewDecoder(r).Decode(v)) } }
	entry("manifest.json", decode(&manifest))
	entry(manifest[0].Config, decode(&im.config))
	for _, layer := range manifest[0].Layers {
		entry(layer, im.unpack)
	}
	return im
}

func (im *image) must(err error) {
	im.Helper()
	if err != nil {
		im.Fatal(err)
	}
}

// unpack adds a layer to the root.
func (im *image) unpack(r io.Reader) {
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return
		}
		im.must(err)
		to := filepath.Join(im.root, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			im.must(os.MkdirAll(to, 0o755))
		case tar.TypeSymlink:
			im.must(os.Symlink(h.Linkname, to))
		case tar.TypeLink:
			im.must(os.Link(filepath.Join(im.root, h.Linkname), to))
		case tar.TypeReg:
			f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, os.FileMode(h.Mode&0o777))
			im.must(err)
			_, err = io.Copy(f, archive)
			im.must(err)
			im.must(f.Close())
		default:
			im.Errorf("%s is neither file, directory nor link", h.Name)
		}
		if h.Mode&0o6000 != 0 {
			im.Errorf("%s is setuid or setgid", h.Name)
		}
	}
}

// files lists the regular files, with what they are.
func (im *image) files() map[string]os.FileInfo {
	all := map[string]os.FileInfo{}
	im.must(filepath.Walk(im.root, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			name, _ := filepath.Rel(im.root, p)
			all[name] = info
		}
		return err
	}))
	return all
}

func TestImage(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			im := open(t, arch)
			if c := im.config; c.Architecture != arch || !slices.Equal(c.Config.Entrypoint, []string{"/usr/bin/mooring"}) || c.Config.User != "" ||
				!slices.Contains(c.Config.Env, "PATH=/usr/sbin:/usr/bin") || c.Config.Labels["org.opencontainers.image.version"] == "" {
				t.Errorf("it is to be run as %+v", c)
			}
			var found []string
			var size int64
			libraries := map[string]bool{}
			files := im.files()
			for name, info := range files {
				size += info.Size()
				if info.Mode()&0o111 != 0 && !strings.Contains(name, ".so") {
					found = append(found, name)
				}
				if strings.Contains(name, ".so") {
					libraries[path.Base(name)] = true
				}
			}
			slices.Sort(found)
			if !slices.Equal(found, programs) {
				t.Errorf("the programs are %q, want %q", found, programs)
			}
			t.Logf("%s: %d files, %.1f MB", arch, len(files), float64(size)/1e6)
			if size > most {
				t.Errorf("it has %d bytes, and %d are allowed", size, most)
			}
			im.linked(files, libraries, machine)
		})
	}
}

// linked checks that every program and library is for the machine, and has what it is linked to.
func (im *image) linked(files map[string]os.FileInfo, libraries map[string]bool, machine elf.Machine) {
	im.must(filepath.Walk(im.root, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode()&os.ModeSymlink != 0 {
			libraries[path.Base(p)] = true
		}
		return err
	}))
	for name := range files {
		f, err := elf.Open(filepath.Join(im.root, name))
		if err != nil {
			continue // a script, a table
		}
		if f.Machine != machine {
			im.Errorf("%s is for %v", name, f.Machine)
		}
		needed, err := f.ImportedLibraries()
		im.must(err)
		for _, library := range needed {
			if !libraries[library] {
				im.Errorf("%s needs %s, which is not there", name, library)
			}
		}
		if name == "usr/bin/mooring" && (len(needed) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })) {
			im.Errorf("%s is not static", name)
		}
		_ = f.Close()
	}
}

// TestRuns runs the programs of the image for this machine in it.
func TestRuns(t *testing.T) {
	im := open(t, runtime.GOARCH)
	for program, c := range map[string]struct{ argument, says string }{
		"/usr/bin/mooring": {"--version", "mooring version"},
		"/sbin/mount.nfs":  {"-V", "nfs-utils"},
		"/sbin/mount.nfs4": {"-V", "nfs-utils"},
		"/bin/mount":       {"-V", "util-linux"},
		"/sbin/rpc.statd":  {"--version", "version"},
		"/usr/bin/flock":   {"--version", "flock"},
		"/usr/bin/cat":     {"--version", "coreutils"},
	} {
		cmd := exec.Command(program, c.argument)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: im.root}
		cmd.Env = im.config.Config.Env
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), c.says) {
			t.Errorf("%s %s says %q (%v)", program, c.argument, out, err)
		}
	}
}
