// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestMayBeCached checks for which directories the kernel may have cached another one of that name.
func TestMayBeCached(t *testing.T) {
	const uuid = "4f9e6a7e-1f0e-4bd7-9d8b-0c6b9fb3a1d2"
	for dir, want := range map[string]bool{
		"pvc-" + uuid: false, uuid: false,
		"team/data-pvc-" + uuid: true, uuid + "/" + uuid: true, "": true, "team/data": true, "pvc-" + uuid + "/data": true, uuid[1:]: true, "pvc-" + uuid + "-1": true,
	} {
		v := new(visited)
		if got := v.mayBeCached(target{dir: dir, options: []string{"nfsvers=4.2"}}); got != want {
			t.Errorf("%q: %v", dir, got)
		}
		if !v.mayBeCached(target{dir: dir}) {
			t.Errorf("%q cannot be cached at its second mount", dir)
		}
		if v.mayBeCached(target{dir: dir, options: []string{"vers=3"}}) {
			t.Errorf("%q may be cached with NFSv3", dir)
		}
	}
}

// TestVisitedIsBounded visits more directories than are kept in memory.
func TestVisitedIsBounded(t *testing.T) {
	v := new(visited)
	cached := 0
	for i := range maxVisited + 10 {
		if v.mayBeCached(target{dir: fmt.Sprintf("pvc-4f9e6a7e-1f0e-4bd7-9d8b-%012d", i)}) {
			cached++
		}
	}
	if len(v.dirs) > maxVisited || cached != 10 {
		t.Errorf("%d directories are kept, and %d of the last 10 may be cached", len(v.dirs), cached)
	}
}

// TestFresh checks that a directory is mounted fresh if the kernel may have cached another one, and
// else with mount(8) alone.
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
			t.Errorf("%d: %d fresh mounts, want %d", i, n.fresh, c.fresh)
		}
		n.must(n.unpublish("a"))
	}
}

// TestFreshConcurrent publishes a volume for two pods at once, while the kernel may have cached another
// directory: one waits for the other, and shares its mount. Two mounts could be two superblocks.
func TestFreshConcurrent(t *testing.T) {
	n := newNode(t)
	reached, resume := make(chan struct{}), make(chan struct{})
	s, err := New(func() *volume.Registry { return n.registry }, n.mounter, n.probes, n.at("state"), func(ctx context.Context, r ChildRequest) error {
		close(reached)
		<-resume
		return n.do(ctx, r)
	})
	n.must(err)
	n.Service = s
	first := make(chan error)
	go func() { first <- n.publish("a", nil) }()
	<-reached
	n.refused("a second pod meanwhile", n.publish("b", nil), volume.ErrBusy)
	n.absent("pods/b")
	close(resume)
	n.must(<-first)
	n.must(n.publish("b", nil))
	n.wantMounts(1, 1)
}

// TestFreshWithoutState removes the state directory, and puts a file in its place.
func TestFreshWithoutState(t *testing.T) {
	n := newNode(t)
	n.must(os.RemoveAll(n.at("state")))
	n.must(n.publish("a", nil))
	if st, err := os.Stat(n.at("state")); err != nil || !st.IsDir() {
		t.Errorf("no state directory: %v", err)
	}
	n.must(n.unpublish("a"))
	n.must(os.RemoveAll(n.at("state")))
	n.must(os.WriteFile(n.at("state"), nil, 0o600))
	n.refused("a file", n.publish("a", nil), volume.ErrPrecondition)
}
