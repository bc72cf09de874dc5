// SPDX-License-Identifier: Apache-2.0

// Package keylock locks keys and never waits. If a key is locked, the caller answers Aborted, as
// the CSI spec requires for concurrent calls ("Concurrency", csi spec.md), so that no RPC waits
// for another one that hangs.
package keylock

import "sync"

// Set is a set of locked keys. Its zero value is ready for use.
type Set struct {
	mu   sync.Mutex
	held map[string]int // exclusive: -1; shared: the number of holders
}

// TryLock locks key for one holder. ok is false if it has a holder. The caller calls unlock at
// most once.
func (s *Set) TryLock(key string) (unlock func(), ok bool) {
	return s.tryLock(key, func(held int) (int, bool) { return -1, held == 0 })
}

// TryRLock locks key for one of several holders: they use something that must not be removed
// meanwhile. ok is false if the key is locked by TryLock.
func (s *Set) TryRLock(key string) (unlock func(), ok bool) {
	return s.tryLock(key, func(held int) (int, bool) { return held + 1, held >= 0 })
}

func (s *Set) tryLock(key string, next func(held int) (int, bool)) (func(), bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := next(s.held[key])
	if !ok {
		return nil, false
	}
	if s.held == nil {
		s.held = map[string]int{}
	}
	s.held[key] = held
	return func() { s.unlock(key) }, true
}

func (s *Set) unlock(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] > 1 {
		s.held[key]--
	} else {
		delete(s.held, key)
	}
}
