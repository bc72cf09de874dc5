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

// slowThreshold is the latency of a single answer above which it is reported as slow.
const slowThreshold = time.Second

// Health reports the health of this node's mounts and of the servers.
type Health struct {
	*nodeServices
}

// Volume returns what is wrong with a volume on this node: with its mount at path or, if path is "",
// with all its mounts. It returns ErrNotFound if the volume is not mounted there.
func (h *Health) Volume(ctx context.Context, id, path string) ([]volume.Condition, error) {
	views := h.views.byVolume(id)
	if path != "" {
		path, _, err := h.locate(path)
		if err != nil {
			return nil, err
		}
		one, recorded := h.views.byTarget(path)
		if views = []view{one}; !recorded || one.ID != id {
			views = []view{{ID: id, Target: path}}
		}
	}
	table, err := h.mounter.Table()
	if err != nil {
		return nil, err
	}
	conditions := make([][]volume.Condition, len(views))
	var checks sync.WaitGroup
	found := false
	for i, v := range views {
		e, mounted := table.At(v.Target)
		found = found || mounted || v.Server != ""
		checks.Go(func() { conditions[i] = h.checkView(ctx, v, e, mounted) })
	}
	checks.Wait()
	if !found {
		return nil, volume.Errorf(volume.ErrNotFound, "volume %s is not mounted on this node", id)
	}
	return distinct(slices.Concat(conditions...)), nil
}

// checkView checks the view of one pod. A view without a server has no record.
func (h *Health) checkView(ctx context.Context, v view, e mount.Entry, mounted bool) []volume.Condition {
	switch {
	case v.Server == "" && !mounted:
		return nil
	case v.Server == "":
		return h.checkMount(ctx, e)
	case !mounted:
		return []volume.Condition{condition(volume.Inaccessible, volume.NotMounted, "volume %s was mounted at %s, but nothing is mounted there now: restart the pod", v.ID, v.Target)}
	}
	return append(h.checkMount(ctx, e), h.checkRegistry(v)...)
}

// checkMount checks one mount of a volume.
func (h *Health) checkMount(ctx context.Context, e mount.Entry) []volume.Condition {
	m := probeMount(e)
	answer, err := h.probes.Query(ctx, m, 0)
	switch {
	case err == nil:
		return checkAnswer(answer, e)
	case volume.Kind(err) == volume.ErrBusy: // there was no check
		return nil
	}
	return []volume.Condition{h.diagnose(ctx, m.Endpoint, e, err)}
}

// diagnose returns why a mount does not work, by the error of its query and by a probe of its server.
func (h *Health) diagnose(ctx context.Context, server probe.Endpoint, e mount.Entry, err error) volume.Condition {
	switch {
	case errors.Is(err, unix.ESTALE):
		return condition(volume.Inaccessible, volume.StaleFileHandle, "%s: the mount is stale: the export or the directory was made again, or its file system has failed (dmesg on the server): restart the pod when the server is healthy, and it gets a new mount", e.Source)
	case share.IsRefused(err):
		return condition(volume.Inaccessible, volume.AccessDenied, "%s: %s", e.Source, volume.AccessDeniedReason(e.Super))
	}
	took, down := h.probes.Server(ctx, server)
	switch {
	case down != nil:
		return condition(volume.Inaccessible, volume.ServerUnreachable, "%s: %v", e.Source, down)
	case errors.Is(err, unix.EIO):
		return condition(volume.Inaccessible, volume.DiskFailing, "%s: the server reports an input/output error: its disk has failed, or its file system has shut down after an error: check dmesg there, and repair the disk before you restart anything", e.Source)
	case errors.Is(err, unix.EREMOTEIO):
		return condition(volume.Inaccessible, volume.FileSystemError, "%s: the server answers with an error that this NFS client does not know: most likely it is NFS-Ganesha before 9.11, mounted by NFS 4.1 or 4.2 from Linux 6.19 or newer (nfs-ganesha#1385): set nfsvers=4.0 for the share, or the kernel's nfsv4.directory_delegations=N on the nodes, or run a newer Ganesha", e.Source)
	case isErrno(err):
		return condition(volume.Inaccessible, volume.FileSystemError, "%s: %v: check the server's log", e.Source, err)
	}
	return condition(volume.Inaccessible, volume.SlowResponses, "%s: the server answers (in %v), but its file system does not answer in time: check its disks and its load", e.Source, took.Round(time.Millisecond))
}

func condition(severity volume.Severity, reason volume.Reason, format string, args ...any) volume.Condition {
	return volume.Condition{Severity: severity, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func isErrno(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno)
}

// checkAnswer returns what is wrong with a mount that answers.
func checkAnswer(a probe.MountStatus, e mount.Entry) []volume.Condition {
	var found []volume.Condition
	if a.Latency > slowThreshold {
		found = append(found, condition(volume.Degraded, volume.SlowResponses, "%s: the server took %v to answer: check its load and the network", e.Source, a.Latency.Round(time.Millisecond)))
	}
	if a.ReadOnly {
		found = append(found, condition(volume.Degraded, volume.ReadOnlyServer, "%s: it is mounted read-write, but the server refuses writes: check dmesg there: its file system may be read-only after a disk error; if not, export it rw", e.Source))
	}
	return found
}

// checkRegistry compares the server and the share of a view with the current registry.
func (h *Health) checkRegistry(v view) []volume.Condition {
	def, err := h.registry().Resolve(v.Location.Share)
	switch {
	case err != nil:
		return []volume.Condition{condition(volume.Degraded, volume.ShareNotRegistered, "volume %s still works, but cannot be mounted again: %v", v.ID, err)}
	case !def.HasServer(v.Server):
		return []volume.Condition{condition(volume.Degraded, volume.ServerMoved, "volume %s is mounted from %s, but share %s has another address now: restart the volume's pods to mount it from there", v.ID, v.Server, def)}
	}
	if err := h.registry().CheckNested(def); err != nil {
		return []volume.Condition{condition(volume.Degraded, volume.SharesOverlap, "volume %s: %v", v.ID, err)}
	}
	return nil
}

// distinct keeps one of several conditions with the same severity and reason, as CSI requires.
func distinct(all []volume.Condition) []volume.Condition {
	var kept []volume.Condition
	for _, c := range all {
		if !slices.ContainsFunc(kept, func(k volume.Condition) bool { return k.Severity == c.Severity && k.Reason == c.Reason }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// Shares returns which shares this node cannot reach, or reaches slowly or only in part. Shares with
// the same severity and reason are in one condition.
func (h *Health) Shares(ctx context.Context) []volume.Condition {
	shares := h.registry().Shares
	found := make([]volume.Condition, len(shares))
	var checks sync.WaitGroup
	for i, def := range shares {
		checks.Go(func() { found[i] = h.checkShare(ctx, def) })
	}
	checks.Wait()
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

// checkShare checks the servers of a share. It returns a condition without a reason if nothing is wrong.
func (h *Health) checkShare(ctx context.Context, def volume.Share) volume.Condition {
	took := make([]time.Duration, len(def.Servers))
	errs := make([]error, len(def.Servers))
	var checks sync.WaitGroup
	for i, server := range def.Servers {
		checks.Go(func() { took[i], errs[i] = h.probes.Server(ctx, probe.EndpointOf(server, def.MountOptions)) })
	}
	checks.Wait()
	up := slices.Index(errs, nil)
	var down []string
	for _, err := range errs {
		if err != nil {
			down = append(down, err.Error())
		}
	}
	switch {
	case up < 0:
		return condition(volume.Inaccessible, volume.ServerUnreachable, "share %s: %s", def, strings.Join(down, "; "))
	case took[up] > slowThreshold:
		return condition(volume.Degraded, volume.SlowResponses, "share %s: the server took %v to answer: check its load and the network", def, took[up].Round(time.Millisecond))
	case down != nil:
		return condition(volume.Degraded, volume.ServerUnreachable, "share %s is mounted from %s: %s", def, def.Servers[up], strings.Join(down, "; "))
	}
	return volume.Condition{}
}

// Usage returns the usage of the volume that is mounted at path. It returns ErrNotFound if it is not
// mounted there, and ErrRefused if the server denies access.
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
	space, err := h.probes.Usage(ctx, probeMount(e))
	if share.IsRefused(err) {
		err = volume.Errorf(volume.ErrRefused, "%w: %s", err, volume.AccessDeniedReason(e.Super))
	}
	return space, err
}
