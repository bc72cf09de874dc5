// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
)

const (
	soakVolumes = 50 // on each server
	soakRounds  = 20
	soakAtOnce  = 10
)

// soak is the long accident: a server that is silent while many pods come and go.
type soak struct {
	before, during, after size
	failed                []string // calls about the healthy server's volumes
	back                  time.Duration
}

// size is the resources of the process.
type size struct{ threads, children, files, kilobytes int }

func (s size) String() string {
	return fmt.Sprintf("%d threads, %d children, %d descriptors, %.1f MB", s.threads, s.children, s.files, float64(s.kilobytes)/1000)
}

func sizeOf(pid int) (s size, err error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	data, err := os.ReadFile(proc + "/status")
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch key {
		case "Threads":
			s.threads = n
		case "VmRSS":
			s.kilobytes = n
		}
	}
	files, e := os.ReadDir(proc + "/fd")
	s.files = len(files)
	tasks, e2 := os.ReadDir(proc + "/task")
	for _, t := range tasks {
		children, _ := os.ReadFile(proc + "/task/" + t.Name() + "/children")
		s.children += len(strings.Fields(string(children)))
	}
	return s, errors.Join(err, e, e2)
}

func (n *node) soak() (*soak, error) {
	s := &soak{}
	shares := map[string][]*volume{}
	for _, share := range []string{"faulty", "healthy"} {
		all, err := n.volumes(share, soakVolumes)
		if err == nil {
			err = each(all, publish("holder"))
		}
		if err != nil {
			return nil, err
		}
		shares[share] = all
	}
	if s.round(shares); len(s.failed) > 0 { // a warm-up
		return nil, fmt.Errorf("before the accident: %q", s.failed)
	}
	var err error
	if s.before, err = sizeOf(n.PID()); err != nil {
		return nil, err
	}
	if err := lab.Do("second", "cut"); err != nil {
		return nil, err
	}
	time.Sleep(expiry)
	for range soakRounds {
		s.round(shares)
		if now, err := sizeOf(n.PID()); err == nil {
			s.during = size{max(s.during.threads, now.threads), max(s.during.children, now.children), max(s.during.files, now.files), max(s.during.kilobytes, now.kilobytes)}
		}
	}
	start := time.Now()
	if err := lab.Do("second", "heal"); err != nil {
		return nil, err
	}
	if err := usable(shares["faulty"]); err != nil {
		return nil, err
	}
	s.back = time.Since(start)
	time.Sleep(2 * time.Second) // so that work of the last round ends, and only permanent growth is measured
	if s.after, err = sizeOf(n.PID()); err != nil {
		return nil, err
	}
	return s, leave(set(shares))
}

// round publishes all volumes in a pod, queries their state, and unpublishes them.
func (s *soak) round(shares map[string][]*volume) {
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, soakAtOnce)
	for share, volumes := range shares {
		for _, v := range volumes {
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				for _, do := range []call{publish("pod"), stats, health, unpublish("pod")} {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					err := do(ctx, v)
					cancel()
					if err != nil && share == "healthy" {
						mu.Lock()
						s.failed = append(s.failed, fmt.Sprintf("%s: %v", v.name, err))
						mu.Unlock()
					}
				}
			})
		}
	}
	all.Wait()
}

func (s *soak) markdown() string {
	return fmt.Sprintf(`%d volumes on a silent server and %d on a healthy one, %d rounds of publish, stats, health and
unpublish, %d pods at once: %d of %d calls about the healthy ones failed. The plugin had
%v before, at most %v during the test, and %v afterwards. All volumes
could be used %s after the server was back.
`, soakVolumes, soakVolumes, soakRounds, soakAtOnce, len(s.failed), 4*soakVolumes*soakRounds, s.before, s.during, s.after, seconds(s.back))
}

func (s *soak) judge() error {
	var wrong []error
	if len(s.failed) > 0 {
		wrong = append(wrong, fmt.Errorf("soak: of the healthy server's calls %d failed, the first: %s", len(s.failed), s.failed[0]))
	}
	// The Go runtime keeps threads that it once needed; their growth must not depend on the rounds.
	if s.after.threads > s.before.threads+8 || s.after.children > s.before.children || s.after.files > s.before.files+4 || s.after.kilobytes > s.before.kilobytes*5/4+4000 {
		wrong = append(wrong, fmt.Errorf("soak: the plugin has grown from %v to %v", s.before, s.after))
	}
	return errors.Join(wrong...)
}
