// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/status"
)

// repeats is the number of calls for volumes of the healthy server: their median counts.
const repeats = 5

// expiry is longer than the node uses what it last heard from a server or mount: upTTL of pkg/probe,
// healthyTTL of pkg/publish.
const expiry = 6 * time.Second

// accident is a row of the table.
type accident struct {
	name, begin, end string
	share            string                                       // the affected share; "": faulty
	has              func(n *node) (over func() error, err error) // instead of begin; over instead of end
	before           func(n *node) error                          // runs before each call
	kill             bool                                         // kill the program in the middle of each call, and repeat the call
	lasts            time.Duration                                // repeat calls until this is over; 0: until all calls were made
}

func accidents() []accident {
	return []accident{
		{name: "is healthy"},
		{name: "refuses", begin: "stop", end: "start"},
		{name: "is silent", begin: "cut", end: "heal"},
		{name: "takes 5 s to answer", begin: "slow", end: "brisk"},
		{name: "exports it again (stale)", begin: "renew"},
		{name: "is silent for 60 s", begin: "cut", end: "heal", lasts: time.Minute},
		{name: "has a disk with errors (XFS)", begin: "disk xfs error", end: "disk xfs mend", share: "xfs"},
		{name: "has a file system that an error made read-only (ext4)", begin: "disk ext4 readonly", end: "disk ext4 mend", share: "ext4"},
		{name: "is silent, and the plugin is killed", begin: "cut", end: "heal", kill: true},
		{name: "is healthy, the plugin's worker is stopped", before: stopWorkers},
		{name: "has a frozen disk, beside a healthy export", share: "frozen", has: freeze},
		{name: "has a frozen disk, and the plugin is killed", share: "frozen", has: freeze, kill: true},
	}
}

// columns are the calls, in their order. Each has prepared volumes when the accident happens.
var columns = []struct {
	name   string
	within time.Duration
	prefer string // kind of the volume: "published" or "new"
	call   call
}{
	{"NodeGetVolumeStats", 5 * time.Second, "published", stats},
	{"NodeGetVolumeHealth", 5 * time.Second, "published", health},
	{"NodeGetStorageHealth", 5 * time.Second, "published", storage},
	{"NodePublishVolume, a first pod", 60 * time.Second, "new", publish("pod")},
	{"NodePublishVolume, another pod", 60 * time.Second, "published", publish("other")},
	{"NodeUnpublishVolume", 30 * time.Second, "published", unpublish("pod")},
}

// cell is the result of a call for the faulty server's volume, and of those for the healthy one's meanwhile.
type cell struct {
	took, healthy time.Duration
	said          string
	wrong         string // an error of the healthy server's volumes
	again         time.Duration
}

type row struct {
	accident
	cells []cell
	back  time.Duration // from the accident's end until all volumes were usable
}

// set is volumes of one share, ready for the columns.
type set map[string][]*volume

func (n *node) prepare(share string, count int) (set, error) {
	s := set{}
	for _, kind := range []string{"published", "new"} {
		all, err := n.volumes(share, count)
		if err != nil {
			return nil, err
		}
		s[kind] = all
		if kind == "published" && err == nil {
			if err = each(all, publish("pod")); err == nil {
				err = each(all, stats)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// accident makes volumes, causes the accident, makes every call, and ends the accident.
func (n *node) accident(a accident) (row, error) {
	r := row{accident: a}
	faulty, err := n.prepare(cmp.Or(a.share, "faulty"), 1)
	if err != nil {
		return r, err
	}
	healthy, err := n.prepare("healthy", repeats)
	if err != nil {
		return r, err
	}
	time.Sleep(expiry)
	if a.begin != "" {
		if err := second(a.begin); err != nil {
			return r, err
		}
	}
	over := func() error { return nil }
	if a.end != "" {
		over = sync.OnceValue(func() error { return second(a.end) })
		defer over()
	}
	if a.has != nil {
		end, err := a.has(n)
		if over = sync.OnceValue(end); err != nil {
			return r, errors.Join(err, over())
		}
		defer over()
	}
	if a.lasts > 0 {
		timer := time.AfterFunc(a.lasts, func() { _ = over() })
		defer timer.Stop()
	}
	for i := range columns {
		c, err := n.column(i, a, faulty, healthy)
		if err != nil {
			return r, fmt.Errorf("%s: %w", columns[i].name, err)
		}
		r.cells = append(r.cells, c)
	}
	if err := each(faulty["published"], unpublish("other")); err != nil { // may have been published late
		return r, err
	}
	for _, v := range faulty["published"] {
		if m, err := v.mounted(); err != nil || len(m) > 0 {
			return r, fmt.Errorf("%s is still mounted: %v, %v", v.name, m, err)
		}
	}
	if err := over(); err != nil {
		return r, err
	}
	start := time.Now()
	if err := usable(slices.Concat(faulty["published"], faulty["new"])); err != nil {
		return r, err
	}
	r.back = time.Since(start)
	return r, errors.Join(leave(faulty), leave(healthy))
}

// second runs an action on the second server.
func second(what string) error {
	return lab.Do(append([]string{"second"}, strings.Fields(what)...)...)
}

// column makes one call for the faulty server's volume, and meanwhile those for the healthy one's.
func (n *node) column(i int, a accident, faulty, healthy set) (cell, error) {
	c := columns[i]
	if a.before != nil {
		if err := a.before(n); err != nil {
			return cell{}, err
		}
	}
	v := faulty[c.prefer][0]
	done := make(chan cell, 1)
	go func() { done <- n.ask(a, c.call, v, 2*c.within) }()
	if a.kill {
		time.Sleep(300 * time.Millisecond) // the call is in progress, at any point
		if err := n.again(); err != nil {
			return cell{}, err
		}
	}
	var took []time.Duration
	wrong := ""
	for _, h := range healthy[c.prefer] {
		start := time.Now()
		if err := each([]*volume{h}, c.call); err != nil {
			wrong = err.Error()
		}
		took = append(took, time.Since(start))
	}
	answer := <-done
	if a.kill { // the first call failed with the process
		answer = n.ask(a, c.call, v, 2*c.within)
	}
	slices.Sort(took)
	answer.healthy, answer.wrong = took[len(took)/2], wrong
	return answer, nil
}

// ask makes a call, and repeats it like kubelet if the accident ends by itself.
func (n *node) ask(a accident, do call, v *volume, timeout time.Duration) cell {
	var c cell
	begin := time.Now()
	for first := true; ; first = false {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		start := time.Now()
		err := do(ctx, v)
		cancel()
		if first {
			c.took, c.said = time.Since(start), said(err)
		}
		if err == nil || a.lasts == 0 {
			if !first {
				c.again = time.Since(begin)
			}
			return c
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func said(err error) string {
	var r reason
	if errors.As(err, &r) {
		return string(r)
	}
	return status.Code(err).String()
}

// usable waits until every volume can be published and written, and unpublishes it.
func usable(all []*volume) error {
	deadline := time.Now().Add(2 * time.Minute)
	for _, v := range all {
		for {
			err := use(v)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s cannot be used again: %w", v.name, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return nil
}

func use(v *volume) error {
	one := []*volume{v}
	err := each(one, publish("again"))
	if err == nil {
		err = os.WriteFile(filepath.Join(v.pod("again"), "data"), []byte(v.name), 0o600)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(serverDir[v.share], v.name, "data"))
	}
	return errors.Join(err, each(one, unpublish("again")))
}

// leave unpublishes all volumes, and checks that nothing remains mounted.
func leave(s set) error {
	var wrong []string
	for _, all := range s {
		if err := errors.Join(each(all, unpublish("pod")), each(all, unpublish("other")), each(all, unpublish("holder"))); err != nil {
			return err
		}
		for _, v := range all {
			if m, err := v.mounted(); err != nil || len(m) > 0 {
				wrong = append(wrong, v.name)
			}
		}
	}
	if wrong != nil {
		return fmt.Errorf("still mounted: %s", strings.Join(wrong, ", "))
	}
	return nil
}
