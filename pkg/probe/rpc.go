// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// ONC RPC (RFC 5531) programs.
const (
	rpcbindProgram = 100000
	nfsProgram     = 100003
	mountProgram   = 100005
	lockdProgram   = 100021
	statdProgram   = 100024
)

const (
	// maxReply is far larger than the export list of a server with thousands of exports.
	maxReply = 4 << 20
	// maxString bounds a path or a host name in such a list (RFC 1813, section 5.1.3).
	maxString = 1024
)

// ErrNotRegistered: rpcbind answers, but the program is not registered with it.
var ErrNotRegistered = errors.New("it is not registered with rpcbind")

// callNull connects and calls the NULL procedure. Any RPC reply counts as an answer.
func callNull(ctx context.Context, address string, program, version uint32) error {
	_, _, err := exchange(ctx, address, call{program: program, version: version})
	return err
}

// call is one remote procedure call.
type call struct {
	program, version, procedure uint32
	asRoot                      bool // use AUTH_SYS, which some programs require, instead of no credentials
	args                        []byte
}

// invoke makes a call on a new connection, and returns the result and the server's address.
func invoke(ctx context.Context, address string, c call) (*reader, net.Addr, error) {
	reply, peer, err := exchange(ctx, address, c)
	if err != nil {
		return nil, peer, err
	}
	return reply, peer, reply.accepted(c)
}

// exchange sends a call, and reads a reply with the same xid.
func exchange(ctx context.Context, address string, c call) (*reader, net.Addr, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return nil, nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	xid := rand.Uint32()
	if _, err := conn.Write(c.encode(xid)); err != nil {
		return nil, nil, err
	}
	notRPC := fmt.Errorf("what listens on %s is no %s", address, programName(c.program))
	reply, err := readRecord(conn)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil, errors.New("it closed the connection")
	case errors.Is(err, errTooLong):
		return nil, nil, notRPC
	case err != nil:
		return nil, nil, err
	}
	r := &reader{rest: reply}
	if r.uint32() != xid || r.uint32() != 1 || r.err != nil {
		return nil, nil, notRPC
	}
	return r, conn.RemoteAddr(), nil
}

func programName(program uint32) string {
	switch program {
	case nfsProgram:
		return "NFS server"
	case rpcbindProgram:
		return "rpcbind"
	case mountProgram:
		return "mountd"
	}
	return "RPC server"
}

// encode returns the call as one record of one fragment (RFC 5531, sections 9 and 11).
func (c call) encode(xid uint32) []byte {
	b := appendUint32s(nil, 0, xid, 0, 2, c.program, c.version, c.procedure)
	if c.asRoot {
		b = appendUint32s(b, 1, 20, 0, 0, 0, 0, 0) // AUTH_SYS: stamp, no machine name, uid 0, gid 0, no groups
	} else {
		b = appendUint32s(b, 0, 0)
	}
	b = append(appendUint32s(b, 0, 0), c.args...) // no verifier
	binary.BigEndian.PutUint32(b, 1<<31|uint32(len(b)-4))
	return b
}

func appendUint32s(b []byte, all ...uint32) []byte {
	for _, n := range all {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// appendString appends a string in XDR (RFC 4506, section 4.11).
func appendString(b []byte, s string) []byte {
	b = append(appendUint32s(b, uint32(len(s))), s...)
	return append(b, make([]byte, -len(s)&3)...)
}

var errTooLong = errors.New("the reply is too long")

// readRecord reads one record, of any number of fragments.
func readRecord(from io.Reader) ([]byte, error) {
	var all []byte
	for {
		var head uint32
		if err := binary.Read(from, binary.BigEndian, &head); err != nil {
			return nil, err
		}
		n := int(head &^ (1 << 31))
		if len(all)+n > maxReply {
			return nil, errTooLong
		}
		fragment := make([]byte, n)
		if _, err := io.ReadFull(from, fragment); err != nil {
			return nil, err
		}
		all = append(all, fragment...)
		if head>>31 == 1 {
			return all, nil
		}
	}
}

// reader decodes a reply. After an error it returns zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail(io.ErrUnexpectedEOF)
		return make([]byte, min(n, maxString))
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// fail stops the decoding; the first error is kept.
func (r *reader) fail(err error) {
	r.rest, r.err = nil, cmp.Or(r.err, err)
}

func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

func (r *reader) string() string {
	n := int(r.uint32())
	if n > maxString {
		r.fail(errTooLong)
		return ""
	}
	s := string(r.take(n))
	r.take(-n & 3)
	return s
}

// accepted decodes the reply up to the result, and returns an error if there is none.
func (r *reader) accepted(c call) error {
	if denied := r.uint32() == 1; denied {
		return fmt.Errorf("the %s refuses the credentials", programName(c.program))
	}
	r.uint32() // the verifier's flavor
	r.take(int(min(r.uint32(), maxString)))
	switch status := r.uint32(); {
	case r.err != nil:
		return r.err
	case status == 1:
		return fmt.Errorf("it has no %s: %w", programName(c.program), ErrNotRegistered)
	case status == 2:
		return fmt.Errorf("its %s supports versions %d to %d, not %d", programName(c.program), r.uint32(), r.uint32(), c.version)
	case status != 0:
		return fmt.Errorf("the %s does not understand the call (%d)", programName(c.program), status)
	}
	return nil
}

// PingRpcbind checks that a server's rpcbind answers.
func PingRpcbind(ctx context.Context, server string) error {
	return callNull(ctx, net.JoinHostPort(server, "111"), rpcbindProgram, 2)
}

// PingStatd checks that rpc.statd is registered with a server's rpcbind, and answers.
func PingStatd(ctx context.Context, server string) error {
	return pingProgram(ctx, server, "111", statdProgram, 1)
}

// PingLockd checks that the lock service of NFSv3 (NLM version 4) is registered with a server's
// rpcbind, and answers. It may still refuse locks.
func PingLockd(ctx context.Context, server string) error {
	return pingProgram(ctx, server, "111", lockdProgram, 4)
}

// pingProgram checks that a program answers on the port that rpcbind returns.
func pingProgram(ctx context.Context, server, rpcbind string, program, version uint32) error {
	port, err := portOf(ctx, server, rpcbind, program, version)
	if err != nil {
		return err
	}
	return callNull(ctx, net.JoinHostPort(server, port), program, version)
}

// portOf asks rpcbind for the TCP port of a program: with version 2 of the rpcbind protocol or,
// over IPv6, which that does not support, with version 4 (RFC 1833).
func portOf(ctx context.Context, server, rpcbind string, program, version uint32) (string, error) {
	const tcp = 6
	address := net.JoinHostPort(server, rpcbind)
	r, peer, err := invoke(ctx, address, call{
		program: rpcbindProgram, version: 2, procedure: 3, args: appendUint32s(nil, program, version, tcp, 0),
	})
	if a, ok := peer.(*net.TCPAddr); ok && a.IP.To4() == nil {
		return universalPort(ctx, address, program, version)
	}
	if err != nil {
		return "", err
	}
	port := r.uint32()
	switch {
	case r.err != nil:
		return "", r.err
	case port == 0 || port > 65535:
		return "", ErrNotRegistered
	}
	return strconv.Itoa(int(port)), nil
}

// universalPort is portOf over IPv6. The answer is an address that ends with the two bytes of the
// port: "::1.8.1" (RFC 5665, section 5.2.3.4).
func universalPort(ctx context.Context, address string, program, version uint32) (string, error) {
	args := appendUint32s(nil, program, version)
	for _, s := range []string{"tcp6", "", ""} {
		args = appendString(args, s)
	}
	r, _, err := invoke(ctx, address, call{program: rpcbindProgram, version: 4, procedure: 3, args: args})
	if err != nil {
		return "", err
	}
	parts := strings.Split(r.string(), ".")
	if r.err != nil || len(parts) < 3 {
		return "", errors.Join(ErrNotRegistered, r.err)
	}
	high, _ := strconv.Atoi(parts[len(parts)-2])
	low, _ := strconv.Atoi(parts[len(parts)-1])
	return strconv.Itoa(high<<8 | low), nil
}

// Export is an export of a server.
type Export struct {
	Path    string
	Clients []string // as the server lists them; none: all clients
}

// Exports asks a server's mountd for its exports, as showmount -e does (RFC 1813, section 5.2.5). A
// server with only NFSv4 may have no mountd: then the error is ErrNotRegistered, or its rpcbind
// does not answer.
func Exports(ctx context.Context, server string) ([]Export, error) {
	return exports(ctx, server, "111")
}

func exports(ctx context.Context, server, rpcbind string) ([]Export, error) {
	port, err := portOf(ctx, server, rpcbind, mountProgram, 3)
	if err != nil {
		return nil, err
	}
	r, _, err := invoke(ctx, net.JoinHostPort(server, port), call{program: mountProgram, version: 3, procedure: 5, asRoot: true})
	if err != nil {
		return nil, err
	}
	var all []Export
	for r.uint32() == 1 {
		e := Export{Path: r.string()}
		for r.uint32() == 1 {
			e.Clients = append(e.Clients, r.string())
		}
		all = append(all, e)
	}
	if r.err != nil {
		return nil, fmt.Errorf("the list of exports: %w", r.err)
	}
	return all, nil
}

// LocalAddress returns the address of this machine that it would use to connect to another address,
// or "". It sends nothing.
func LocalAddress(address string) string {
	conn, err := net.Dial("udp", net.JoinHostPort(address, "2049"))
	if err != nil {
		return ""
	}
	defer conn.Close()
	host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	return host
}
