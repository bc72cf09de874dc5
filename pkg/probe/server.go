// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

const (
	// serverTimeout is how long a caller waits for a server that is asked whether it is there.
	serverTimeout = 3 * time.Second
	// pingTimeout is how long the question itself goes on: an answer that comes so late
	// tells a slow server from a dead one.
	pingTimeout = 20 * time.Second
	// upTTL and downMemory are for how long an answer, or its absence, holds.
	upTTL   = 5 * time.Second
	downTTL = 2 * time.Second
	// slowTTL is for how long a server counts as slow, which then needs no wait.
	slowTTL = time.Minute
	// watchInterval is how often a server is asked while somebody waits for something else of it.
	watchInterval = 2 * time.Second
	// idleTTL is for how long a server is known of that nobody asks for.
	idleTTL = 10 * time.Minute
)

// Servers finds out which NFS servers answer, so that nothing is begun on one that does not.
// Whoever asks costs the server one connection and one NULL call in a few seconds, and waits
// for a dead one once.
type Servers struct {
	ping func(ctx context.Context, e Endpoint) error

	mu      sync.Mutex
	servers map[Endpoint]*server
}

type server struct {
	startedAt time.Time     // when it was asked last
	done      chan struct{} // closed with the answer to that
	inFlight  bool          // there is none yet

	finishedAt time.Time // of the last answer, or of giving up; zero: never
	latency    time.Duration
	err        error
	usedAt     time.Time
}

// NewServers returns Servers that asks with the given function, which has to end when its
// context does: Null in production.
func NewServers(ask func(ctx context.Context, e Endpoint) error) *Servers {
	return &Servers{ping: ask, servers: map[Endpoint]*server{}}
}

// Check returns how long the server took to answer, now or a moment ago. One that does not
// within three seconds is ErrUnavailable; the next to ask then hears so at once.
func (s *Servers) Check(ctx context.Context, e Endpoint) (took time.Duration, err error) {
	if e.Address == "" {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	v := s.servers[e]
	if v == nil {
		s.dropIdle(now)
		v = &server{}
		s.servers[e] = v
	}
	v.usedAt = now
	if now.Sub(v.finishedAt) > v.ttl() {
		s.startPing(e, v)
	}
	if v.inFlight && !v.isSlow(now) {
		done, wait := v.done, time.NewTimer(serverTimeout-now.Sub(v.startedAt))
		s.mu.Unlock()
		select {
		case <-done:
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
		s.mu.Lock()
	}
	switch {
	case v.inFlight && !v.isSlow(time.Now()):
		return 0, volume.Errorf(volume.ErrUnavailable, "the server %s does not answer (for %v so far): check that it runs and that the port is reachable from here", e.Address, time.Since(v.startedAt).Round(100*time.Millisecond))
	case v.inFlight:
		return v.latency, nil
	}
	return v.latency, v.err
}

// Answers is Check for a server that is mounted with these options.
func (s *Servers) Answers(ctx context.Context, server string, options []string) error {
	_, err := s.Check(ctx, EndpointOf(server, options))
	return err
}

// Invalidate has a server asked again that something else waits for, whatever it said a moment ago.
func (s *Servers) Invalidate(e Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.servers[e]; v != nil {
		s.startPing(e, v)
	}
}

// Watch returns a context for work that waits for the server: it ends with ctx, or when the
// server does not answer any more, which then is its cause. stop is to be called after the work.
func (s *Servers) Watch(ctx context.Context, e Endpoint) (watched context.Context, stop context.CancelFunc) {
	watched, end := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(watchInterval)
		defer tick.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-tick.C:
			}
			if _, err := s.Check(watched, e); err != nil {
				end(err)
			}
		}
	}()
	return watched, func() { end(nil) }
}

// startPing asks, unless a question is under way.
func (s *Servers) startPing(e Endpoint, v *server) {
	if v.inFlight {
		return
	}
	v.startedAt, v.done, v.inFlight = time.Now(), make(chan struct{}), true
	go s.runPing(e, v)
}

func (v *server) ttl() time.Duration {
	if v.err != nil {
		return downTTL
	}
	return upTTL
}

// isSlow reports whether the server is known to answer, and to take longer than anybody waits.
func (v *server) isSlow(now time.Time) bool {
	return v.err == nil && v.latency > serverTimeout && now.Sub(v.finishedAt) < slowTTL
}

func (s *Servers) runPing(e Endpoint, v *server) {
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	start := time.Now()
	err := s.ping(ctx, e)
	s.mu.Lock()
	defer s.mu.Unlock()
	v.finishedAt, v.latency, v.err, v.inFlight = time.Now(), time.Since(start), err, false
	close(v.done)
}

// dropIdle drops servers that nobody has asked for in a while.
func (s *Servers) dropIdle(now time.Time) {
	for e, v := range s.servers {
		if !v.inFlight && now.Sub(v.usedAt) > idleTTL {
			delete(s.servers, e)
		}
	}
}

// ServerStatus is what is known of a server.
type ServerStatus struct {
	Address string
	Up      bool
	Took    time.Duration // of its last answer
}

// Status lists the servers that have been asked for in the last minutes.
func (s *Servers) Status() []ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ServerStatus
	for e, v := range s.servers {
		overdue := v.inFlight && time.Since(v.startedAt) >= serverTimeout && !v.isSlow(time.Now())
		if overdue || !v.finishedAt.IsZero() {
			all = append(all, ServerStatus{e.Address, v.err == nil && !overdue, v.latency})
		}
	}
	slices.SortFunc(all, func(a, b ServerStatus) int { return strings.Compare(a.Address, b.Address) })
	return slices.CompactFunc(all, func(a, b ServerStatus) bool { return a.Address == b.Address })
}

// Endpoint is where a server is asked. The zero value is one that cannot be, and counts as up.
type Endpoint struct {
	Address string // host:port
	version uint32 // of NFS; 3 where it is told, as its port may be told by rpcbind alone
}

// EndpointOf returns where the NFS service is that a mount of server with these options
// speaks to (nfs(5)). Over RDMA and UDP it cannot be asked.
func EndpointOf(server string, options []string) Endpoint {
	port, version := "2049", uint32(4)
	given := false
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "port":
			if value != "0" {
				port, given = value, true
			}
		case "addr":
			server = value // as mountinfo has it: what the name was resolved to
		case "proto":
			if !strings.HasPrefix(value, "tcp") {
				return Endpoint{}
			}
		case "rdma", "udp", "udp6":
			return Endpoint{}
		case "v3":
			version = 3
		case "vers", "nfsvers":
			if version = 4; value == "3" {
				version = 3
			}
		}
	}
	if given {
		version = 4
	}
	return Endpoint{Address: net.JoinHostPort(server, port), version: version}
}

// Ping connects and calls the procedure that does nothing (RFC 1813, section 3.3.0), which
// needs no privilege and no file system. That anything answers in RPC's terms is enough,
// and of a name with several addresses that one of them does.
func Ping(ctx context.Context, e Endpoint) error {
	host, port, _ := net.SplitHostPort(e.Address)
	addresses := []string{e.Address}
	if found, err := net.DefaultResolver.LookupHost(ctx, host); err == nil && len(found) > 1 {
		addresses = found
		for i, a := range found {
			addresses[i] = net.JoinHostPort(a, port)
		}
	}
	return anyOf(ctx, addresses, func(ctx context.Context, address string) error {
		return pingAddress(ctx, Endpoint{Address: address, version: e.version})
	})
}

// anyOf asks all addresses at the same time. Where none answers the error is the first one's.
func anyOf(ctx context.Context, addresses []string, ask func(ctx context.Context, address string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		from int
		err  error
	}
	answers := make(chan answer, len(addresses))
	for i, address := range addresses {
		go func() { answers <- answer{i, ask(ctx, address)} }()
	}
	errs := make([]error, len(addresses))
	for range addresses {
		a := <-answers
		if a.err == nil {
			return nil
		}
		errs[a.from] = a.err
	}
	return errs[0]
}

func pingAddress(ctx context.Context, e Endpoint) error {
	err := callNull(ctx, e.Address, nfsProgram, e.version)
	if e.version == 3 && errors.Is(err, syscall.ECONNREFUSED) {
		host, _, _ := net.SplitHostPort(e.Address)
		if port, e := portOf(ctx, host, "111", nfsProgram, 3); e == nil { // as mount(8) would ask
			err = callNull(ctx, net.JoinHostPort(host, port), nfsProgram, 3)
		}
	}
	if err == nil {
		return nil
	}
	advice := "check that it runs and that the port is reachable from here"
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "no NFS service listens there: start it on the server, or open the port"
	case errors.As(err, &dns):
		advice = "the server's name does not resolve: check DNS here, or use its address"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		advice = "check address, route and firewall"
	}
	return volume.Errorf(volume.ErrUnavailable, "the server %s does not answer (%w): %s", e.Address, err, advice)
}
