// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// named returns a Kernel on which the name "nas" has these addresses. All of them answer except
// those in silent.
func named(addresses, silent string, table ...Entry) *Kernel {
	return &Kernel{
		table: tableOf(table...),
		resolve: func(_ context.Context, network, host string) (all []netip.Addr, err error) {
			if host != "nas" {
				return nil, errors.New("no such host")
			}
			for _, a := range strings.Fields(addresses) {
				if a := netip.MustParseAddr(a); network != "ip4" || a.Is4() {
					all = append(all, a)
				}
			}
			return all, nil
		},
		Answers: func(_ context.Context, server string, _ []string) error {
			if slices.Contains(strings.Fields(silent), server) {
				return errors.New("silent")
			}
			return nil
		},
	}
}

func TestWithAddress(t *testing.T) {
	used := Entry{Type: "nfs4", Super: []string{"vers=4.2", "addr=10.0.0.2"}}
	for _, c := range []struct {
		addresses, silent, source, options string
		table                              []Entry
		want, address                      string
	}{
		{addresses: "10.0.0.1", source: "nas:/x", want: "nas:/x"},
		{addresses: "10.0.0.1 10.0.0.2", source: "nas:/x", want: "10.0.0.1:/x"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.1", source: "nas:/x", want: "10.0.0.2:/x"},
		{addresses: "10.0.0.1 fd00::2", silent: "10.0.0.1", source: "nas:/x", want: "[fd00::2]:/x"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.1 10.0.0.2", source: "nas:/x", want: "nas:/x"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.3", source: "10.0.0.3:/x", want: "10.0.0.3:/x"},
		{addresses: "10.0.0.1 10.0.0.2", source: "unknown:/x", want: "unknown:/x"},

		{addresses: "fd00::1 10.0.0.2 10.0.0.3", source: "nas:/x", options: "proto=tcp", want: "10.0.0.2:/x"},
		{addresses: "10.0.0.2 fd00::1 fd00::2", silent: "fd00::1", source: "nas:/x", options: "proto=tcp6", want: "[fd00::2]:/x"},

		// An address in use is preferred if it answers.
		{addresses: "10.0.0.1 10.0.0.2", source: "nas:/x", table: []Entry{used}, want: "10.0.0.2:/x"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.2", source: "nas:/x", table: []Entry{used}, want: "10.0.0.1:/x"},

		// The name stays if Kerberos or TLS needs it.
		{addresses: "10.0.0.1 10.0.0.2", source: "nas:/x", options: "sec=krb5p", want: "nas:/x", address: "10.0.0.1"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.1", source: "nas:/x", options: "sec=krb5p", want: "nas:/x", address: "10.0.0.2"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.1", source: "nas:/x", options: "nfsvers=4.1,xprtsec=tls", want: "nas:/x", address: "10.0.0.2"},
		{addresses: "10.0.0.1 10.0.0.2", silent: "10.0.0.1", source: "nas:/x", options: "nfsvers=3,sec=krb5", want: "nas:/x"},
		{addresses: "10.0.0.1 10.0.0.2", source: "nas:/x", options: "sec=krb5", table: []Entry{used}, want: "nas:/x", address: "10.0.0.2"},
	} {
		k := named(c.addresses, c.silent, c.table...)
		a := k.withAddress(context.Background(), attempt{source: c.source, options: strings.Split(c.options, ",")})
		if a.source != c.want || a.address != c.address {
			t.Errorf("%s (%s silent), %s of %s: got %q at %q, want %q at %q", c.addresses, c.silent, c.options, c.source, a.source, a.address, c.want, c.address)
		}
	}
	if a := new(Kernel).withAddress(context.Background(), attempt{source: "nas:/x"}); a.source != "nas:/x" {
		t.Errorf("without Answers the source is %q", a.source)
	}
}

// TestMountWithAddress checks the arguments of mount(8) after an address was chosen.
func TestMountWithAddress(t *testing.T) {
	for options, want := range map[string]string{
		"retry=0,nfsvers=4.2":          "-n -t nfs -o retry=0,nfsvers=4.2 10.0.0.2:/x",
		"retry=0,nfsvers=4.1,sec=krb5": "-n -i -t nfs4 -o sec=krb5,nfsvers=4.1,addr=10.0.0.2 nas:/x",
		"retry=0,sec=krb5":             "-n -i -t nfs4 -o sec=krb5,nfsvers=4.2,addr=10.0.0.2 nas:/x|-n -i -t nfs4 -o sec=krb5,nfsvers=4.1,addr=10.0.0.2 nas:/x|-n -i -t nfs4 -o sec=krb5,nfsvers=4.0,addr=10.0.0.2 nas:/x",
		"retry=0,nfsvers=3,sec=krb5":   "-n -t nfs -o retry=0,nfsvers=3,sec=krb5 nas:/x",
	} {
		log, target := filepath.Join(t.TempDir(), "log"), t.TempDir()
		program(t, `printf "%s\n" "$*" >>`+log+`; echo "mount: Protocol not supported" >&2; exit 32`)
		k := named("10.0.0.1 10.0.0.2", "10.0.0.1")
		err := k.Mount(context.Background(), Spec{Source: "nas:/x", Target: target, Options: strings.Split(options, ",")})
		if cause, _ := CauseOf(err); cause != NoVersion {
			t.Errorf("%s: %v", options, err)
		}
		want = strings.ReplaceAll(want, "|", " "+target+"\n") + " " + target
		if got := read(t, log); got != want {
			t.Errorf("%s: mount was run with\n%s\nwant\n%s", options, got, want)
		}
	}
}
