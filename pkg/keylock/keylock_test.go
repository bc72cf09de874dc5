// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestExclusiveAndShared(t *testing.T) {
	var s Set
	unlock, ok := s.TryLock("a")
	if !ok {
		t.Fatal("a free key was refused")
	}
	if _, ok := s.TryLock("a"); ok {
		t.Error("a key was locked twice")
	}
	if _, ok := s.TryRLock("a"); ok {
		t.Error("a locked key was shared")
	}
	if other, ok := s.TryLock("b"); !ok {
		t.Error("the lock of one key blocks another")
	} else {
		other()
	}
	unlock()

	first, ok1 := s.TryRLock("a")
	second, ok2 := s.TryRLock("a")
	if !ok1 || !ok2 {
		t.Fatal("a key cannot be shared")
	}
	first()
	if _, ok := s.TryLock("a"); ok {
		t.Error("a key was locked while it is shared")
	}
	second()
	last, ok := s.TryLock("a")
	if !ok {
		t.Fatal("a released key was refused")
	}
	last()
	if len(s.held) != 0 {
		t.Errorf("%d keys are kept after all were released", len(s.held))
	}
}

func TestOneHolderAtATime(t *testing.T) {
	var s Set
	var inside, taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				unlock, ok := s.TryLock("k")
				if !ok {
					continue
				}
				if inside.Add(1) != 1 {
					t.Error("two holders at once")
				}
				taken.Add(1)
				inside.Add(-1)
				unlock()
			}
		})
	}
	wg.Wait()
	if taken.Load() == 0 {
		t.Error("no goroutine got the lock")
	}
}
