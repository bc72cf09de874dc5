// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// A server's name can have several addresses, of which some do not answer. mount.nfs takes the
// first, and the kernel tries that for as long as the mount may take. So the address is found
// first, and mount(8) is given that. Kerberos and TLS compare the server with its name: there the
// kernel is given the name and the address, which mount.nfs cannot do. mount(8) can without it
// (-i), by NFSv4, which needs nothing else of mount.nfs. NFSv3 with Kerberos or TLS keeps to
// mount.nfs and the order of the name's addresses.

// withAddress has an attempt go to the address that answers, where the server has a name with several.
func (k *Kernel) withAddress(ctx context.Context, a attempt) attempt {
	server, path, ok := volume.SplitExport(a.source)
	if !ok || k.Answers == nil || a.address != "" {
		return a
	}
	addresses := filterByFamily(a.options, k.lookUpAddresses(ctx, "ip", server))
	if len(addresses) < 2 {
		return a
	}
	table, err := k.readTable()
	if err != nil {
		return a // the check after the mount will tell why
	}
	answers, ok := k.firstAnswering(ctx, sortUsedFirst(table, addresses), a.options)
	if !ok {
		return a // mount(8) will tell why
	}
	source := volume.ExportName(answers.String(), path)
	if host, err := (Spec{Source: source, MultipleAddresses: true}).hostname(a.options); err == nil {
		a.host = host
	}
	switch {
	case !needsName(a.options):
		a.source = source
	case versionOf(a.options) != "3":
		a.address = answers.String()
	}
	return a
}

// lookUpAddresses returns the addresses of a server, in the order in which they are to be tried. None where
// it has none: mount(8) will tell why.
func (k *Kernel) lookUpAddresses(ctx context.Context, network, server string) []netip.Addr {
	if a, err := netip.ParseAddr(server); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	resolve := net.DefaultResolver.LookupNetIP
	if k.resolve != nil {
		resolve = k.resolve
	}
	found, _ := resolve(ctx, network, server)
	for i, a := range found {
		found[i] = a.Unmap()
	}
	return found
}

// filterByFamily leaves out what proto= does (nfs(5)).
func filterByFamily(options []string, addresses []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(addresses, func(a netip.Addr) bool {
		for _, o := range options {
			switch o {
			case "proto=tcp", "tcp", "proto=udp", "udp", "proto=rdma", "rdma":
				return !a.Is4()
			case "proto=tcp6", "tcp6", "proto=udp6", "udp6", "proto=rdma6":
				return a.Is4()
			}
		}
		return false
	})
}

// sortUsedFirst puts the addresses first by which the server is mounted here already: by one address
// all mounts of a file system share a superblock, with its cache and its locks.
func sortUsedFirst(table Table, addresses []netip.Addr) []netip.Addr {
	used := map[string]bool{}
	for _, e := range table {
		if strings.HasPrefix(e.Type, "nfs") {
			used[ValueOf(e.Super, "addr")] = true
		}
	}
	sorted := slices.Clone(addresses)
	slices.SortStableFunc(sorted, func(a, b netip.Addr) int {
		switch x, y := used[a.String()], used[b.String()]; {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	return sorted
}

// firstAnswering asks several addresses, one after the other, and returns the first that answers.
func (k *Kernel) firstAnswering(ctx context.Context, addresses []netip.Addr, options []string) (netip.Addr, bool) {
	if k.Answers == nil || len(addresses) < 2 {
		return netip.Addr{}, false // there is nothing to choose
	}
	for _, a := range addresses {
		if ctx.Err() == nil && k.Answers(ctx, a.String(), options) == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// mountByName has the kernel mount by name and address, without mount.nfs, and so without what
// mount.nfs would do: try one version after the other.
func (k *Kernel) mountByName(ctx context.Context, s Spec, a attempt) (err error) {
	versions := []string{versionOf(a.options)}
	if versions[0] == "" {
		versions = []string{"4.2", "4.1", "4.0"}
	}
	options := slices.DeleteFunc(slices.Clone(a.options), func(o string) bool { return strings.HasPrefix(o, "retry=") })
	for _, v := range versions {
		a.options = volume.MergeMountOptions(options, []string{"nfsvers=" + v, "addr=" + a.address})
		err = k.run(ctx, s, a)
		if cause, _ := CauseOf(err); cause != NoVersion {
			return err
		}
	}
	return err
}

// mountNFSWording has mount(8) say what mount.nfs would have said, where its words are those of another
// trouble.
var mountNFSWording = strings.NewReplacer(
	"bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program", "an incorrect mount option was specified",
	"permission denied", "access denied by server",
	"read-only", "read-only: access denied by server", // EACCES; mount(8) has tried that, too
	"special device", "No such file or directory: special device",
	"Not a directory", "it is not a directory",
)
