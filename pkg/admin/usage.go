// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sync/errgroup"
)

// measuredAtOnce volumes of a share are measured concurrently, each with workersPerMeasure calls: together
// twice the default number of knfsd's threads (8), so that none is idle.
const (
	measuredAtOnce    = 4
	workersPerMeasure = 4
)

// Usage is the size of a volume's files.
type Usage struct {
	Handle    string      `json:"handle"`
	Claim     *volume.PVC `json:"claim,omitempty"`
	Directory string      `json:"directory"`
	Files     int64       `json:"files"`
	Dirs      int64       `json:"directories"`
	Bytes     int64       `json:"bytes"`          // the sum of the files' sizes
	Allocated int64       `json:"allocatedBytes"` // what they take on the disk
	Capacity  int64       `json:"capacityBytes"`
}

// Progress counts the progress of a measurement. Its counters may be read while it runs.
type Progress struct {
	Volumes, Measured, Entries, Bytes atomic.Int64
}

// Usage measures all volumes and returns the largest first.
func (s *Service) Usage(ctx context.Context, f Filter, p *Progress) ([]Usage, error) {
	var all []Usage
	err := onShares(ctx, s, f, func(u Usage) error { all = append(all, u); return nil }, s.measure(f, p))
	slices.SortFunc(all, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(b.Allocated, a.Allocated), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Handle, b.Handle))
	})
	return all, err
}

func (s *Service) measure(f Filter, p *Progress) work[Usage] {
	return func(ctx context.Context, sh *share.Share, emit emitter[Usage]) error {
		keys, err := sh.Volumes.Keys(ctx)
		if err != nil {
			return err
		}
		p.Volumes.Add(int64(len(keys)))
		var mu sync.Mutex
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(measuredAtOnce)
		for _, key := range keys {
			group.Go(func() error {
				defer p.Measured.Add(1)
				u, err := s.measureOne(ctx, sh, f, key, p)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil { // the next may succeed
					s.report(err)
				}
				if u == nil {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				return emit(*u)
			})
		}
		return group.Wait()
	}
}

// measureOne measures a volume. It returns nil if f does not match, or if the volume is deleted, or is being
// created or deleted: its directory may then have other content. The tree of a snapshot that is used as a
// volume does not count for the volume.
func (s *Service) measureOne(ctx context.Context, sh *share.Share, f Filter, key string, p *Progress) (*Usage, error) {
	r, err := sh.Volumes.Lookup(ctx, key)
	if errors.Is(err, volume.ErrNotFound) {
		return nil, nil
	}
	if err != nil || r.State != share.Ready || !f.matches(r.PVC) {
		return nil, err
	}
	u := &Usage{Handle: sh.Definition().Name + "/" + key, Claim: r.PVC, Directory: r.Directory, Capacity: r.Capacity}
	if r.Shallow {
		return u, nil
	}
	d, err := sh.Directories.Open(ctx, r.Directory)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", u.Handle, err)
	}
	defer d.Close()
	m := copytree.Measurement{Workers: workersPerMeasure}
	err = m.Run(ctx, int(d.Fd()))
	u.Files, u.Dirs, u.Bytes, u.Allocated = m.Files.Load(), m.Dirs.Load(), m.Bytes.Load(), m.Allocated.Load()
	p.Entries.Add(u.Files + u.Dirs + m.Others.Load())
	p.Bytes.Add(u.Bytes)
	if err != nil {
		return nil, sh.WrapError("measure volume "+u.Handle, err)
	}
	return u, nil
}
