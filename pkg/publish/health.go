// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// slowAfter is how long a single answer may take before that is worth a word.
const slowAfter = time.Second

// Health says how the mounts of this node are, and the servers.
type Health struct {
	*local
}

// Volume says what is wrong with a volume on this node: with what is mounted at the path where a
// pod sees it, or, where that is "", at all paths where pods do. ErrNotFound: it is at none.
func (h *Health) Volume(ctx context.Context, id, path string) ([]volume.Condition, error) {
	all := h.views.of(id)
	if path != "" {
		path, _, err := h.locate(path)
		if err != nil {
			return nil, err
		}
		one, noted := h.views.at(path)
		if all = []view{one}; !noted || one.ID != id {
			all = []view{{ID: id, Target: path}}
		}
	}
	table, err := h.mounter.Table()
	if err != nil {
		return nil, err
	}
	each := make([][]volume.Condition, len(all))
	var asking sync.WaitGroup
	there := false
	for i, v := range all {
		e, mounted := table.At(v.Target)
		there = there || mounted || v.Server != ""
		asking.Go(func() { each[i] = h.askView(ctx, v, e, mounted) })
	}
	asking.Wait()
	if !there {
		return nil, volume.Errorf(volume.ErrNotFound, "volume %s is not mounted on this node", id)
	}
	return distinct(slices.Concat(each...)), nil
}

// askView asks how a pod's view is. One without a server is of a mount that nothing is known of.
func (h *Health) askView(ctx context.Context, v view, e mount.Entry, mounted bool) []volume.Condition {
	switch {
	case v.Server == "" && !mounted:
		return nil
	case v.Server == "":
		return h.ask(ctx, e)
	case !mounted:
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.NotMounted,
			Message: fmt.Sprintf("volume %s was mounted at %s, and nothing is mounted there any more: restart the pod", v.ID, v.Target)}}
	}
	return append(h.ask(ctx, e), h.compare(v)...)
}

// ask asks one mount of a volume.
func (h *Health) ask(ctx context.Context, e mount.Entry) []volume.Condition {
	m := probeOf(e)
	answer, err := h.probes.Query(ctx, m, 0)
	switch {
	case err == nil:
		return fine(answer, e)
	case volume.Kind(err) == volume.ErrBusy: // it was not asked
		return nil
	case errors.Is(err, unix.ESTALE):
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.StaleFileHandle,
			Message: fmt.Sprintf("%s was exported anew, or its directory made anew, or its file system has failed (dmesg on the server): the pod has a stale mount: restart it when the server is well, and it gets a new one", e.Source)}}
	case share.IsRefused(err):
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.AccessDenied,
			Message: fmt.Sprintf("%s: %s", e.Source, volume.AccessDeniedReason(e.Super))}}
	}
	took, down := h.probes.Server(ctx, m.Endpoint)
	if down != nil {
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.ServerUnreachable, Message: fmt.Sprintf("%s: %v", e.Source, down)}}
	}
	if errors.Is(err, unix.EIO) {
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.DiskFailing,
			Message: fmt.Sprintf("%s: the server reports an input/output error: its disk has failed, or its file system has shut down after an error: look there with dmesg, and mend the disk before anything is restarted", e.Source)}}
	}
	if errors.Is(err, unix.EREMOTEIO) {
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.FileSystemError,
			Message: fmt.Sprintf("%s: the server answers with an error that this NFS client does not know: most likely it is NFS-Ganesha before 9.11, mounted by NFS 4.1 or 4.2 from Linux 6.19 or newer (nfs-ganesha#1385): set nfsvers=4.0 for the share, or the kernel's nfsv4.directory_delegations=N on the nodes, or run a newer Ganesha", e.Source)}}
	}
	if isErrno(err) {
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.FileSystemError,
			Message: fmt.Sprintf("%s: %v: look at the server's log", e.Source, err)}}
	}
	return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.SlowResponses,
		Message: fmt.Sprintf("%s: the server is there (it answered in %v), and its file system does not answer in time: look at its disks and its load", e.Source, took.Round(time.Millisecond))}}
}

func isErrno(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno)
}

// fine says what can be wrong with a mount that answers.
func fine(a probe.MountStatus, e mount.Entry) []volume.Condition {
	var found []volume.Condition
	if a.Latency > slowAfter {
		found = append(found, volume.Condition{Severity: volume.Degraded, Reason: volume.SlowResponses,
			Message: fmt.Sprintf("%s: the server took %v to answer: look at its load and at the network", e.Source, a.Latency.Round(time.Millisecond))})
	}
	if a.ReadOnly {
		found = append(found, volume.Condition{Severity: volume.Degraded, Reason: volume.ReadOnlyServer,
			Message: fmt.Sprintf("%s: it is mounted read-write, and the server lets nobody write: look there with dmesg whether its file system went read-only after an error of its disk, else export it rw", e.Source)})
	}
	return found
}

// compare compares where a volume is mounted from with what the registry says now.
func (h *Health) compare(v view) []volume.Condition {
	def, err := h.registry().Resolve(v.Location.Share)
	switch {
	case err != nil:
		return []volume.Condition{{Severity: volume.Degraded, Reason: volume.ShareNotRegistered,
			Message: fmt.Sprintf("volume %s goes on, and cannot be mounted again: %v", v.ID, err)}}
	case !def.HasServer(v.Server):
		return []volume.Condition{{Severity: volume.Degraded, Reason: volume.ServerMoved,
			Message: fmt.Sprintf("volume %s is mounted from %s, and share %s is elsewhere by now: restart its pods to have it mounted from there", v.ID, v.Server, def)}}
	}
	if err := h.registry().CheckNested(def); err != nil {
		return []volume.Condition{{Severity: volume.Degraded, Reason: volume.SharesOverlap, Message: fmt.Sprintf("volume %s: %v", v.ID, err)}}
	}
	return nil
}

// distinct keeps one of several conditions with the same severity and reason, as CSI wants.
func distinct(all []volume.Condition) []volume.Condition {
	var kept []volume.Condition
	for _, c := range all {
		if !slices.ContainsFunc(kept, func(k volume.Condition) bool { return k.Severity == c.Severity && k.Reason == c.Reason }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// Shares says which shares cannot be reached from this node, or only with trouble. All of one
// kind are in one condition.
func (h *Health) Shares(ctx context.Context) []volume.Condition {
	shares := h.registry().Shares
	found := make([]volume.Condition, len(shares))
	var asking sync.WaitGroup
	for i, def := range shares {
		asking.Go(func() { found[i] = h.askShare(ctx, def) })
	}
	asking.Wait()
	var joined []volume.Condition
	for _, c := range found {
		i := slices.IndexFunc(joined, func(j volume.Condition) bool { return j.Severity == c.Severity && j.Reason == c.Reason })
		switch {
		case c.Reason == "":
		case i < 0:
			joined = append(joined, c)
		default:
			joined[i].Message += "; " + c.Message
		}
	}
	return joined
}

// askShare asks the servers of a share. A condition without a reason is none.
func (h *Health) askShare(ctx context.Context, def volume.Share) volume.Condition {
	took := make([]time.Duration, len(def.Servers))
	errs := make([]error, len(def.Servers))
	var asking sync.WaitGroup
	for i, server := range def.Servers {
		asking.Go(func() { took[i], errs[i] = h.probes.Server(ctx, probe.EndpointOf(server, def.MountOptions)) })
	}
	asking.Wait()
	up := slices.Index(errs, nil)
	var down []string
	for _, err := range errs {
		if err != nil {
			down = append(down, err.Error())
		}
	}
	switch {
	case up < 0:
		return volume.Condition{Severity: volume.Inaccessible, Reason: volume.ServerUnreachable,
			Message: fmt.Sprintf("share %s: %s", def, strings.Join(down, "; "))}
	case took[up] > slowAfter:
		return volume.Condition{Severity: volume.Degraded, Reason: volume.SlowResponses,
			Message: fmt.Sprintf("share %s: the server took %v to answer: look at its load and at the network", def, took[up].Round(time.Millisecond))}
	case down != nil:
		return volume.Condition{Severity: volume.Degraded, Reason: volume.ServerUnreachable,
			Message: fmt.Sprintf("share %s is mounted from %s: %s", def, def.Servers[up], strings.Join(down, "; "))}
	}
	return volume.Condition{}
}

// Usage tells how full a volume is that is mounted at path.
func (h *Health) Usage(ctx context.Context, id, path string) (volume.Space, error) {
	notMounted := volume.Errorf(volume.ErrNotFound, "volume %s is not mounted at %s", id, path)
	path, table, err := h.locate(path)
	if volume.Kind(err) == volume.ErrInvalid {
		return volume.Space{}, notMounted
	}
	if err != nil {
		return volume.Space{}, err
	}
	e, mounted := table.At(path)
	if !mounted {
		return volume.Space{}, notMounted
	}
	space, err := h.probes.Usage(ctx, probeOf(e))
	if share.IsRefused(err) {
		err = volume.Errorf(volume.ErrRefused, "%w: %s", err, volume.AccessDeniedReason(e.Super))
	}
	return space, err
}
