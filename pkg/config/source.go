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

// Source is a registry that follows its file. A file that cannot be used is logged, and the
// current registry stays.
type Source struct {
	path    string
	last    []byte // content of the file at the last read, valid or not
	current atomic.Pointer[volume.Registry]
}

// Open reads the registry from the file at path. Without a path the registry is always Default.
// A file that does not exist or cannot be used is an error: a driver without the shares of its
// volumes would only seem to work.
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

// Current returns the current registry.
func (s *Source) Current() *volume.Registry { return s.current.Load() }

// Watch reads the file every interval until ctx ends. It compares the content, because a ConfigMap
// changes by a replaced symbolic link, which a watch on the file itself does not notice.
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
			log.Error(err, "The new configuration cannot be used; the previous one stays active", "file", s.path)
		case changed:
			log.Info("Configuration reloaded", "file", s.path, "shares", len(s.Current().Shares))
		}
	}
}

// load reads the file, and reports whether it has changed since the last read.
func (s *Source) load() (changed bool, err error) {
	data, err := os.ReadFile(s.path)
	if err != nil {
		// A missing file is a change once, not at every read.
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
