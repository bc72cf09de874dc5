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
	// serverTimeout is how long a caller waits for the answer of a server.
	serverTimeout = 3 * time.Second
	// pingTimeout bounds the ping itself, which is longer, to distinguish a slow server from a dead
	// one.
	pingTimeout = 20 * time.Second
	// upTTL and downTTL are how long an answer, or its absence, is valid.
	upTTL   = 5 * time.Second
	downTTL = 2 * time.Second
	// slowTTL is how long a server counts as slow; callers do not wait for such a server.
	slowTTL = time.Minute
	// watchInterval is the interval of pings while a caller waits for something else from the
	// server.
	watchInterval = 2 * time.Second
	// idleTTL is how long Servers keeps the state of a server without callers.
	idleTTL = 10 * time.Minute
)

// Servers checks which NFS servers answer, so that the driver begins nothing on one that does not.
// All callers together cost a server one connection and one NULL call in a few seconds, and only
// the first caller waits for a dead server.
type Servers struct {
	ping func(ctx context.Context, e Endpoint) error

	mu      sync.Mutex
	servers map[Endpoint]*server
}

type server struct {
	startedAt time.Time     // of the last ping
	done      chan struct{} // closed when that has ended
	inFlight  bool          // it has not ended

	finishedAt time.Time // of the last ping that ended; zero: none
	latency    time.Duration
	err        error
	usedAt     time.Time
}

// NewServers returns a Servers that pings with the given function, which must return when its
// context ends: Ping in production.
func NewServers(ping func(ctx context.Context, e Endpoint) error) *Servers {
	return &Servers{ping: ping, servers: map[Endpoint]*server{}}
}

// Unlisted returns Servers that ping in the same way. Status does not list what they check.
func (s *Servers) Unlisted() *Servers { return NewServers(s.ping) }

// Check returns how long the server took to answer, now or recently. If the server does not answer
// within three seconds, the error is ErrUnavailable; later callers get it at once.
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

// Invalidate starts a new ping of a server on which another operation hangs, even if the last
// answer is recent.
func (s *Servers) Invalidate(e Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.servers[e]; v != nil {
		s.startPing(e, v)
	}
}

// Watch returns a context for work that waits for the server. It ends with ctx, or when the server
// stops answering, with that error as its cause. Call stop after the work.
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

// startPing starts a ping, unless one is in flight.
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

// isSlow reports whether the server answers, but takes longer than callers wait.
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

// dropIdle drops servers without recent callers.
func (s *Servers) dropIdle(now time.Time) {
	for e, v := range s.servers {
		if !v.inFlight && now.Sub(v.usedAt) > idleTTL {
			delete(s.servers, e)
		}
	}
}

// ServerStatus is the state of a server.
type ServerStatus struct {
	Address string
	Up      bool
	Took    time.Duration // of its last answer
}

// Status lists the servers with recent callers.
func (s *Servers) Status() []ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropIdle(time.Now())
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

// Endpoint is the address of a server's NFS service. The zero value cannot be pinged, and counts as
// up.
type Endpoint struct {
	Address string // host:port
	version uint32 // of NFS; 3 if the options set it, because only rpcbind may have its port
}

// EndpointOf returns the endpoint of the NFS service that a mount of server with these options uses
// (nfs(5)). It returns the zero value for RDMA and UDP.
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
			server = value // in mountinfo: the address of the server's name
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

// Ping connects and calls the NULL procedure (RFC 1813, section 3.3.0), which needs no privilege
// and no file system. Any RPC reply is enough. If the name has several addresses, one that answers
// is enough. The error is ErrUnavailable, and says what to do.
func Ping(ctx context.Context, e Endpoint) error {
	host, port, _ := net.SplitHostPort(e.Address)
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil || len(addresses) < 2 {
		return pingAddress(ctx, e)
	}
	return anyOf(ctx, addresses, func(ctx context.Context, address string) error {
		return pingAddress(ctx, Endpoint{Address: net.JoinHostPort(address, port), version: e.version})
	})
}

// anyOf pings all addresses concurrently. If none answers, it returns the error of the first
// address.
func anyOf(ctx context.Context, addresses []string, ping func(ctx context.Context, address string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		from int
		err  error
	}
	answers := make(chan answer, len(addresses))
	for i, address := range addresses {
		go func() { answers <- answer{i, ping(ctx, address)} }()
	}
	errs := make([]error, len(addresses))
	for range addresses {
		a := <-answers
		if a.err != nil {
			errs[a.from] = a.err
			continue
		}
		return nil
	}
	return errs[0]
}

func pingAddress(ctx context.Context, e Endpoint) error {
	err := callNull(ctx, e.Address, nfsProgram, e.version)
	if e.version == 3 && errors.Is(err, syscall.ECONNREFUSED) {
		host, _, _ := net.SplitHostPort(e.Address)
		if port, e := portOf(ctx, host, "111", nfsProgram, 3); e == nil { // as mount(8) does
			err = callNull(ctx, net.JoinHostPort(host, port), nfsProgram, 3)
		}
	}
	advice := "check that it runs and that the port is reachable from here"
	var dns *net.DNSError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "no NFS service listens there: start it on the server, or open the port"
	case errors.As(err, &dns):
		advice = "the server's name does not resolve: check DNS here, or use its address"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		advice = "check address, route and firewall"
	}
	return volume.Errorf(volume.ErrUnavailable, "the server %s does not answer (%w): %s", e.Address, err, advice)
}
