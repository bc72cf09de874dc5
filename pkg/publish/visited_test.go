// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestMayRemember says of which directories the kernel may remember another one of that name.
func TestMayRemember(t *testing.T) {
	const uuid = "4f9e6a7e-1f0e-4bd7-9d8b-0c6b9fb3a1d2"
	for dir, want := range map[string]bool{
		"pvc-" + uuid: false, uuid: false,
		"team/data-pvc-" + uuid: true, uuid + "/" + uuid: true, "": true, "team/data": true, "pvc-" + uuid + "/data": true, uuid[1:]: true, "pvc-" + uuid + "-1": true,
	} {
		v := new(visited)
		if got := v.mayRemember(target{dir: dir, options: []string{"nfsvers=4.2"}}); got != want {
			t.Errorf("%q: %v", dir, got)
		}
		if !v.mayRemember(target{dir: dir}) {
			t.Errorf("%q is mounted for the second time, and nothing can be remembered", dir)
		}
		if v.mayRemember(target{dir: dir, options: []string{"vers=3"}}) {
			t.Errorf("%q may be remembered with NFSv3", dir)
		}
	}
}

// TestVisitedIsBounded has more directories be visited than are kept in memory.
func TestVisitedIsBounded(t *testing.T) {
	v := new(visited)
	remembered := 0
	for i := range maxVisited + 10 {
		if v.mayRemember(target{dir: fmt.Sprintf("pvc-4f9e6a7e-1f0e-4bd7-9d8b-%012d", i)}) {
			remembered++
		}
	}
	if len(v.dirs) > maxVisited || remembered != 10 {
		t.Errorf("%d directories are kept, and %d of the last 10 may be remembered", len(v.dirs), remembered)
	}
}

// TestFresh mounts a directory as the server has it now where the kernel may remember another one, and
// else by mount(8) alone.
func TestFresh(t *testing.T) {
	n := newNode(t)
	for i, c := range []struct {
		change func(*volume.PublishRequest)
		fresh  int
	}{
		{own, 0},
		{own, 1}, // once more
		{nil, 2},
		{func(r *volume.PublishRequest) { r.Options = []string{"nfsvers=3"} }, 2},
	} {
		n.must(n.publish("a", c.change))
		if n.fresh != c.fresh {
			t.Errorf("%d: %d were mounted as the server has them, and not %d", i, n.fresh, c.fresh)
		}
		n.must(n.unpublish("a"))
	}
}

// TestFreshTogether has two pods of a volume come at once, where the kernel may remember another
// directory: one waits for the other, and shares what it has. Two mounts could be two superblocks.
func TestFreshTogether(t *testing.T) {
	n := newNode(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	s, err := New(func() *volume.Registry { return n.registry }, n.mounter, n.probes, n.at("state"), func(ctx context.Context, r ChildRequest) error {
		close(reached)
		<-goOn
		return n.do(ctx, r)
	})
	n.must(err)
	n.Service = s
	first := make(chan error)
	go func() { first <- n.publish("a", nil) }()
	<-reached
	n.refused("a second pod meanwhile", n.publish("b", nil), volume.ErrBusy)
	n.absent("pods/b")
	close(goOn)
	n.must(<-first)
	n.must(n.publish("b", nil))
	n.did(1, 1)
}

// TestFreshWithoutState has somebody remove the state directory, or put a file in its place.
func TestFreshWithoutState(t *testing.T) {
	n := newNode(t)
	n.must(os.RemoveAll(n.at("state")))
	n.must(n.publish("a", nil))
	if st, err := os.Stat(n.at("state")); err != nil || !st.IsDir() {
		t.Errorf("there is no directory to mount at: %v", err)
	}
	n.must(n.unpublish("a"))
	n.must(os.RemoveAll(n.at("state")))
	n.must(os.WriteFile(n.at("state"), nil, 0o600))
	n.refused("a file", n.publish("a", nil), volume.ErrPrecondition)
}
