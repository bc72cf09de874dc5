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

// All NFSv4 mounts that a machine has of a server are one client to that server, with
// whichever superblocks. A server tells a client nothing of what the same client changes: it
// recalls no delegation for that (RFC 8881, section 10.2). So a mount of the controller would
// go on showing a directory as it was before a pod on the same machine made files in it, and
// would not see what that pod's mount has not written back yet.
//
// The controller therefore mounts as a client of its own. To the server a Linux client is the
// host name of who mounts first and the minor version (RFC 8881, section 2.4; Linux:
// nfs4_init_uniform_client_string). And Linux looks for a client that it has already by the
// server's address, the transport and the minor version, within a network namespace
// (nfs_match_client). So mount(8) runs in a UTS namespace with a host name of Mooring's own, and
// is given the server's IPv4 address in its IPv6 form (RFC 4291, section 2.5.5.2), which nobody
// else uses. The packets are those of IPv4.
//
// TLS compares the server's name, so that there the kernel is given both (attempt.address).
//
// Where that cannot be, because the server has an IPv6 address, say, a minor version that pods
// do not use serves the same end. Below 4.2 there is no CLONE and no COPY: file data then passes
// through the controller.

// A mount with TLS is a client of its own for another reason. Before it has a client, the kernel
// connects with TLS (nfs_match_client looks at xprtsec=, too). But then the server says that it
// knows this client, by its host name, from a mount without TLS: and the kernel drops the
// connection that it has just made, and goes on by that other client (nfs4_discover_server_trunking).
// The mount succeeds, and all goes over the network as it is. So mount(8) runs under a host name for
// each kind of encryption.

// So does the other address of a server that has several. The kernel finds that it leads to the client
// which it has by the first, and uses that one's connection (session trunking; RFC 8881, section 2.10.5),
// which no address helps that answers where the first does not any more. So each address of a share that
// has several is another client.

// maxHostname is the longest host name that Linux takes (uname(2)).
const maxHostname = 64

// clientName is a host name by which a server knows some mounts of this machine: the controller's,
// or those with TLS. It is the same after a restart, so that the server then frees what the client
// before it had, and differs between network namespaces, of which each has clients of its own.
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

// hostname is the host name for mounts with TLS, and by one of several addresses. "" for others, and for
// NFSv3, which has no clients, and whose locks a server knows by the host name.
func (s Spec) hostname(options []string) (string, error) {
	whose := s.clientPrefix(options)
	if whose == "" || !strings.HasPrefix(volume.NFSVersion(options), "4") {
		return "", nil
	}
	return clientName(whose + "mooring")
}

// clientPrefix tells clients of one machine apart: "", or what ends in a dot.
func (s Spec) clientPrefix(options []string) (whose string) {
	if policy := ValueOf(options, "xprtsec"); encryptionLevel(policy) >= 0 {
		whose = policy + "."
	}
	if s.MultipleAddresses {
		whose += s.server() + "."
	}
	return whose
}

// mountShared mounts as all others on this machine do.
func (k *Kernel) mountShared(ctx context.Context, s Spec) error {
	if s.clientPrefix(s.Options) != "" && volume.NFSVersion(s.Options) == "" {
		// mount.nfs would go down to NFSv3 under that host name.
		err := k.mountAttempt(ctx, s, attempt{source: s.Source, options: volume.MergeMountOptions(s.Options, []string{"nfsvers=4"})})
		if cause, _ := CauseOf(err); cause != NoVersion {
			return err
		}
	}
	return k.mountAttempt(ctx, s, attempt{source: s.Source, options: s.Options})
}

// attempt is one way to mount what a Spec says.
type attempt struct {
	source  string
	options []string
	host    string // in a UTS namespace of its own; "": the machine's
	address string // of the server that the source names, to be mounted without mount.nfs; "": it finds that
}

// mountOwnClient mounts by a client of Mooring's own.
func (k *Kernel) mountOwnClient(ctx context.Context, s Spec) error {
	asked := versionOf(s.Options)
	if asked == "3" { // it has no delegations, and closing a file writes it
		return k.mountAttempt(ctx, s, attempt{source: s.Source, options: s.Options})
	}
	mapped, why := k.mappedAttempts(ctx, s)
	if len(mapped) == 0 {
		return k.mountOtherVersion(ctx, s, asked, why)
	}
	err := k.mountFirst(ctx, s, mapped)
	cause, _ := CauseOf(err)
	table, _ := k.readTable()
	switch {
	case err == nil && isMapped(table, targetInTable(s.Target)):
		return nil
	case err == nil: // the kernel has found a client that it had
		if err := k.Unmount(ctx, s.Target); err != nil {
			return err
		}
		return k.mountOtherVersion(ctx, s, asked, "this kernel takes an IPv4 address in its IPv6 form for the same")
	case cause == NoVersion && asked == "":
		return k.mountAttempt(ctx, s, attempt{source: s.Source, options: s.Options}) // NFSv3 is left
	case strings.Contains(err.Error(), "Address family not supported"):
		return k.mountOtherVersion(ctx, s, asked, "this kernel has no IPv6")
	}
	return err
}

// mountFirst makes the first of several attempts that succeeds. Where a server is not at one of its
// addresses the next is tried, as mount.nfs does.
func (k *Kernel) mountFirst(ctx context.Context, s Spec, attempts []attempt) (err error) {
	for _, a := range attempts {
		err = k.mountAttempt(ctx, s, a)
		if cause, _ := CauseOf(err); cause != Refused && cause != Unreachable && cause != Silent {
			return err
		}
	}
	return err
}

// mountOtherVersion mounts by another minor version than pods do.
func (k *Kernel) mountOtherVersion(ctx context.Context, s Spec, asked, why string) error {
	var err error
	for _, version := range otherVersions(asked) {
		err = k.mountAttempt(ctx, s, attempt{source: s.Source, options: volume.MergeMountOptions(s.Options, []string{"nfsvers=" + version})})
		if cause, _ := CauseOf(err); cause != NoVersion && cause != NotEncrypted {
			if err == nil {
				klog.FromContext(ctx).Info("The share is mounted by another NFS version than pods use, because the controller cannot have an NFS client of its own otherwise; below 4.2 the data of copies pass through the controller", "source", s.Source, "version", version, "because", why)
			}
			return err
		}
	}
	return err
}

// otherVersions are the minor versions to try where pods use the one that was asked for; "" is the
// highest that the server has.
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

// mappedAttempts returns the attempts by the IPv4 addresses of a server in their IPv6 form, or why
// there are none.
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

// versionOf returns the NFS version that options ask for, as "4.2"; "" where they leave it open.
func versionOf(options []string) string {
	version := volume.NFSVersion(options)
	if version == "4" {
		return ""
	}
	return version
}

// needsName reports whether options ask for something that identifies the server by its name.
func needsName(options []string) bool {
	return UsesKerberos(options) || encryptionLevel(ValueOf(options, "xprtsec")) >= 0
}

// UsesKerberos reports whether options ask for it (nfs(5), sec=).
func UsesKerberos(options []string) bool { return strings.Contains(ValueOf(options, "sec"), "krb5") }

// overTCP6 returns options with TCP over IPv6 in the place of TCP. ok is false where they ask for
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

// isMapped reports whether what is mounted at target has a client of its own.
func isMapped(table Table, target string) bool {
	e, ok := table.At(target)
	return ok && strings.HasPrefix(ValueOf(e.Super, "addr"), "::ffff:")
}
