// SPDX-License-Identifier: Apache-2.0

//go:build lab

package torture

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
)

var (
	histories = flag.Int("histories", 12, "how many histories there are")
	first     = flag.Uint64("seed", 1, "the first one's seed; the next ones are those after it")
	atOnce    = flag.Int("at-once", 6, "how many histories are under way at once")
	steps     = flag.Int("steps", 12, "how many steps each owner takes")
	keptToo   = flag.Bool("kept", true, "whether the seeds that failed once are run first")
)

// kept are the seeds of histories that failed once.
var kept = []uint64{10, 15, 2101, 400097, 500029, 510011, 700028, 700042, 700043, 700069, 700071}

// TestMain lets clients ask for delegations of directories, as they do by default.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = os.WriteFile("/sys/module/nfsv4/parameters/directory_delegations", []byte("Y"), 0)
	m.Run()
}

// TestHistories runs the histories.
func TestHistories(t *testing.T) {
	if !*keptToo {
		kept = nil
	}
	seeds := make(chan uint64)
	go func() {
		defer close(seeds)
		for _, seed := range kept {
			seeds <- seed
		}
		for i := range *histories {
			seeds <- *first + uint64(i)
		}
	}()
	total := newTally()
	var all sync.WaitGroup
	for range *atOnce {
		// Machines are made once: each has a network of its own.
		machines := machines{ground.ThisMachine(), ground.NewMachine(t), ground.NewMachine(t)}
		all.Go(func() {
			for seed := range seeds {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { newHistory(t, seed, machines, total).live() })
			}
		})
	}
	all.Wait()
	t.Logf("%d histories: %v", len(kept)+*histories, total)
	for _, what := range everything { // a few histories may not have all of it
		if *histories >= 100 && total.of(what) == 0 {
			t.Errorf("no call was answered OK for: %s", what)
		}
	}
}
