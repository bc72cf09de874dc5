// SPDX-License-Identifier: Apache-2.0

// Sbom writes a software bill of materials in SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3) to
// its standard output: the Go modules that were linked into programs, and the Debian packages that
// an image's files come from.
//
//	sbom -name mooring -version 0.2.0 -created 2026-11-28T00:00:00Z [-root DIR] PROGRAM...
//
// Only what the programs themselves record is listed (debug/buildinfo), so the list cannot differ
// from what was linked.
package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debian is where an image lists the packages that its files come from: one file for each, with
// the fields of dpkg-deb --field. Image scanners read it there too.
const debian = "var/lib/dpkg/status.d"

// document is an SPDX document. Fields that are always the same are in write.
type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []component    `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type component struct {
	ID        string      `json:"SPDXID"`
	Name      string      `json:"name"`
	Version   string      `json:"versionInfo"`
	Location  string      `json:"downloadLocation"`
	Analyzed  bool        `json:"filesAnalyzed"`
	Concluded string      `json:"licenseConcluded"`
	Declared  string      `json:"licenseDeclared"`
	Copyright string      `json:"copyrightText"`
	Refs      []reference `json:"externalRefs,omitempty"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const noAssertion = "NOASSERTION"

func main() {
	name := flag.String("name", "mooring", "what the bill is of")
	version := flag.String("version", "dev", "its version")
	created := flag.String("created", "", "the time to record (RFC 3339)")
	root := flag.String("root", "", "the root directory of an image")
	flag.Parse()
	if err := run(*name, *version, *created, *root, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(name, version, created, root string, programs []string) error {
	var parts []component
	for _, program := range programs {
		modules, err := linked(program)
		if err != nil {
			return err
		}
		parts = append(parts, modules...)
	}
	if root != "" {
		packages, err := installed(filepath.Join(root, debian))
		if err != nil {
			return err
		}
		parts = append(parts, packages...)
	}
	if parts == nil {
		return errors.New("there is neither a program nor an image to list")
	}
	slices.SortFunc(parts, func(a, b component) int { return strings.Compare(a.ID, b.ID) })
	parts = slices.CompactFunc(parts, func(a, b component) bool { return a.ID == b.ID })
	return write(name, version, created, parts)
}

// linked returns the Go modules that are linked into a program, and the standard library.
func linked(program string) ([]component, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	found := []component{part("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "golang", "https://go.dev/dl")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		found = append(found, part(m.Path, m.Version, "golang", "https://proxy.golang.org/"+m.Path+"/@v/"+m.Version+".zip"))
	}
	return found, nil
}

// installed returns the Debian packages that are listed in a directory.
func installed(dir string) ([]component, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []component
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		field := map[string]string{}
		for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ": "); ok {
				field[key] = value
			}
		}
		if field["Package"] == "" || field["Version"] == "" {
			return nil, fmt.Errorf("%s/%s names no package and version", dir, e.Name())
		}
		p := part(field["Package"], field["Version"], "deb/debian", noAssertion)
		p.Refs[0].Locator += "?arch=" + field["Architecture"]
		found = append(found, p)
	}
	if found == nil {
		return nil, fmt.Errorf("%s lists no package", dir)
	}
	return found, nil
}

// part describes a component. kind is the type of its package URL
// (https://github.com/package-url/purl-spec).
func part(name, version, kind, location string) component {
	return component{
		ID: id(kind, name, version), Name: name, Version: version, Location: location,
		Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion,
		Refs: []reference{{"PACKAGE-MANAGER", "purl", "pkg:" + kind + "/" + name + "@" + strings.ReplaceAll(version, "+", "%2B")}},
	}
}

// id makes an identifier, which may consist of letters, digits, "." and "-" alone.
func id(parts ...string) string {
	return "SPDXRef-" + strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", r) {
			return r
		}
		return '-'
	}, strings.Join(parts, "-"))
}

func write(name, version, created string, parts []component) error {
	self := component{
		ID: id("Package", name), Name: name, Version: version, Location: "https://github.com/mooring-csi/mooring",
		Concluded: "Apache-2.0", Declared: "Apache-2.0", Copyright: noAssertion,
	}
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name + "-" + version,
		Creation:      creation{Created: cmp.Or(created, "1970-01-01T00:00:00Z"), Creators: []string{"Tool: mooring-sbom"}},
		Packages:      append([]component{self}, parts...),
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", self.ID}},
	}
	hash := sha256.New()
	for _, p := range parts {
		d.Relationships = append(d.Relationships, relationship{self.ID, "CONTAINS", p.ID})
		fmt.Fprintln(hash, p.ID)
	}
	d.Namespace = "https://github.com/mooring-csi/mooring/spdx/" + d.Name + "-" + hex.EncodeToString(hash.Sum(nil)[:8])
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
