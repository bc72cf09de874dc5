// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// answerer is a fake RPC server. It has one answer for each program, version and procedure.
type answerer struct {
	t       *testing.T
	port    string
	answers map[[3]uint32][]byte // replies, starting with the verifier
	cuts    int                  // the number of fragments of a reply
	creds   []uint32             // flavors of the received credentials
}

func newAnswerer(t *testing.T, address string) *answerer {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("no %s here: %v", address, err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	a := &answerer{t: t, port: port, answers: map[[3]uint32][]byte{}, cuts: 1}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.serve(conn)
		}
	}()
	return a
}

func (a *answerer) serve(conn net.Conn) {
	defer conn.Close()
	call, err := readRecord(conn)
	if err != nil {
		a.t.Errorf("the call is not a record: %v", err)
		return
	}
	r := &reader{rest: call}
	xid, kind, rpc := r.uint32(), r.uint32(), r.uint32()
	what := [3]uint32{r.uint32(), r.uint32(), r.uint32()}
	a.creds = append(a.creds, r.uint32())
	if kind != 0 || rpc != 2 || r.err != nil {
		a.t.Errorf("the call is %x", call)
	}
	result, ok := a.answers[what]
	if !ok {
		return // hang up
	}
	reply := append(appendUint32s(nil, xid, 1), result...)
	for piece := range slices.Chunk(reply, (len(reply)+a.cuts-1)/a.cuts) {
		head := uint32(len(piece))
		reply = reply[len(piece):]
		if len(reply) == 0 {
			head |= 1 << 31
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, head), piece...)); err != nil {
			a.t.Error(err)
		}
	}
}

// accepted returns the beginning of an accepted reply, without a verifier.
func accepted(status uint32, more ...uint32) []byte {
	return appendUint32s(nil, slices.Concat([]uint32{0, 0, 0, status}, more)...)
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

var (
	getPort = [3]uint32{100000, 2, 3}
	getAddr = [3]uint32{100000, 4, 3}
	exportL = [3]uint32{100005, 3, 5}
)

func number(port string) (n uint32) {
	for _, c := range port {
		n = n*10 + uint32(c-'0')
	}
	return n
}

func TestExports(t *testing.T) {
	list := accepted(0, 1)
	list = appendString(list, "/export/kubernetes")
	list = appendString(appendUint32s(list, 1), "10.0.0.0/24")
	list = appendString(appendUint32s(list, 1), "nas.example.com")
	list = appendUint32s(list, 0)
	list = appendUint32s(appendString(appendUint32s(list, 1), "/all"), 0)
	list = appendUint32s(list, 0)
	want := []Export{{"/export/kubernetes", []string{"10.0.0.0/24", "nas.example.com"}}, {"/all", nil}}

	for _, c := range []struct {
		name  string
		reply []byte
		cuts  int
		want  []Export
		says  string
	}{
		{"a list", list, 1, want, ""},
		{"in fragments", list, 7, want, ""},
		{"an empty list", accepted(0, 0), 1, nil, ""},
		{"cut short", list[:len(list)-6], 1, nil, "list of exports: unexpected EOF"},
		{"a path without end", accepted(0, 1, 1<<30), 1, nil, "the reply is too long"},
		{"another version", accepted(2, 1, 2), 1, nil, "supports versions 1 to 2, not 3"},
		{"no such program", accepted(1), 1, nil, "it has no mountd"},
		{"no such procedure", accepted(3), 1, nil, "does not understand the call (3)"},
		{"denied", appendUint32s(nil, 1, 1, 5), 1, nil, "refuses the credentials"},
		{"nothing", nil, 1, nil, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rpcbind, mountd := newAnswerer(t, "127.0.0.1:0"), newAnswerer(t, "127.0.0.1:0")
			rpcbind.answers[getPort] = accepted(0, number(mountd.port))
			mountd.answers[exportL], mountd.cuts = c.reply, c.cuts
			got, err := exports(soon(t), "127.0.0.1", rpcbind.port)
			if c.says == "" && (err != nil || !reflect.DeepEqual(got, c.want)) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("the exports are %q, %v", got, err)
			}
			if !slices.Equal(rpcbind.creds, []uint32{0}) || !slices.Equal(mountd.creds, []uint32{1}) {
				t.Errorf("the credentials are %d and %d, want none for rpcbind and root's for mountd", rpcbind.creds, mountd.creds)
			}
		})
	}
}

func TestNotRegistered(t *testing.T) {
	rpcbind := newAnswerer(t, "127.0.0.1:0")
	for _, reply := range [][]byte{accepted(0, 0), accepted(0, 65536), accepted(1)} {
		rpcbind.answers[getPort] = reply
		if _, err := exports(soon(t), "127.0.0.1", rpcbind.port); !errors.Is(err, ErrNotRegistered) {
			t.Errorf("without mountd the error is %v", err)
		}
		if err := pingProgram(soon(t), "127.0.0.1", rpcbind.port, statdProgram, 1); !errors.Is(err, ErrNotRegistered) {
			t.Errorf("without statd the error is %v", err)
		}
	}
	delete(rpcbind.answers, getPort)
	if err := pingProgram(soon(t), "127.0.0.1", rpcbind.port, statdProgram, 1); err == nil || errors.Is(err, ErrNotRegistered) {
		t.Errorf("if rpcbind closes the connection the error is %v", err)
	}
}

// TestStatd uses a registered statd that runs or does not run.
func TestStatd(t *testing.T) {
	rpcbind, daemon := newAnswerer(t, "127.0.0.1:0"), newAnswerer(t, "127.0.0.1:0")
	rpcbind.answers[getPort] = accepted(0, number(daemon.port))
	daemon.answers[[3]uint32{100024, 1, 0}] = accepted(0)
	if err := pingProgram(soon(t), "127.0.0.1", rpcbind.port, statdProgram, 1); err != nil {
		t.Error(err)
	}
	delete(daemon.answers, [3]uint32{100024, 1, 0})
	if err := pingProgram(soon(t), "127.0.0.1", rpcbind.port, statdProgram, 1); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("if statd closes the connection the error is %v", err)
	}
}

// TestUniversalAddress calls an rpcbind over IPv6, which does not support version 2.
func TestUniversalAddress(t *testing.T) {
	rpcbind := newAnswerer(t, "[::1]:0")
	rpcbind.answers[getPort] = accepted(2, 3, 4)
	for address, want := range map[string]string{"::.8.1": "2049", "fe80::1.0.111": "111", "": ""} {
		rpcbind.answers[getAddr] = appendString(accepted(0), address)
		got, err := portOf(soon(t), "::1", rpcbind.port, 100003, 3)
		if got != want || (want == "") != errors.Is(err, ErrNotRegistered) {
			t.Errorf("the port in %q is %q, %v", address, got, err)
		}
	}
}

// TestRPCCancel calls a server that does not answer: the call ends with its context.
func TestRPCCancel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := exports(ctx, "127.0.0.1", port)
		done <- err
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("the call succeeded")
		}
	case <-time.After(time.Minute):
		t.Error("the call did not end with its context")
	}
}

// FuzzReply decodes arbitrary replies.
func FuzzReply(f *testing.F) {
	f.Add(accepted(0, 1, 4, 0, 0, 0))
	f.Add(accepted(2, 1, 2))
	f.Add(appendUint32s(nil, 0, 1, 1<<31))
	f.Fuzz(func(t *testing.T, reply []byte) {
		r := &reader{rest: reply}
		err := r.accepted(call{program: mountProgram, version: 3})
		if err == nil && len(reply) < 16 {
			t.Errorf("%x is accepted", reply)
		}
		if s := r.string(); len(s) > maxString {
			t.Errorf("%x has a string of %d bytes", reply, len(s))
		}
	})
}

func TestLocalAddress(t *testing.T) {
	if got := LocalAddress("127.0.0.1"); got != "127.0.0.1" {
		t.Errorf("the local address is %q", got)
	}
}
