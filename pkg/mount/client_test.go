// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestVersionOf(t *testing.T) {
	for options, want := range map[string]string{
		"": "", "hard": "", "nfsvers=4.2": "4.2", "vers=3": "3", "v3": "3", "v4.1": "4.1", "nfsvers=4": "", "v4": "", "nfsvers=3 vers=4.0": "4.0",
	} {
		if got := versionOf(strings.Fields(options)); got != want {
			t.Errorf("%q is version %q, want %q", options, got, want)
		}
	}
	for _, asked := range []string{"", "4.1", "4.2"} {
		if others := otherVersions(asked); slices.Contains(others, asked) || slices.Contains(others, "4.2") && asked == "" {
			t.Errorf("if pods use %q, the other versions are %q", asked, others)
		}
	}
}

func TestMappedAttempts(t *testing.T) {
	k := &Kernel{}
	for _, c := range []struct{ source, options, want, with string }{
		{"10.0.0.9:/a/b", "", "[::ffff:10.0.0.9]:/a/b", "nfsvers=4"},
		{"10.0.0.9:/a", "nfsvers=4.1 proto=tcp", "[::ffff:10.0.0.9]:/a", "nfsvers=4.1 proto=tcp6"},
		{"[::ffff:10.0.0.9]:/a", "vers=4.2 tcp", "[::ffff:10.0.0.9]:/a", "vers=4.2 proto=tcp6"},
		{"localhost:/a", "vers=4.2", "[::ffff:127.0.0.1]:/a", "vers=4.2"},
		{"[fd00::9]:/a", "", "", ""},
		{"10.0.0.9:/a", "sec=krb5p", "", ""},
		{"localhost:/a", "xprtsec=tls", "localhost:/a", "xprtsec=tls nfsvers=4"},
		{"localhost:/a", "xprtsec=tls sec=krb5", "", ""},
		{"localhost:/a", "sec=sys:krb5", "", ""},
		{"10.0.0.9:/a", "sec=sys xprtsec=none vers=4.2", "[::ffff:10.0.0.9]:/a", "sec=sys xprtsec=none vers=4.2"},
		{"10.0.0.9:/a", "proto=rdma", "", ""},
		{"10.0.0.9:/a", "udp", "", ""},
	} {
		attempts, why := k.mappedAttempts(context.Background(), Spec{Source: c.source, Options: strings.Fields(c.options)})
		if c.want == "" {
			if len(attempts) > 0 || why == "" {
				t.Errorf("%s %s: got %v (%q), want none", c.source, c.options, attempts, why)
			}
			continue
		}
		if len(attempts) == 0 || attempts[0].source != c.want || strings.Join(attempts[0].options, " ") != c.with || attempts[0].host == "" {
			t.Errorf("%s %s: %v (%s)", c.source, c.options, attempts, why)
			continue
		}
		if named := attempts[0].source == c.source && !strings.HasPrefix(c.source, "["); named != (attempts[0].address == "::ffff:127.0.0.1") {
			t.Errorf("%s %s: the address is %q", c.source, c.options, attempts[0].address)
		}
	}
}

// TestMappedHosts checks that the controller's mounts with and without TLS are different clients:
// see TestTLSController.
func TestMappedHosts(t *testing.T) {
	hosts := map[string]string{}
	for _, policy := range []string{"none", "tls", "mtls"} {
		attempts, why := new(Kernel).mappedAttempts(context.Background(), Spec{Source: "localhost:/a", Options: []string{"xprtsec=" + policy}})
		if len(attempts) == 0 {
			t.Fatal(why)
		}
		host := attempts[0].host
		if other, taken := hosts[host]; taken {
			t.Errorf("xprtsec=%s and %s have the host name %s", policy, other, host)
		}
		hosts[host] = policy
	}
}

func TestClientName(t *testing.T) {
	name, err := clientName("mooring")
	if err != nil || len(name) > maxHostname || !strings.HasSuffix(name, ".mooring") {
		t.Errorf("%q, %v", name, err)
	}
	if host, _ := os.Hostname(); name == host {
		t.Errorf("clientName returns the machine's name")
	}
	if again, _ := clientName("mooring"); again != name {
		t.Errorf("clientName returns %q, then %q", name, again)
	}
}

// TestHostnameWithTLS checks that mounts with TLS are separate clients: otherwise they share the
// connection of a mount without TLS (tls_lab_test.go).
func TestHostnameWithTLS(t *testing.T) {
	names := map[string]string{}
	for _, c := range []struct {
		options string
		own     bool
	}{
		{"", false}, {"nfsvers=4.2", false}, {"nfsvers=4.2 xprtsec=none", false}, {"xprtsec=tls", false}, {"nfsvers=3 xprtsec=tls", false},
		{"nfsvers=4 xprtsec=tls", true}, {"vers=4 minorversion=1 xprtsec=tls", true}, {"nfsvers=4.2 xprtsec=mtls", true},
	} {
		name, err := Spec{}.hostname(strings.Fields(c.options))
		if err != nil || (name != "") != c.own {
			t.Errorf("%q: the host name is %q, %v", c.options, name, err)
		}
		names[c.options] = name
	}
	if names["nfsvers=4 xprtsec=tls"] == names["nfsvers=4.2 xprtsec=mtls"] || names["nfsvers=4 xprtsec=tls"] != names["vers=4 minorversion=1 xprtsec=tls"] {
		t.Errorf("the host names are %q", names)
	}
}

// TestSeveralAddresses checks that each address of a server is another client, for pods and for the
// controller.
func TestSeveralAddresses(t *testing.T) {
	hosts := map[string]bool{}
	for _, server := range []string{"10.0.0.1", "10.0.0.2"} {
		for _, options := range []string{"nfsvers=4.2", "nfsvers=4.2 xprtsec=tls"} {
			s := Spec{Source: server + ":/x", Options: strings.Fields(options), MultipleAddresses: true}
			host, err := s.hostname(s.Options)
			attempts, why := new(Kernel).mappedAttempts(context.Background(), s)
			if err != nil || len(attempts) == 0 {
				t.Fatal(err, why)
			}
			hosts[host], hosts[attempts[0].host] = true, true
		}
	}
	if len(hosts) != 8 || hosts[""] {
		t.Errorf("the host names are %v", hosts)
	}
	if host, _ := (Spec{Source: "10.0.0.1:/x", MultipleAddresses: true}).hostname([]string{"nfsvers=3"}); host != "" {
		t.Errorf("with NFSv3 the host name is %q", host)
	}
}

// TestMappedAnswers checks that the controller uses the address that answers.
func TestMappedAnswers(t *testing.T) {
	attempts, why := named("10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.1").mappedAttempts(context.Background(), Spec{Source: "nas:/x"})
	if len(attempts) != 1 || attempts[0].source != "[::ffff:10.0.0.2]:/x" {
		t.Errorf("%v (%s)", attempts, why)
	}
	attempts, why = named("10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2").mappedAttempts(context.Background(), Spec{Source: "nas:/x"})
	if len(attempts) != 2 {
		t.Errorf("no address answers: %v (%s)", attempts, why)
	}
}
