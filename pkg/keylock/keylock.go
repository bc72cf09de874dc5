// SPDX-License-Identifier: Apache-2.0

// Package keylock locks keys without ever waiting: who finds a key taken is told so and
// answers Aborted, as the CSI spec asks of concurrent calls ("Concurrency", csi spec.md),
// so that no RPC hangs behind another that hangs.
package keylock

import "sync"

// Set is a set of locked keys. Its zero value is ready for use.
type Set struct {
	mu   sync.Mutex
	held map[string]int // exclusive: -1; shared: the number of holders
}

// TryLock takes key for one holder. ok is false where anyone holds it. unlock may be
// called once.
func (s *Set) TryLock(key string) (unlock func(), ok bool) {
	return s.tryLock(key, func(held int) (int, bool) { return -1, held == 0 })
}

// TryRLock takes key together with others that do the same: to use something that must
// not be taken away meanwhile. ok is false where someone has it by TryLock.
func (s *Set) TryRLock(key string) (unlock func(), ok bool) {
	return s.tryLock(key, func(held int) (int, bool) { return held + 1, held >= 0 })
}

func (s *Set) tryLock(key string, take func(held int) (int, bool)) (func(), bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := take(s.held[key])
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
