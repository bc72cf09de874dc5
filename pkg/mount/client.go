// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// All NFSv4 mounts of a server on one machine are one client to that server, even with different
// superblocks. A server does not notify a client of the client's own changes: it recalls no
// delegation for them (RFC 8881, section 10.2). So a mount of the controller would show a directory
// as it was before a pod on the same machine created files in it, and would not see what that pod's
// mount has not written back yet.
//
// The controller therefore mounts as a separate client. A server identifies a Linux client by the
// host name of the first mount and by the minor version (RFC 8881, section 2.4; Linux:
// nfs4_init_uniform_client_string). Linux reuses a client with the same server address, transport and
// minor version in the same network namespace (nfs_match_client). So mount(8) runs in a UTS namespace
// with a separate host name, and gets the server's IPv4 address in its IPv6 form (RFC 4291, section
// 2.5.5.2), which nothing else uses. The packets are still IPv4.
//
// TLS verifies the server's name, so that the kernel gets both then (attempt.address).
//
// If this is not possible, for example because the server has an IPv6 address, a minor version that
// pods do not use has the same effect. Versions before 4.2 have no CLONE and no COPY: the controller
// then copies file data itself.

// A mount with TLS is a separate client for another reason. Before it has a client, the kernel
// connects with TLS (nfs_match_client also compares xprtsec=). But if the server already knows a
// client with this host name, from a mount without TLS, the kernel drops the new connection and uses
// that client instead (nfs4_discover_server_trunking). The mount succeeds without encryption. So
// mount(8) runs with another host name for each kind of encryption.

// Another address of the same server is also a separate client. Otherwise the kernel detects the client
// that it has with the first address, and uses its connection (session trunking; RFC 8881, section
// 2.10.5). A second address is then useless when the first stops answering. So each address of a
// share with several addresses is another client.

// maxHostname is the longest host name that Linux accepts (uname(2)).
const maxHostname = 64

// clientName returns the host name with which a server identifies some mounts of this machine:
// those of the controller, or those with TLS. It is the same after a restart, so that the server
// frees the state of the client from before. It differs between network namespaces, which have
// separate NFS clients.
func clientName(whose string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return "", fmt.Errorf("stat the network namespace: %w", err)
	}
	name := fmt.Sprintf("%s.%d.%s", host, st.Ino, whose)
	if len(name) > maxHostname {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:16]) + "." + whose
	}
	return name, nil
}

// hostname returns the host name for mounts with TLS, and for those of a share with several
// addresses. It returns "" for other mounts, and for NFSv3, which has no clients and identifies
// locks by the host name.
func (s Spec) hostname(options []string) (string, error) {
	whose := s.clientPrefix(options)
	if whose == "" || !strings.HasPrefix(volume.NFSVersion(options), "4") {
		return "", nil
	}
	return clientName(whose + "mooring")
}

// clientPrefix distinguishes the clients of one machine. It is "" or ends with a dot.
func (s Spec) clientPrefix(options []string) (whose string) {
	if policy := ValueOf(options, "xprtsec"); encryptionLevel(policy) >= 0 {
		whose = policy + "."
	}
	if s.MultipleAddresses {
		whose += s.server() + "."
	}
	return whose
}

// mountShared mounts with the NFS client that the machine's other mounts use.
func (k *Kernel) mountShared(ctx context.Context, s Spec) error {
	if s.clientPrefix(s.Options) != "" && volume.NFSVersion(s.Options) == "" {
		// mount.nfs would fall back to NFSv3 with that host name.
		err := k.mountAttempt(ctx, s, attempt{source: s.Source, options: volume.MergeMountOptions(s.Options, []string{"nfsvers=4"})})
		if cause, _ := CauseOf(err); cause != NoVersion {
			return err
		}
	}
	return k.mountAttempt(ctx, s, attempt{source: s.Source, options: s.Options})
}

// attempt is one way to mount a Spec.
type attempt struct {
	source  string
	options []string
	host    string // in a UTS namespace of its own; "": the machine's
	address string // of the server, to mount without mount.nfs; "": mount.nfs resolves the name in source
}

// mountOwnClient mounts with a separate NFS client.
func (k *Kernel) mountOwnClient(ctx context.Context, s Spec) error {
	asked := versionOf(s.Options)
	if asked == "3" { // NFSv3 has no delegations, and closing a file writes it back
		return k.mountAttempt(ctx, s, attempt{source: s.Source, options: s.Options})
	}
	mapped, why := k.mappedAttempts(ctx, s)
	if len(mapped) == 0 {
		return k.mountOtherVersion(ctx, s, asked, why)
	}
	if err := k.mountFirst(ctx, s, mapped); err != nil {
		switch cause, _ := CauseOf(err); {
		case cause == NoVersion && asked == "":
			return k.mountAttempt(ctx, s, attempt{source: s.Source, options: s.Options}) // try NFSv3
		case strings.Contains(err.Error(), "Address family not supported"):
			return k.mountOtherVersion(ctx, s, asked, "this kernel has no IPv6")
		}
		return err
	}
	if table, _ := k.Table(); isMapped(table, targetInTable(s.Target)) {
		return nil
	}
	// The kernel has reused another client.
	if err := k.Unmount(ctx, s.Target); err != nil {
		return err
	}
	return k.mountOtherVersion(ctx, s, asked, "this kernel treats an IPv4 address and its IPv6 form as the same")
}

// mountFirst makes the first of several attempts that succeeds. If a server does not answer at one
// of its addresses, it tries the next one, as mount.nfs does.
func (k *Kernel) mountFirst(ctx context.Context, s Spec, attempts []attempt) (err error) {
	for _, a := range attempts {
		err = k.mountAttempt(ctx, s, a)
		if cause, _ := CauseOf(err); cause != Refused && cause != Unreachable && cause != Silent {
			return err
		}
	}
	return err
}

// mountOtherVersion mounts with another minor version than pods do.
func (k *Kernel) mountOtherVersion(ctx context.Context, s Spec, asked, why string) error {
	var err error
	for _, version := range otherVersions(asked) {
		err = k.mountAttempt(ctx, s, attempt{source: s.Source, options: volume.MergeMountOptions(s.Options, []string{"nfsvers=" + version})})
		if cause, _ := CauseOf(err); cause == NoVersion || cause == NotEncrypted {
			continue
		}
		if err != nil {
			return err
		}
		klog.FromContext(ctx).Info("The share is mounted with another NFS version than pods use, because the controller cannot have a separate NFS client otherwise; before 4.2 the controller copies file data itself", "source", s.Source, "version", version, "because", why)
		return nil
	}
	return err
}

// otherVersions returns the minor versions to try if pods use the requested one; "" is the highest
// that the server supports.
func otherVersions(asked string) []string {
	switch asked {
	case "4.2":
		return []string{"4.1", "4.0"}
	case "4.1":
		return []string{"4.2", "4.0"}
	case "4.0":
		return []string{"4.2", "4.1", "4.0"}
	}
	return []string{"4.0", "4.1"}
}

// mappedAttempts returns attempts with the IPv4 addresses of a server in their IPv6 form, or the
// reason why there are none.
func (k *Kernel) mappedAttempts(ctx context.Context, s Spec) (attempts []attempt, why string) {
	server, path, ok := volume.SplitExport(s.Source)
	if !ok {
		return nil, "the source is not server:/path"
	}
	if UsesKerberos(s.Options) {
		return nil, "Kerberos needs the server's name"
	}
	options, ok := overTCP6(s.Options)
	if !ok {
		return nil, "it is not mounted over TCP"
	}
	if versionOf(options) == "" {
		options = volume.MergeMountOptions(options, []string{"nfsvers=4"})
	}
	addresses := slices.DeleteFunc(k.lookUpAddresses(ctx, "ip4", server), func(a netip.Addr) bool { return !a.Is4() })
	if a, ok := k.firstAnswering(ctx, addresses, s.Options); ok {
		addresses = []netip.Addr{a}
	}
	host, err := clientName(strings.TrimSuffix("mooring."+s.clientPrefix(options), "."))
	if err != nil {
		return nil, err.Error()
	}
	for _, a := range addresses {
		mapped := "::ffff:" + a.String()
		if needsName(options) {
			attempts = append(attempts, attempt{source: s.Source, address: mapped, options: options, host: host})
			continue
		}
		attempts = append(attempts, attempt{source: "[" + mapped + "]:" + path, options: options, host: host})
	}
	return attempts, "it has no IPv4 address"
}

// versionOf returns the NFS version that the options request, such as "4.2"; "" if they leave it
// open.
func versionOf(options []string) string {
	version := volume.NFSVersion(options)
	if version == "4" {
		return ""
	}
	return version
}

// needsName reports whether the options request something that verifies the server's name.
func needsName(options []string) bool {
	return UsesKerberos(options) || encryptionLevel(ValueOf(options, "xprtsec")) >= 0
}

// UsesKerberos reports whether the options request Kerberos (nfs(5), sec=).
func UsesKerberos(options []string) bool { return strings.Contains(ValueOf(options, "sec"), "krb5") }

// overTCP6 returns the options with TCP over IPv6 instead of TCP. ok is false if they request
// another transport.
func overTCP6(options []string) (changed []string, ok bool) {
	changed = slices.Clone(options)
	for i, o := range changed {
		switch o {
		case "proto=tcp", "tcp", "proto=tcp6", "tcp6":
			changed[i] = "proto=tcp6"
		case "rdma", "udp", "udp6", "proto=rdma", "proto=rdma6", "proto=udp", "proto=udp6":
			return nil, false
		}
	}
	return changed, true
}

// isMapped reports whether the mount at target has a separate NFS client.
func isMapped(table Table, target string) bool {
	e, ok := table.At(target)
	return ok && strings.HasPrefix(ValueOf(e.Super, "addr"), "::ffff:")
}
