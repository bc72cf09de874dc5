// SPDX-License-Identifier: Apache-2.0

//go:build image

// Package image checks the images that "make image" has made.
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

// made are the images, each with its programs, its entrypoint, and the maximum size of its files in bytes.
var made = map[string]struct {
	programs   []string
	entrypoint string
	most       int64
}{
	"image": {[]string{
		"usr/bin/cat", "usr/bin/dash", "usr/bin/flock", "usr/bin/mooring", "usr/bin/mooringctl", "usr/bin/mount",
		"usr/sbin/mount.nfs", "usr/sbin/rpc.statd", "usr/sbin/start-statd",
	}, "/usr/bin/mooring", 40 << 20},
	"server": {[]string{
		"usr/bin/dash", "usr/bin/mkdir", "usr/bin/mount", "usr/bin/sleep",
		"usr/sbin/exportfs", "usr/sbin/nfsdcld", "usr/sbin/rpc.mountd", "usr/sbin/rpc.nfsd", "usr/sbin/serve",
	}, "/usr/sbin/serve", 20 << 20},
}

// image is an unpacked archive.
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

// open unpacks an image for an architecture.
func open(t *testing.T, name, arch string) *image {
	t.Helper()
	im := &image{T: t, root: t.TempDir(), arch: arch}
	file := filepath.Join(os.Getenv("MOORING_IMAGES"), name+"-"+arch+".tar")
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

// files lists the regular files with their kinds.
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
	for name := range made {
		for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
			t.Run(name+" "+arch, func(t *testing.T) { open(t, name, arch).look(name, machine) })
		}
	}
}

// look compares the image with the expected one.
func (im *image) look(name string, machine elf.Machine) {
	want := made[name]
	if c := im.config; c.Architecture != im.arch || !slices.Equal(c.Config.Entrypoint, []string{want.entrypoint}) || c.Config.User != "" ||
		!slices.Contains(c.Config.Env, "PATH=/usr/sbin:/usr/bin") || c.Config.Labels["org.opencontainers.image.version"] == "" {
		im.Errorf("it is to be run as %+v", c)
	}
	var found []string
	var size int64
	libraries := map[string]bool{}
	files := im.files()
	for file, info := range files {
		size += info.Size()
		if info.Mode()&0o111 != 0 && !strings.Contains(file, ".so") {
			found = append(found, file)
		}
		if strings.Contains(file, ".so") {
			libraries[path.Base(file)] = true
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, want.programs) {
		im.Errorf("the programs are %q, want %q", found, want.programs)
	}
	im.Logf("%s for %s: %d files, %.1f MB", name, im.arch, len(files), float64(size)/1e6)
	if size > want.most {
		im.Errorf("it has %d bytes, and %d are allowed", size, want.most)
	}
	im.linked(files, libraries, machine)
}

// linked checks that every program and library is for the machine, and that its libraries exist.
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

// TestMountPoint checks for a directory in which mooringctl mounts: the root of a container is read-only.
func TestMountPoint(t *testing.T) {
	if st, err := os.Stat(filepath.Join(open(t, "image", runtime.GOARCH).root, "mnt")); err != nil || !st.IsDir() {
		t.Errorf("there is no /mnt: %v", err)
	}
}

// TestRuns runs the programs of the images for this machine in them.
func TestRuns(t *testing.T) {
	for name, programs := range map[string]map[string]struct{ argument, says string }{
		"image": {
			"/usr/bin/mooring":    {"--version", "mooring version"},
			"/usr/bin/mooringctl": {"--version", "mooringctl version"},
			"/sbin/mount.nfs":     {"-V", "nfs-utils"},
			"/sbin/mount.nfs4":    {"-V", "nfs-utils"},
			"/bin/mount":          {"-V", "util-linux"},
			"/sbin/rpc.statd":     {"--version", "version"},
			"/usr/bin/flock":      {"--version", "flock"},
			"/usr/bin/cat":        {"--version", "coreutils"},
		},
		"server": { // exportfs prints nothing without a server
			"/usr/sbin/rpc.mountd": {"--version", "version"},
			"/usr/sbin/rpc.nfsd":   {"--help", "Usage"},
			"/usr/sbin/nfsdcld":    {"--help", "nfsdcld"},
			"/bin/mount":           {"-V", "util-linux"},
		},
	} {
		im := open(t, name, runtime.GOARCH)
		for program, c := range programs {
			cmd := exec.Command(program, c.argument)
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: im.root}
			cmd.Env = im.config.Config.Env
			// The exit status does not matter: for some programs a usage message is an error.
			if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), c.says) {
				t.Errorf("%s %s says %q (%v)", program, c.argument, out, err)
			}
		}
	}
}
