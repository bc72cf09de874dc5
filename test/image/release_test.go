// SPDX-License-Identifier: Apache-2.0

//go:build image

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// release is the directory with the files of a release.
type release struct {
	*testing.T
	dir, version string
}

// TestRelease makes a release of the current commit twice, of the parts in RELEASE_PARTS.
func TestRelease(t *testing.T) {
	repo, version := clone(t)
	first := release{t, filepath.Join(t.TempDir(), "first"), version}
	second := release{t, filepath.Join(t.TempDir(), "second"), version}
	run(t, repo, "deploy/release/release", version, first.dir)
	run(t, repo, "sh", "-c", "umask 077 && chmod -R go= . && GOFLAGS=-tags=other GOAMD64=v3 exec deploy/release/release "+version+" "+second.dir)
	first.sameAs(second)
	first.checksums()
	first.provenance()
	parts := os.Getenv("RELEASE_PARTS")
	if strings.Contains(parts, "programs") {
		first.programs()
	}
	if strings.Contains(parts, "chart") {
		first.chart()
	}
	if strings.Contains(parts, "images") {
		first.images()
	}
	if notes := first.read("RELEASE-NOTES.md"); len(notes) < 500 || bytes.Contains(notes, []byte("\n## ")) || bytes.Contains(notes, []byte("candidate")) {
		t.Errorf("the release notes are not one section of the changelog:\n%s", notes)
	}
}

// TestReleaseRefused requests releases that the commit does not describe.
func TestReleaseRefused(t *testing.T) {
	repo, version := clone(t)
	for args, want := range map[[2]string]string{
		{"v" + version, "new"}:  "is no version",
		{"9.9.9", "new"}:        "Chart.yaml has another version than 9.9.9",
		{version, "."}:          "is not empty",
		{version + ".1", "new"}: "is no version",
		{version, "typo"}:       `RELEASE_PARTS has "program"`,
	} {
		cmd := exec.Command("deploy/release/release", args[0], args[1])
		cmd.Dir = repo
		if args[1] == "typo" {
			cmd.Env = append(os.Environ(), "RELEASE_PARTS=program")
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("release %v: %v, and not %q:\n%s", args, err, want, out)
		}
		if _, err := os.Stat(filepath.Join(repo, "new")); err == nil {
			t.Errorf("release %v: files were made", args)
		}
	}
}

// clone copies the repository, with a changelog that has a section for the chart's version.
func clone(t *testing.T) (dir, version string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repo")
	run(t, "../..", "git", "clone", "-q", "--no-hardlinks", ".", dir)
	chart, err := os.ReadFile(filepath.Join(dir, "charts/mooring/Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	version = string(regexp.MustCompile(`(?m)^version: (.*)$`).FindSubmatch(chart)[1])
	changelog := filepath.Join(dir, "CHANGELOG.md")
	text, err := os.ReadFile(changelog)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("\n## "+version)) {
		return dir, version
	}
	text = bytes.Replace(text, []byte("\n## Unreleased\n"), []byte("\n## "+version+"\n"), 1)
	text = append(text, "\n## "+version+"-rc.1\n\nA candidate.\n"...)
	if err := os.WriteFile(changelog, text, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-qam", "release "+version)
	return dir, version
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (r release) read(name string) []byte {
	r.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.Fatal(err)
	}
	return data
}

func (r release) names() (names []string) {
	r.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (r release) sameAs(other release) {
	r.Helper()
	if names := r.names(); !slices.Equal(names, other.names()) {
		r.Errorf("the second time the files are %q, and not %q", other.names(), names)
		return
	}
	for _, name := range r.names() {
		if !bytes.Equal(r.read(name), other.read(name)) {
			r.Errorf("%s is another the second time", name)
		}
	}
}

// checksums reads SHA256SUMS, which has every file except itself.
func (r release) checksums() {
	r.Helper()
	var listed []string
	for line := range strings.Lines(string(r.read("SHA256SUMS"))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		listed = append(listed, name)
		if sum != digest(r.read(name)) {
			r.Errorf("the checksum of %s is wrong", name)
		}
	}
	want := slices.DeleteFunc(r.names(), func(name string) bool { return name == "SHA256SUMS" })
	if !slices.Equal(listed, want) {
		r.Errorf("SHA256SUMS has %q, and not %q", listed, want)
	}
}

// provenance reads the SLSA statement, which has every file except itself and the checksums.
func (r release) provenance() {
	r.Helper()
	var statement struct {
		Type    string `json:"_type"`
		Subject []struct {
			Name   string
			Digest struct{ SHA256 string }
		}
		PredicateType string
	}
	name := "mooring-" + r.version + ".provenance.json"
	if err := json.Unmarshal(r.read(name), &statement); err != nil {
		r.Fatal(err)
	}
	if statement.PredicateType != "https://slsa.dev/provenance/v1" || len(statement.Subject) != len(r.names())-2 {
		r.Errorf("the provenance is of %d files, of %q", len(statement.Subject), statement.PredicateType)
	}
	for _, s := range statement.Subject {
		if s.Digest.SHA256 != digest(r.read(s.Name)) {
			r.Errorf("the provenance has another digest of %s", s.Name)
		}
	}
}

// unpacked returns the files of a compressed archive.
func (r release) unpacked(name string) map[string][]byte {
	r.Helper()
	files := map[string][]byte{}
	z, err := gzip.NewReader(bytes.NewReader(r.read(name)))
	if err != nil {
		r.Fatalf("%s: %v", name, err)
	}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			r.Fatalf("%s: %v", name, err)
		}
		if files[strings.TrimPrefix(h.Name, "./")], err = io.ReadAll(archive); err != nil {
			r.Fatalf("%s: %v", name, err)
		}
	}
}

// programs checks that the programs are static, for the architecture in the name of their archive, and
// print their version.
func (r release) programs() {
	r.Helper()
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		name := "mooring-" + r.version + "-linux-" + arch
		files := r.unpacked(name + ".tar.gz")
		for _, program := range []string{"mooring", "mooringctl"} {
			f, err := elf.NewFile(bytes.NewReader(files[program]))
			if err != nil {
				r.Errorf("%s of %s: %v", program, arch, err)
				continue
			}
			if libraries, _ := f.ImportedLibraries(); f.Machine != machine || len(libraries) > 0 {
				r.Errorf("%s of %s is for %v, and wants %q", program, arch, f.Machine, libraries)
			}
			if !bytes.Contains(files[program], []byte(r.version)) {
				r.Errorf("%s of %s does not know its version", program, arch)
			}
		}
		r.bill(name+".spdx.json", "google.golang.org/grpc")
	}
	manifest := string(r.read("krew-mooring.yaml"))
	for _, part := range []string{digest(r.read("kubectl-mooring-" + r.version + ".tar.gz")), "version: v" + r.version} {
		if !strings.Contains(manifest, part) {
			r.Errorf("krew's manifest does not have %q:\n%s", part, manifest)
		}
	}
	if len(r.unpacked("kubectl-mooring-" + r.version + ".tar.gz")["kubectl-mooring"]) == 0 {
		r.Error("the plugin's archive has no plugin")
	}
}

// bill reads a bill of materials, which must name some packages.
func (r release) bill(name string, want ...string) {
	r.Helper()
	var bill struct {
		SPDXVersion   string
		Packages      []struct{ Name, SPDXID string }
		Relationships []struct{ SPDXElementID, RelatedSPDXElement string }
	}
	if err := json.Unmarshal(r.read(name), &bill); err != nil {
		r.Fatalf("%s: %v", name, err)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	var names []string
	for _, p := range bill.Packages {
		if ids[p.SPDXID] {
			r.Errorf("%s: %s is there twice", name, p.SPDXID)
		}
		ids[p.SPDXID] = true
		names = append(names, p.Name)
	}
	for _, rel := range bill.Relationships {
		if !ids[rel.SPDXElementID] || !ids[rel.RelatedSPDXElement] {
			r.Errorf("%s: a relationship of %v is with nothing", name, rel)
		}
	}
	for _, p := range want {
		if bill.SPDXVersion != "SPDX-2.3" || !slices.Contains(names, p) {
			r.Errorf("%s does not name %s", name, p)
		}
	}
}

// chart checks the packaged chart, and the index of a repository with it.
func (r release) chart() {
	r.Helper()
	name := "mooring-" + r.version + ".tgz"
	files := r.unpacked(name)
	if !bytes.Contains(files["mooring/Chart.yaml"], []byte("\nversion: "+r.version+"\n")) || len(files["mooring/values.schema.json"]) == 0 {
		r.Errorf("%s does not have the chart", name)
	}
	index := string(r.read("index.yaml"))
	for _, part := range []string{digest(r.read(name)), "/v" + r.version + "/" + name} {
		if !strings.Contains(index, part) {
			r.Errorf("the index does not have %q:\n%s", part, index)
		}
	}
	if manifests := string(r.read("mooring-" + r.version + ".yaml")); !strings.Contains(manifests, "mooring-csi/mooring:"+r.version) {
		r.Error("the plain manifests are of another version")
	}
}

// images checks the OCI archives, each with a bill of its Debian packages.
func (r release) images() {
	r.Helper()
	for _, arch := range []string{"amd64", "arm64"} {
		r.bill("mooring-"+r.version+"-image-"+arch+".spdx.json", "nfs-common", "libc6", "google.golang.org/grpc")
		r.bill("mooring-server-"+r.version+"-image-"+arch+".spdx.json", "nfs-kernel-server", "libc6")
	}
}
