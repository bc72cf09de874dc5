// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// nas is a fake server: it answers pings after a while, or not at all, and counts them.
type nas struct {
	takes atomic.Int64
	asked atomic.Int64
	err   error
}

func (n *nas) ask(ctx context.Context, _ Endpoint) error {
	n.asked.Add(1)
	select {
	case <-time.After(time.Duration(n.takes.Load())):
		return n.err
	case <-ctx.Done():
		return volume.Errorf(volume.ErrUnavailable, "no answer (%w)", ctx.Err())
	}
}

// check calls Check, and checks the time that it takes and its result.
func check(t *testing.T, s *Servers, wait time.Duration, up bool) time.Duration {
	t.Helper()
	start := time.Now()
	took, err := s.Check(context.Background(), EndpointOf("nas", nil))
	if d := time.Since(start); d != wait {
		t.Errorf("the answer took %v, want %v", d, wait)
	}
	if (err == nil) != up || err != nil && volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("the answer is %v", err)
	}
	return took
}

func TestServerUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{}
		n.takes.Store(int64(time.Second))
		s := NewServers(n.ask)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { check(t, s, time.Second, true) })
		}
		all.Wait()
		if took := check(t, s, 0, true); took != time.Second || n.asked.Load() != 1 {
			t.Errorf("the latency is %v after %d pings", took, n.asked.Load())
		}
		time.Sleep(upTTL + 1)
		check(t, s, time.Second, true)
		if got := s.Status(); len(got) != 1 || got[0] != (ServerStatus{"nas:2049", true, time.Second}) {
			t.Errorf("its status is %+v", got)
		}
	})
}

// TestServerSilent checks that only the first caller waits until the server is back.
func TestServerSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{}
		n.takes.Store(int64(time.Hour))
		s := NewServers(n.ask)
		check(t, s, serverTimeout, false)
		check(t, s, 0, false)
		time.Sleep(pingTimeout - serverTimeout + 1)
		check(t, s, 0, false) // the absence is still valid
		if n.asked.Load() != 1 || s.Status()[0].Up {
			t.Errorf("got %d pings; %+v", n.asked.Load(), s.Status())
		}
		n.takes.Store(0)
		time.Sleep(downTTL + 1)
		check(t, s, 0, true)
		n.takes.Store(int64(time.Hour)) // the server stops answering
		time.Sleep(upTTL + 1)
		check(t, s, serverTimeout, false)
		if s.Status()[0].Up {
			t.Errorf("the server is up: %+v", s.Status())
		}
		time.Sleep(pingTimeout)
	})
}

func TestServerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{err: volume.Errorf(volume.ErrUnavailable, "refused")}
		s := NewServers(n.ask)
		check(t, s, 0, false)
		check(t, s, 0, false)
		if n.asked.Load() != 1 {
			t.Errorf("got %d pings", n.asked.Load())
		}
	})
}

// TestServerSlow uses a server that answers later than callers wait: once this is known, the server
// counts as slow and not as dead.
func TestServerSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{}
		n.takes.Store(int64(10 * time.Second))
		s := NewServers(n.ask)
		check(t, s, serverTimeout, false)
		time.Sleep(10 * time.Second)
		for range 4 {
			if took := check(t, s, 0, true); took != 10*time.Second {
				t.Errorf("the latency is %v", took)
			}
			time.Sleep(upTTL + 1)
		}
		n.takes.Store(int64(time.Hour))
		time.Sleep(slowTTL)
		check(t, s, serverTimeout, false)
		time.Sleep(pingTimeout)
	})
}

// TestServerForgotten checks that no server is kept forever, and that each caller has its own
// timeout.
func TestServerForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{}
		s := NewServers(n.ask)
		check(t, s, 0, true)
		time.Sleep(idleTTL + 1)
		n.takes.Store(int64(time.Hour))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := s.Check(ctx, EndpointOf("other", nil)); volume.Kind(err) != volume.ErrUnavailable {
			t.Errorf("the answer is %v", err)
		}
		if len(s.servers) != 1 {
			t.Errorf("got %d servers", len(s.servers))
		}
		if _, err := s.Check(ctx, Endpoint{}); err != nil {
			t.Errorf("the zero Endpoint: %v", err)
		}
		time.Sleep(pingTimeout)
	})
}

// TestStatusForgets has the last caller of a dead server leave: the server does not stay down forever.
func TestStatusForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServers(func(context.Context, Endpoint) error { return errors.New("dead") })
		_, _ = s.Check(t.Context(), EndpointOf("nas", nil))
		if got := s.Status(); len(got) != 1 || got[0].Up {
			t.Errorf("the status is %+v", got)
		}
		time.Sleep(idleTTL + 1)
		if got := s.Status(); len(got) != 0 {
			t.Errorf("without callers the status is %+v", got)
		}
	})
}

// TestUnlisted asks a server that the status does not have.
func TestUnlisted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServers(func(context.Context, Endpoint) error { return errors.New("dead") })
		if _, err := s.Unlisted().Check(t.Context(), EndpointOf("nas", nil)); err == nil || len(s.Status()) != 0 {
			t.Errorf("the error is %v, the status %+v", err, s.Status())
		}
	})
}

func TestEndpointOf(t *testing.T) {
	for _, c := range []struct {
		server, options, address string
		version                  uint32
	}{
		{"nas", "", "nas:2049", 4},
		{"fd00::1", "rw,hard", "[fd00::1]:2049", 4},
		{"nas", "vers=3", "nas:2049", 3},
		{"nas", "nfsvers=3,port=1234", "nas:1234", 4},
		{"nas", "vers=4.2,port=0,proto=tcp6,addr=10.0.0.1", "10.0.0.1:2049", 4},
		{"nas", "proto=rdma", "", 0},
		{"nas", "udp", "", 0},
	} {
		if e := EndpointOf(c.server, strings.Split(c.options, ",")); e != (Endpoint{c.address, c.version}) {
			t.Errorf("the endpoint of %s with %s is %+v", c.server, c.options, e)
		}
	}
}

// TestNull pings an NFS server and other services.
func TestNull(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(net.Conn, [11]uint32)
		says  string // of the error
	}{
		{"a server", func(c net.Conn, call [11]uint32) {
			_ = binary.Write(c, binary.BigEndian, []uint32{1<<31 | 24, call[1], 1, 0, 0, 0, 0})
		}, ""},
		{"one that denies", func(c net.Conn, call [11]uint32) {
			_ = binary.Write(c, binary.BigEndian, []uint32{1<<31 | 20, call[1], 1, 1, 1, 1})
		}, ""},
		{"another protocol", func(c net.Conn, _ [11]uint32) { _, _ = c.Write([]byte("220 welcome to this server\r\n")) }, "is no NFS server"},
		{"one that hangs up", func(net.Conn, [11]uint32) {}, "closed the connection"},
		{"one that says nothing", func(c net.Conn, _ [11]uint32) { _, _ = c.Read(make([]byte, 1)) }, "timeout"}, // until the caller gives up
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				var call [11]uint32
				if binary.Read(conn, binary.BigEndian, &call) == nil && call[4] == nfsProgram && call[6] == 0 {
					c.serve(conn, call)
				}
			}()
			timeout := time.Minute
			if c.says == "timeout" {
				timeout = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			err = Ping(ctx, Endpoint{l.Addr().String(), 4})
			if c.says == "" && err != nil || c.says != "" && (volume.Kind(err) != volume.ErrUnavailable || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	err = Ping(context.Background(), Endpoint{l.Addr().String(), 4})
	if !strings.Contains(err.Error(), "no NFS service listens there") {
		t.Errorf("nothing listens: the error is %v", err)
	}
	err = Ping(context.Background(), EndpointOf("no-such-host.invalid", nil))
	var dns *net.DNSError
	if !errors.As(err, &dns) || !strings.Contains(err.Error(), "does not resolve") {
		t.Errorf("the name does not resolve: the error is %v", err)
	}
}

// TestInvalidate uses a server that stops right after an answer: the caller that invalidates the
// answer waits once.
func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{}
		s := NewServers(n.ask)
		s.Invalidate(EndpointOf("nas", nil)) // an unknown server
		check(t, s, 0, true)
		n.takes.Store(int64(time.Hour))
		check(t, s, 0, true)
		s.Invalidate(EndpointOf("nas", nil))
		s.Invalidate(EndpointOf("nas", nil))
		check(t, s, serverTimeout, false)
		if n.asked.Load() != 2 {
			t.Errorf("got %d pings", n.asked.Load())
		}
		time.Sleep(pingTimeout)
	})
}

// TestWatch uses a server that dies during work: the context ends, with the reason.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nas{}
		s := NewServers(n.ask)
		e := EndpointOf("nas", nil)
		watched, stop := s.Watch(context.Background(), e)
		time.Sleep(time.Minute)
		if watched.Err() != nil {
			t.Fatalf("the context ended with %v", context.Cause(watched))
		}
		n.takes.Store(int64(time.Hour))
		start := time.Now()
		<-watched.Done()
		if took := time.Since(start); took > upTTL+watchInterval+serverTimeout || volume.Kind(context.Cause(watched)) != volume.ErrUnavailable {
			t.Errorf("the context ended after %v with %v", took, context.Cause(watched))
		}
		stop()
		time.Sleep(pingTimeout)
		n.takes.Store(0)
		asked := n.asked.Load()
		watched, stop = s.Watch(context.Background(), e)
		stop()
		<-watched.Done()
		time.Sleep(time.Minute)
		if volume.Kind(context.Cause(watched)) != nil || n.asked.Load() != asked {
			t.Errorf("after stop the cause is %v, with %d more pings", context.Cause(watched), n.asked.Load()-asked)
		}
	})
}

// TestAnyOf uses a name with two addresses, the first of which does not answer.
func TestAnyOf(t *testing.T) {
	refused, silent := errors.New("refused"), errors.New("silent")
	ask := func(ctx context.Context, address string) error {
		switch address {
		case "good":
			return nil
		case "refuses":
			return refused
		}
		<-ctx.Done() // anyOf returns when another address answers
		return silent
	}
	for addresses, want := range map[string]error{"good": nil, "silent good": nil, "good silent": nil, "refuses good": nil, "refuses": refused, "refuses refuses": refused} {
		if err := anyOf(context.Background(), strings.Fields(addresses), ask); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", addresses, err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := anyOf(ctx, []string{"silent", "refuses"}, ask); !errors.Is(err, silent) {
		t.Errorf("no address answers: %v", err)
	}
}
