// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// Source is a registry that follows its file. A file that cannot be used is reported and
// changes nothing: the registry before it stays in force.
type Source struct {
	path    string
	last    []byte // what the file held when it was looked at last, good or not
	current atomic.Pointer[volume.Registry]
}

// Open reads the registry from the file at path; without a path it is Default for good.
// A file that is not there or cannot be used is an error: a driver that starts without the
// shares that its volumes are on would only seem to work.
func Open(path string) (*Source, error) {
	s := &Source{path: path}
	if path == "" {
		s.current.Store(Default())
		return s, nil
	}
	if _, err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// Current returns the registry in force.
func (s *Source) Current() *volume.Registry { return s.current.Load() }

// Watch looks at the file every interval until ctx ends. It reads and compares, because a
// ConfigMap changes by a swapped symbolic link that no watch on the file itself notices.
func (s *Source) Watch(ctx context.Context, interval time.Duration) {
	if s.path == "" {
		return
	}
	log := klog.FromContext(ctx)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch changed, err := s.load(); {
		case err != nil && changed:
			log.Error(err, "The new configuration cannot be used; the one before stays in force", "file", s.path)
		case changed:
			log.Info("Configuration reloaded", "file", s.path, "shares", len(s.Current().Shares))
		}
	}
}

// load reads the file, and reports whether it differs from what was read before.
func (s *Source) load() (changed bool, err error) {
	data, err := os.ReadFile(s.path)
	if err != nil {
		// Where a file has been, its absence is news once, not at every look.
		changed, s.last = s.last != nil, nil
		return changed, fmt.Errorf("read the configuration: %w", err)
	}
	if s.last != nil && bytes.Equal(data, s.last) {
		return false, nil
	}
	s.last = data
	r, err := Parse(data)
	if err != nil {
		return true, fmt.Errorf("configuration %s: %w", s.path, err)
	}
	s.current.Store(r)
	return true, nil
}
