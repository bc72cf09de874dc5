// SPDX-License-Identifier: Apache-2.0

//go:build lab

package torture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// directories are those that owners request for volumes. The first one is a parent of others, and is
// not available while one of those exists or until a short time afterwards.
var directories = []string{"p", "p/a", "p/b", "q/r/c", "q/d", "e", "f"}

// volume is an existing volume.
type volume struct {
	name, id string
	context  map[string]string
	dir      string
	onDelete string
	holds    tree
	on       map[string]int // the node that wrote a file
	seats    [2]string      // its path on each node; "" if not published
	size     int64
	shallow  *snapshot // the volume is this snapshot, read-only
}

// snapshot is an existing snapshot.
type snapshot struct {
	name, id string
	holds    tree
	size     int64
	group    string // its id; "": none
}

// requester sends requests to the programs, like a sidecar.
type requester struct {
	h    *history
	rng  *rand.Rand
	name string
	n    int  // number of names
	calm bool // one request at a time, with a long timeout
}

// kubelet runs pods on the nodes that write into volumes.
type kubelet struct{ *requester }

// owner does one operation after the other.
type owner struct {
	kubelet
	volumes   []*volume
	snapshots []*snapshot
	unmade    []string // volumes that were not made, and could not be deleted yet
}

func newOwner(h *history, i int) *owner {
	return &owner{kubelet: kubelet{&requester{h: h, rng: h.random(200 + uint64(i)), name: string(rune('a' + i))}}}
}

func (o *requester) next(what string) string {
	o.n++
	return fmt.Sprintf("%s-%s%d", what, o.name, o.n)
}

// everything is the operations and accidents that are counted.
var everything = []string{
	"create", "write", "rewrite", "rename", "remove", "snapshot", "restore", "shallow", "clone", "expand", "group",
	"delete volume", "delete snapshot", "delete group", "trash restore", "inline", "list",
	"pause of a controller", "long pause of a controller", "kill of a controller", "kill of a node", "cut of a controller", "long cut of a controller",
	"late system call of a controller", "failing system call of a controller",
}

func (o *owner) act() {
	for range *steps {
		if o.h.Failed() {
			return
		}
		o.step()
	}
}

func (o *owner) step() {
	n := o.rng.IntN(100)
	v, s := pick(o.rng, o.volumes), pick(o.rng, o.snapshots)
	switch {
	case v == nil || n < 12 && len(o.volumes) < 4:
		o.create(nil, nil)
	case n < 45:
		o.write(v)
	case n < 58 && len(o.snapshots) < 5:
		o.snapshot(v)
	case n < 66 && s != nil && len(o.volumes) < 4:
		o.create(s, nil)
	case n < 73 && len(o.volumes) < 4:
		o.create(nil, v)
	case n < 76:
		o.expand(v)
	case n < 79 && len(o.snapshots) < 5:
		o.group()
	case n < 81:
		o.inline()
	case n < 83:
		o.verify(v)
	case n < 85:
		o.list()
	case n < 92:
		o.delete(v)
	case s != nil:
		o.deleteSnapshot(s)
	}
}

func pick[T any](rng *rand.Rand, all []*T) *T {
	if len(all) == 0 {
		return nil
	}
	return all[rng.IntN(len(all))]
}

// again reports whether an error asks for a retry.
func (o *requester) again(err error, spoiled bool) bool {
	switch status.Code(err) {
	case codes.Aborted, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.Internal, codes.ResourceExhausted:
		return spoiled
	}
	return false
}

// ask calls one controller or the other until the answer is OK or a refusal. A call with a short timeout
// is canceled and may be executed later: the history notes that for its name.
func (o *requester) ask(what, name string, call func(context.Context, *lab.Driver) error) error {
	o.h.note("%s: %s %s", o.name, what, name)
	var last error
	for deadline := time.Now().Add(waitTimeout); ; {
		n := 1
		if !o.calm && o.rng.IntN(10) == 0 {
			n = 2 // both at once
		}
		to := o.rng.IntN(2)
		times := []time.Duration{between(o.rng, 10*time.Millisecond, 10*time.Second), between(o.rng, 10*time.Millisecond, 10*time.Second)}
		if o.calm {
			times[0] = time.Minute
		}
		answers := make(chan answer, n)
		for i := range n {
			p := o.h.controllers[(to+i)%2]
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), times[i])
				defer cancel()
				err := call(ctx, p.driver())
				if o.again(err, p.failed()) {
					err = again{err}
				}
				answers <- answer{p.name, err}
			}()
		}
		var err error
		var from string
		for i := range n {
			got := <-answers
			from, err = got.from, got.err
			if err == nil {
				if i+1 < n {
					o.h.givenUp(what, name) // the other may still be executed
				}
				break
			}
			if errors.As(err, new(again)) {
				o.h.givenUp(what, name)
			}
		}
		var retry again
		if !errors.As(err, &retry) {
			o.h.note("%s: %s %s, by %s of %d: %v", o.name, what, name, from, n, err)
			if err == nil {
				o.h.total.add(what)
			}
			return err
		}
		if last == nil || last.Error() != err.Error() {
			o.h.note("%s: %s %s, by %s of %d, is tried again: %v", o.name, what, name, from, n, err)
			last = err
		}
		if time.Now().After(deadline) {
			o.h.wrong("%s %s is not answered within %v: %v", what, name, waitTimeout, err)
			o.h.FailNow()
		}
		time.Sleep(between(o.rng, 10*time.Millisecond, time.Second))
	}
}

// answer is that of a program.
type answer struct {
	from string
	err  error
}

type again struct{ error }

func (a again) Unwrap() error { return a.error }

// refuses reports whether err is a refusal with one of the codes.
func (o *requester) refuses(what string, err error, kinds ...codes.Code) bool {
	if err == nil {
		return false
	}
	if !slices.Contains(kinds, status.Code(err)) {
		o.h.wrong("%s: %v", what, err)
	}
	return true
}

// create makes a volume: an empty one, or from a snapshot or another volume.
func (o *owner) create(s *snapshot, from *volume) {
	name := o.next("pvc")
	dir := directories[max(o.rng.IntN(len(directories)), o.rng.IntN(2))] // rarely the first one
	onDelete := []string{"delete", "delete", "delete", "archive", "retain"}[o.rng.IntN(5)]
	if dir == directories[0] && onDelete == "retain" {
		onDelete = "delete" // another volume may be in what is retained before the owner removes that
	}
	r := &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
		Parameters: map[string]string{
			"share": "nas1", "subDir": dir, "onDelete": onDelete,
			"csi.storage.k8s.io/pvc/name": "claim-" + name, "csi.storage.k8s.io/pvc/namespace": "team", "csi.storage.k8s.io/pv/name": name,
		},
	}
	if o.h.trash {
		r.Parameters["trashRetention"] = "1000h"
	}
	v := &volume{name: name, dir: dir, onDelete: onDelete, holds: tree{}, on: map[string]int{}, size: 1 << 30}
	o.h.note("%s: %s is to be %s, on its deletion: %s", o.name, name, dir, onDelete)
	what := "create"
	var during func() tree
	switch {
	case s != nil:
		what, v.holds, v.size = "restore", maps.Clone(s.holds), s.size
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.id}}}
		if o.rng.IntN(4) == 0 {
			what, v.shallow = "shallow", s
			r.Parameters["restore"] = "shallow"
			r.VolumeCapabilities = []*csi.VolumeCapability{lab.Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)}
		}
	case from != nil:
		what, v.holds, v.size = "clone", maps.Clone(from.holds), from.size
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: from.id}}}
		during = o.during(from)
	}
	r.CapacityRange.RequiredBytes = v.size
	var made *csi.Volume
	var mu sync.Mutex
	err := o.ask(what, name, func(ctx context.Context, d *lab.Driver) error {
		got, err := d.Controller.CreateVolume(ctx, r)
		if err == nil {
			mu.Lock()
			made = got.Volume
			mu.Unlock()
		}
		return err
	})
	var may tree
	if during != nil {
		may = during()
		for name, content := range may {
			from.holds[name] = content
		}
	}
	if o.refuses(what+" "+name+" in "+dir, err, codes.FailedPrecondition, codes.AlreadyExists) {
		o.forget(name) // as a provisioner does when the claim is deleted
		return
	}
	mu.Lock()
	v.id, v.context = made.VolumeId, made.VolumeContext
	mu.Unlock()
	o.volumes = append(o.volumes, v)
	if v.shallow == nil {
		o.h.claimed(name, dir)
	}
	o.settle(v.name, o.where(v), &v.holds, may)
}

// forget deletes a volume whose creation failed.
func (o *owner) forget(name string) {
	err := o.ask("forget", name, func(ctx context.Context, d *lab.Driver) error {
		_, err := d.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "nas1/" + name})
		return err
	})
	if err != nil {
		o.unmade = append(o.unmade, name)
	}
}

// where returns the local path of a volume's tree on the server.
func (o *owner) where(v *volume) string {
	if v.shallow != nil {
		return o.h.at(".mooring/snapshots", v.shallow.name, "data")
	}
	return o.h.at(v.dir)
}

// settle compares a tree with the expected one, and notes which optional files exist.
func (o *requester) settle(what, where string, holds *tree, may tree) {
	got, err := read(where)
	if err != nil {
		o.h.wrong("%s: %v", what, err)
		return
	}
	if d := got.differs(*holds, func(name string) bool { return may[name] != "" && strings.HasPrefix(may[name], got[name]) }); d != "" {
		o.h.wrong("%s, in %s:\n%s", what, where, d)
	}
	*holds = got
}

func (o *owner) verify(v *volume) {
	if v.shallow == nil {
		o.settle(v.name, o.where(v), &v.holds, nil)
	}
}

func (o *owner) verifyAll() {
	o.calm = true
	for _, v := range o.volumes {
		o.verify(v)
	}
	for _, s := range o.snapshots {
		o.settle(s.name, o.h.at(".mooring/snapshots", s.name, "data"), &s.holds, nil)
	}
}

// node calls a node until the answer is OK.
func (o *requester) node(n int, what string, call func(context.Context, *lab.Driver) error) {
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := call(ctx, o.h.nodes[n].driver())
		cancel()
		if err == nil {
			return
		}
		if !o.again(err, false) || time.Now().After(deadline) {
			o.h.wrong("%s on node %d: %v", what, n, err)
			o.h.FailNow()
		}
		o.h.note("%s: %s on node %d is tried again: %v", o.name, what, n, err)
	}
}

// seat publishes a volume on a node, and returns its path.
func (o *kubelet) seat(v *volume, n int) string {
	if v.seats[n] != "" {
		return v.seats[n]
	}
	dir := filepath.Join(o.h.dir, fmt.Sprint("kubelet", n), v.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		o.h.wrong("%v", err)
	}
	o.node(n, "publish "+v.name, func(ctx context.Context, d *lab.Driver) error {
		_, err := d.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: v.id, VolumeContext: v.context, TargetPath: dir + "/pod", VolumeCapability: lab.RWX()})
		return err
	})
	v.seats[n] = dir + "/pod"
	return v.seats[n]
}

// leave unpublishes a volume from all nodes.
func (o *kubelet) leave(v *volume) {
	for n, at := range v.seats {
		if at == "" {
			continue
		}
		o.node(n, "unpublish "+v.name, func(ctx context.Context, d *lab.Driver) error {
			_, err := d.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: at})
			return err
		})
		v.seats[n] = ""
	}
}

// content returns unique content.
func (o *requester) content() string {
	size := 1 << o.rng.IntN(18)
	line := o.next("content") + fmt.Sprintf(" of history %d\n", o.h.seed)
	return strings.Repeat(line, 1+size/len(line))
}

// put only writes a file in place and closes it.
func put(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}

// write changes something in a pod: it only closes the changed file.
func (o *kubelet) write(v *volume) {
	if v.shallow != nil {
		return
	}
	names := slices.Sorted(maps.Keys(v.on)) // files of a copy have no node
	what := []string{"write", "write", "rewrite", "rename", "remove"}[o.rng.IntN(5)]
	if len(names) == 0 {
		what = "write"
	}
	n := o.rng.IntN(2)
	name := fmt.Sprintf("of-node%d/d%d/%s", n, o.rng.IntN(2), o.next("file"))
	var old string
	if what != "write" {
		old = names[o.rng.IntN(len(names))]
		n = v.on[old]
	}
	at := o.seat(v, n)
	content := o.content()
	var err error
	o.h.note("%s: %s %s in %s by node %d", o.name, what, old+" "+name, v.name, n)
	switch what {
	case "write":
		err = put(filepath.Join(at, name), content)
		v.holds[name], v.on[name] = content, n
	case "rewrite":
		err = put(filepath.Join(at, old), content)
		v.holds[old] = content
	case "rename":
		name = filepath.Join(filepath.Dir(old), filepath.Base(name))
		err = os.Rename(filepath.Join(at, old), filepath.Join(at, name))
		v.holds[name], v.on[name] = v.holds[old], n
		delete(v.holds, old)
		delete(v.on, old)
	case "remove":
		err = os.Remove(filepath.Join(at, old))
		delete(v.holds, old)
		delete(v.on, old)
	}
	if err != nil {
		_, stat := os.Stat(at) // os.MkdirAll hides this error
		o.h.wrong("%s of %q in %s: %v; stat of the mount: %v", what, old+" "+name, v.name, err, stat)
	}
	o.h.total.add(what)
}

// during writes files in a pod, with pauses, until the returned function is called, which returns the
// files that may be in a copy.
func (o *kubelet) during(v *volume) func() tree {
	if v.shallow != nil || o.rng.IntN(2) == 0 {
		return func() tree { return nil }
	}
	n := o.rng.IntN(2)
	at, written := o.seat(v, n), tree{}
	quit, done := make(chan struct{}), make(chan struct{})
	content := o.content()
	prefix := fmt.Sprintf("of-node%d/%s", n, o.next("during"))
	go func() {
		defer close(done)
		for i := range 50 {
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
			name := fmt.Sprint(prefix, "-", i)
			if err := put(filepath.Join(at, name), content); err != nil {
				o.h.wrong("write %s in %s: %v", name, v.name, err)
			}
			written[name] = content
		}
	}()
	return func() tree { close(quit); <-done; return written }
}

func (o *owner) snapshot(v *volume) {
	name := o.next("snap")
	s := &snapshot{name: name, holds: maps.Clone(v.holds), size: v.size}
	during := o.during(v)
	ids := make(chan string, 100)
	err := o.ask("snapshot", name, func(ctx context.Context, d *lab.Driver) error {
		r, err := d.Controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: v.id})
		if err == nil && !r.Snapshot.ReadyToUse {
			return status.Error(codes.Aborted, "it is not ready")
		}
		if err == nil {
			ids <- r.Snapshot.SnapshotId
		}
		return err
	})
	may := during()
	maps.Copy(v.holds, may)
	if v.shallow != nil && o.refuses("snapshot of "+v.name, err, codes.FailedPrecondition, codes.InvalidArgument) {
		return
	}
	if o.refuses("snapshot "+name, err) {
		return
	}
	s.id = <-ids
	o.snapshots = append(o.snapshots, s)
	o.settle(name, o.h.at(".mooring/snapshots", name, "data"), &s.holds, may)
}

// group makes snapshots of all the owner's volumes together.
func (o *owner) group() {
	name := o.next("group")
	r := &csi.CreateVolumeGroupSnapshotRequest{Name: name}
	var of []*volume
	for _, v := range o.volumes {
		if v.shallow == nil {
			r.SourceVolumeIds = append(r.SourceVolumeIds, v.id)
			of = append(of, v)
		}
	}
	if len(of) == 0 {
		return
	}
	groups := make(chan *csi.VolumeGroupSnapshot, 100)
	err := o.ask("group", name, func(ctx context.Context, d *lab.Driver) error {
		got, err := csi.NewGroupControllerClient(d.Conn()).CreateVolumeGroupSnapshot(ctx, r)
		if err == nil {
			groups <- got.GroupSnapshot
		}
		return err
	})
	if o.refuses("group "+name, err) {
		return
	}
	g := <-groups
	for _, member := range g.Snapshots {
		i := slices.IndexFunc(of, func(v *volume) bool { return v.id == member.SourceVolumeId })
		if i < 0 {
			o.h.wrong("group %s has a snapshot of %s", name, member.SourceVolumeId)
			continue
		}
		s := &snapshot{name: strings.TrimPrefix(member.SnapshotId, "nas1/"), id: member.SnapshotId, holds: maps.Clone(of[i].holds), size: of[i].size, group: g.GroupSnapshotId}
		o.snapshots = append(o.snapshots, s)
		o.settle(s.name, o.h.at(".mooring/snapshots", s.name, "data"), &s.holds, nil)
	}
	if len(g.Snapshots) != len(of) {
		o.h.wrong("group %s has %d snapshots, not %d", name, len(g.Snapshots), len(of))
	}
}

// list checks the lists of a controller: they have everything of the owner, and nothing deleted.
func (o *owner) list() {
	lists := make(chan map[string]bool, 100)
	err := o.ask("list", "of "+o.name, func(ctx context.Context, d *lab.Driver) error {
		volumes, err := d.Controller.ListVolumes(ctx, &csi.ListVolumesRequest{})
		if err != nil {
			return err
		}
		snapshots, err := d.Controller.ListSnapshots(ctx, &csi.ListSnapshotsRequest{})
		if err != nil {
			return err
		}
		all := map[string]bool{}
		for _, e := range volumes.Entries {
			all[e.Volume.VolumeId] = true
		}
		for _, e := range snapshots.Entries {
			all[e.Snapshot.SnapshotId] = true
		}
		lists <- all
		return nil
	})
	if o.refuses("list", err) {
		return
	}
	listed := <-lists
	for _, v := range o.volumes {
		if !listed[v.id] {
			o.h.wrong("volume %s is not listed; on the server: %s", v.id, o.h.entry("volumes", v.name))
		}
		delete(listed, v.id)
	}
	for _, s := range o.snapshots {
		if !listed[s.id] {
			o.h.wrong("snapshot %s is not listed; on the server: %s", s.id, o.h.entry("snapshots", s.name))
		}
		delete(listed, s.id)
	}
	for id := range listed {
		if name := strings.TrimPrefix(id, "nas1/"); o.named(name) && !o.h.mayBeLate(name) {
			o.h.wrong("%s is listed, and is gone", id)
		}
	}
}

// named reports whether a volume or a snapshot has a name of this owner.
func (o *owner) named(name string) bool {
	return strings.HasPrefix(name, "pvc-"+o.name) || strings.HasPrefix(name, "snap-"+o.name)
}

func (o *owner) expand(v *volume) {
	if v.shallow != nil {
		return
	}
	want := v.size + 1<<20
	err := o.ask("expand", v.name, func(ctx context.Context, d *lab.Driver) error {
		r, err := d.Controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.id, CapacityRange: &csi.CapacityRange{RequiredBytes: want}})
		if err == nil && r.CapacityBytes < want {
			return fmt.Errorf("it has %d", r.CapacityBytes)
		}
		return err
	})
	if !o.refuses("expand "+v.name, err) {
		v.size = want
	}
}

// inline publishes an inline volume in a pod.
func (o *kubelet) inline() {
	n := o.rng.IntN(2)
	id := "csi-" + strings.Repeat("0", 50) + o.next("inline")
	target := filepath.Join(o.h.dir, "inline-"+id)
	o.node(n, "publish "+id, func(ctx context.Context, d *lab.Driver) error {
		_, err := d.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, TargetPath: target, VolumeCapability: lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER),
			VolumeContext: map[string]string{
				"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.name": id, "csi.storage.k8s.io/pod.namespace": "team",
				"csi.storage.k8s.io/pod.uid": id, "csi.storage.k8s.io/serviceAccount.name": "default", "share": "nas1",
			},
		})
		return err
	})
	holds := tree{"file": o.content()}
	if err := put(target+"/file", holds["file"]); err != nil {
		o.h.wrong("write in %s: %v", id, err)
	}
	o.settle(id, o.h.at(".mooring/inline", id), &holds, nil)
	o.node(n, "unpublish "+id, func(ctx context.Context, d *lab.Driver) error {
		_, err := d.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
		return err
	})
	// The pod may end before its directory is removed: if that takes long, it happens in the background.
	o.h.eventually("the directory of an inline volume is removed", func() string {
		if _, err := os.Stat(o.h.at(".mooring/inline", id)); err == nil {
			return id + " is still there"
		}
		return ""
	})
	o.h.total.add("inline")
}

// delete deletes a volume, and sometimes restores it. It reports whether the volume is gone.
func (o *owner) delete(v *volume) (gone bool) {
	o.leave(v)
	if v.shallow == nil {
		o.h.released(v.dir) // from now on another volume may have it
	}
	err := o.ask("delete volume", v.name, func(ctx context.Context, d *lab.Driver) error {
		_, err := d.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.id})
		return err
	})
	if o.refuses("delete "+v.name, err, codes.FailedPrecondition) { // it is being copied: a canceled request continues
		o.h.note("%s is not deleted", v.name)
		if v.shallow == nil {
			o.h.claimed(v.name, v.dir)
		}
		return false
	}
	o.volumes = slices.DeleteFunc(o.volumes, func(w *volume) bool { return w == v })
	if v.shallow != nil {
		return true
	}
	switch v.onDelete {
	case "retain":
		o.settle("what is retained of "+v.name, o.h.at(v.dir), &v.holds, nil)
		o.discard(v.dir)
	case "archive":
		o.archived(v)
	default:
		o.deleted(v)
	}
	return true
}

// discard removes a directory like a user.
func (o *owner) discard(dir string) {
	if err := os.RemoveAll(o.h.at(dir)); err != nil {
		o.h.wrong("%v", err)
	}
}

// archived finds the archive of a volume.
func (o *owner) archived(v *volume) {
	found, _ := filepath.Glob(o.h.at(filepath.Dir(v.dir), "archived-*"))
	for _, at := range found {
		got, err := read(at)
		if err != nil || got.differs(v.holds, nil) != "" {
			continue
		}
		if len(v.holds) > 0 {
			o.discard(strings.TrimPrefix(at, o.h.path+"/"))
		}
		return
	}
	o.h.wrong("of %s nothing is archived as %s: there is %q", v.name, v.dir, found)
}

// deleted checks that nothing of a volume is left, and sometimes restores it.
func (o *owner) deleted(v *volume) {
	got, err := read(o.h.at(v.dir))
	for name, content := range v.holds {
		if err == nil && got[name] == content && !o.ours(v.dir) {
			o.h.wrong("%s is deleted, and %s/%s is still there", v.name, v.dir, name)
		}
	}
	// A canceled deletion may be executed later, and would delete the restored volume.
	if !o.h.trash || o.rng.IntN(3) > 0 || o.calm || o.h.mayBeLate("delete volume "+v.name) {
		return
	}
	out, err := o.h.mooringctl("trash", "restore", "nas1/"+v.name)
	o.h.note("%s: trash restore %s: %v: %s", o.name, v.name, err, out)
	if err != nil { // for example, another volume has its directory; then it can be deleted again
		o.forget(v.name)
		return
	}
	o.volumes = append(o.volumes, v)
	o.h.claimed(v.name, v.dir)
	o.settle("what was brought back of "+v.name, o.where(v), &v.holds, nil)
	o.h.total.add("trash restore")
}

// ours reports whether another volume of the owner may be in a directory: a copy has the same files.
func (o *owner) ours(dir string) bool {
	return slices.ContainsFunc(o.volumes, func(v *volume) bool { return v.dir == dir }) || o.h.anyLate(o.name)
}

// deleteSnapshot deletes a snapshot, or its group. It reports whether the snapshot is gone.
func (o *owner) deleteSnapshot(s *snapshot) (gone bool) {
	o.settle(s.name, o.h.at(".mooring/snapshots", s.name, "data"), &s.holds, nil)
	if s.group != "" {
		return o.deleteGroup(s.group)
	}
	err := o.ask("delete snapshot", s.name, func(ctx context.Context, d *lab.Driver) error {
		_, err := d.Controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.id})
		return err
	})
	if o.refuses("delete "+s.name, err, codes.FailedPrecondition) { // a volume is this snapshot itself
		return false
	}
	o.snapshots = slices.DeleteFunc(o.snapshots, func(t *snapshot) bool { return t == s })
	if _, err := os.Stat(o.h.at(".mooring/snapshots", s.name)); err == nil && !o.h.mayBeLate(s.name) {
		o.h.wrong("snapshot %s is deleted, and still there", s.name)
	}
	return true
}

func (o *owner) deleteGroup(id string) (gone bool) {
	r := &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: id}
	for _, s := range o.snapshots {
		if s.group == id {
			r.SnapshotIds = append(r.SnapshotIds, s.id)
		}
	}
	err := o.ask("delete group", id, func(ctx context.Context, d *lab.Driver) error {
		_, err := csi.NewGroupControllerClient(d.Conn()).DeleteVolumeGroupSnapshot(ctx, r)
		return err
	})
	if o.refuses("delete "+id, err, codes.FailedPrecondition) {
		return false
	}
	o.snapshots = slices.DeleteFunc(o.snapshots, func(s *snapshot) bool { return s.group == id })
	return true
}

// end deletes everything.
func (o *owner) end() {
	o.calm = true
	o.h.eventually("all that owner "+o.name+" has is deleted", func() (instead string) {
		for _, v := range slices.Clone(o.volumes) {
			o.delete(v)
		}
		for _, name := range o.h.lateShallow(o.name) { // each holds its snapshot
			o.forget(name)
		}
		for len(o.snapshots) > 0 && o.deleteSnapshot(o.snapshots[0]) {
			continue
		}
		unmade := o.unmade
		o.unmade = nil
		for _, name := range unmade {
			o.forget(name)
		}
		for _, v := range o.volumes {
			instead += " " + v.name
		}
		for _, s := range o.snapshots {
			instead += " " + s.name
		}
		if len(o.unmade) > 0 {
			instead += " and what was never made"
		}
		return instead
	})
}
