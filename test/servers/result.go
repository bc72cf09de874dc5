// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// result is that of one server with one version of NFS.
type result struct {
	Server  string `json:"server"`
	Title   string `json:"title"`
	Run     string `json:"run"` // a run's title
	Options string `json:"options"`
	// Broken is the faults, each with its step: in a life, with the server killed, or in what is left
	// behind.
	Broken []string `json:"broken,omitempty"`
	// Doctor is the warnings and faults of mooringctl doctor: "! check: cause", "✗ check: cause". Said is
	// their texts.
	Doctor []string `json:"doctor"`
	Said   []string `json:"said"`
	Sanity *sanity  `json:"sanity,omitempty"`
	// Refused is what the server refused of a tree with entries of all kinds; Changed is what it did not
	// keep, without Mooring; Lost is what a clone lacks of the rest.
	Refused []string `json:"refused"`
	Changed []string `json:"changed"`
	Lost    []string `json:"lost"`
	// Method is the method by which files were copied: CLONE, COPY, read and write.
	Method string `json:"method"`
	// Killed is the point of the copy and the creations at which the server was killed; empty if it was not.
	Killed string `json:"killed"`
	// Paused is the number of operations that were stopped while another machine took their place.
	Paused string `json:"paused,omitempty"`
	// Create and Delete are the round trips of a volume without content.
	Create int64 `json:"create"`
	Delete int64 `json:"delete"`
}

// sanity counts the specs of csi-sanity.
type sanity struct {
	Passed   int      `json:"passed"`
	Failed   int      `json:"failed"`
	Skipped  int      `json:"skipped"`
	Failures []string `json:"failures,omitempty"`
}

// with returns the kept results with a new one, in the order of the server's runs.
func (s server) with(kept []*result, new *result) (all []*result) {
	for _, r := range s.runs {
		if r.name() == new.Run {
			all = append(all, new)
			continue
		}
		for _, old := range kept {
			if old.Run == r.name() {
				all = append(all, old)
			}
		}
	}
	return all
}

// write keeps the results of a server in a file of the directory.
func write(dir, server string, all []*result) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, server+".json"), append(data, '\n'), 0o644)
}

// read returns the results that write has kept; none if there are none.
func read(dir, server string) ([]*result, error) {
	data, err := os.ReadFile(filepath.Join(dir, server+".json"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*result
	return all, json.Unmarshal(data, &all)
}
