// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// conforms runs csi-sanity, the program in MOORING_SANITY: a suite runs only once in a process.
func conforms(s *site) {
	binary := os.Getenv("MOORING_SANITY")
	if binary == "" {
		s.t.Fatal("MOORING_SANITY does not say where csi-sanity is: run this by make servers")
	}
	at := func(name string) string { return filepath.Join(s.dir, name) }
	err := errors.Join(
		os.WriteFile(at("params.yaml"), []byte("share: nas1\n"), 0o600),
		os.WriteFile(at("mutable.yaml"), []byte("onDelete: delete\ntrashRetention: 0s\n"), 0o600))
	if s.broken("files", err) {
		return
	}
	said, err := exec.Command(binary, "-csi.endpoint", s.Endpoint, "-csi.testvolumeparameters", at("params.yaml"),
		"-csi.testvolumemutableparameters", at("mutable.yaml"), "-csi.mountdir", at("target"), "-csi.stagingdir", at("staging"),
		"-csi.testnodevolumeattachlimit", "-ginkgo.no-color", "-ginkgo.json-report", at("report.json")).CombinedOutput()
	if s.out.Sanity = readReport(at("report.json")); s.out.Sanity == nil {
		s.broken("csi-sanity", fmt.Errorf("%w: %s", err, said))
	}
}

// readReport counts the specs in a report of Ginkgo; nil if there is none.
func readReport(file string) *sanity {
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts           []string
			LeafNodeType, LeafNodeText, State string
			Failure                           struct{ Message string }
		}
	}
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &suites) != nil {
		return nil
	}
	counts := &sanity{}
	for _, suite := range suites {
		for _, spec := range suite.SpecReports {
			switch {
			case spec.LeafNodeType != "It":
			case spec.State == "passed":
				counts.Passed++
			case spec.State == "skipped" || spec.State == "pending":
				counts.Skipped++
			default:
				counts.Failed++
				counts.Failures = append(counts.Failures, strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), " "))
			}
		}
	}
	slices.Sort(counts.Failures)
	return counts
}
