// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
)

// settle is the time between two equal readings that count as rest: the client sends CLOSE and
// DELEGRETURN after the calls.
const settle = 30 * time.Millisecond

// process is one role of the driver with its counters.
type process struct {
	*lab.Driver
	role    string
	metrics string // URL
	// trips counts the NFS round trips of the role's operations.
	trips func() (lab.Counts, error)
}

// start runs the program in a role. The round trips of a controller are those of its mount of the named
// share, those of a node are all of the machine's client: nothing else may use it meanwhile.
func start(role, dir, config, share string, flags ...string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	d, err := lab.Start(role, dir, config, append(flags, "--metrics-address", address, "--node-id", "bench")...)
	if err != nil {
		return nil, err
	}
	p := &process{Driver: d, role: role, metrics: "http://" + address + "/metrics"}
	if p.trips = clientCounts; role == "controller" {
		p.trips = func() (lab.Counts, error) { return mountCounts(p.PID(), "/shares/"+share+".") }
	}
	return p, nil
}

// sample is the state of all counters at one moment, or their difference.
type sample struct {
	trips     lab.Counts
	mounts    int64 // NFS mounts of the process
	processes int64 // processes that it has started
	faults    int64 // page faults of its ended children: 0 only if there were none
	forks     int64 // processes and threads of the machine
	cpu       time.Duration
}

func (p *process) sample() (s sample, err error) {
	if s.trips, err = p.trips(); err != nil { // first, because it changes by itself
		return s, err
	}
	if s.faults, err = childFaults(p.PID()); err != nil {
		return s, err
	}
	if s.forks, err = forks(); err != nil {
		return s, err
	}
	w, err := weigh(p.PID())
	if err != nil {
		return s, err
	}
	s.cpu = w.cpu
	text, err := get(p.metrics)
	if err != nil {
		return s, err
	}
	s.processes, err = sum(text, "mooring_children_started_total{", "")
	if err == nil {
		s.mounts, err = sum(text, "mooring_mount_duration_seconds_count{", `operation="mount"`)
	}
	return s, err
}

// atRest waits until the client sends no more requests, and returns the counters then.
func (p *process) atRest() (sample, error) {
	last := int64(-1)
	for range 200 {
		c, err := p.trips()
		if err != nil {
			return sample{}, err
		}
		if c.Total() == last {
			return p.sample()
		}
		last = c.Total()
		time.Sleep(settle)
	}
	return sample{}, fmt.Errorf("the %s still asks the server, and should have come to rest", p.role)
}

// since returns the difference from an earlier sample.
func (s sample) since(before sample) sample {
	return sample{
		s.trips.Since(before.trips), s.mounts - before.mounts, s.processes - before.processes, s.faults - before.faults,
		s.forks - before.forks, s.cpu - before.cpu,
	}
}

// add adds another difference.
func (s *sample) add(more sample) {
	if s.trips.ByKind == nil {
		s.trips.ByKind = map[string]int64{}
	}
	for kind, n := range more.trips.ByKind {
		s.trips.ByKind[kind] += n
	}
	s.trips.Bytes += more.trips.Bytes
	s.mounts, s.processes, s.faults = s.mounts+more.mounts, s.processes+more.processes, s.faults+more.faults
	s.forks, s.cpu = s.forks+more.forks, s.cpu+more.cpu
}

func get(url string) (string, error) {
	r, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return string(text), err
}

// sum adds up the samples of a metric, only those with a label if one is given.
func sum(text, prefix, label string) (total int64, err error) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, prefix) || !strings.Contains(line, label) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %q: %w", line, err)
		}
		total += int64(value)
	}
	return total, nil
}

// childFaults returns the page faults of the children that a process has waited for. Every program has
// some.
func childFaults(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	return strconv.ParseInt(fields[8], 10, 64) // cminflt, the 11th of all (proc_pid_stat(5))
}

// mountCounts returns the requests of the mount whose target contains mark.
func mountCounts(pid int, mark string) (lab.Counts, error) {
	c, err := lab.Count(pid, func(_, target string) bool { return strings.Contains(target, mark) })
	return withoutRenewals(c), err
}

// clientCounts returns the requests of the machine's NFS client for all mounts, from /proc/net/rpc/nfs:
// mountstats has nothing of a mount that does not exist yet or any more, and mounting costs a node most.
// The names of the operations, and the bytes, are from mountstats, so that there must be an NFS mount.
// (mount(8) of NFSv3 also asks the portmapper and mountd, which the kernel does not count.)
func clientCounts() (lab.Counts, error) {
	c, err := lab.Count(os.Getpid(), lab.All)
	if err != nil {
		return c, err
	}
	version, names, err := operations()
	if err != nil {
		return c, err
	}
	data, err := os.ReadFile("/proc/net/rpc/nfs")
	if err != nil {
		return c, err
	}
	c.ByKind = map[string]int64{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 2+len(names) || fields[0] != "proc"+version {
			continue
		}
		for i, name := range names {
			n, err := strconv.ParseInt(fields[2+i], 10, 64)
			if err != nil {
				return c, fmt.Errorf("/proc/net/rpc/nfs: %w", err)
			}
			if n > 0 {
				c.ByKind[name] = n
			}
		}
		return withoutRenewals(c), nil
	}
	return c, fmt.Errorf("/proc/net/rpc/nfs does not count the %d operations of NFSv%s", len(names), version)
}

// operations returns the major version and the names of its operations in the kernel's order, from the
// last NFS mount in mountstats.
func operations() (version string, names []string, err error) {
	f, err := os.Open("/proc/self/mountstats")
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	counting := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		switch _, after, found := strings.Cut(text, "p/v: 100003/"); {
		case found:
			version, names, counting = after[:1], nil, false
		case strings.HasPrefix(text, "per-op"):
			counting = true
		case !strings.Contains(text, ":") || strings.HasPrefix(text, "device "):
			counting = false
		case counting:
			names = append(names, text[:strings.IndexByte(text, ':')])
		}
	}
	if len(names) == 0 {
		return "", nil, fmt.Errorf("there is no NFS mount to learn the names of operations from")
	}
	return version, names, lines.Err()
}

// withoutRenewals omits the operations that renew the client's lease: they depend on time, not on calls,
// and count for every mount of the server.
func withoutRenewals(c lab.Counts) lab.Counts {
	for _, kind := range []string{"SEQUENCE", "RENEW"} {
		delete(c.ByKind, kind)
	}
	return c
}
