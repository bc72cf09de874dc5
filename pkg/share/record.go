// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// maxRecord is far more than a record can be, and little to read by accident.
const maxRecord = 64 << 10

// Stored is a record as it was read from the share.
type Stored struct {
	volume.Record
	stat unix.Stat_t
}

// Lookup reads the record of a volume. It is ErrNotFound where there is none, and
// ErrDamaged where it cannot be believed.
func (s *Share) Lookup(ctx context.Context, key string) (*Stored, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.fail("read the record of volume "+key, err)
	}
	r, st, err := s.record(key)
	if err != nil {
		return nil, err
	}
	return &Stored{Record: *r, stat: st}, nil
}

func (s *Share) record(key string) (*volume.Record, unix.Stat_t, error) {
	data, st, err := s.volumes.Read(jsonName(key), maxRecord)
	if gone(err) && !s.gone() {
		if is(err, unix.ESTALE) {
			s.doubt()
		}
		return nil, st, volume.Errorf(volume.ErrNotFound, "share %s has no volume %s", s.def, key)
	}
	if err != nil {
		return nil, st, s.fail("read the record of volume "+key, err)
	}
	r, err := volume.DecodeRecord(key, data)
	if err != nil {
		return nil, st, fmt.Errorf("share %s: %w", s.def, err)
	}
	return r, st, nil
}

// gone reports whether it is the share itself that is stale, and not one file on it, which
// another controller has removed.
func (s *Share) gone() bool { return is(s.volumes.Refresh(), unix.ESTALE) }

// Update replaces the record of a volume by a changed one, atomically.
func (s *Share) Update(ctx context.Context, r volume.Record) error {
	what := fmt.Sprintf("change the record of volume %s", r.Key)
	if err := ctx.Err(); err != nil {
		return s.fail(what, err)
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	if at := volume.ReadyAt(data); r.Ready == 1 && at >= 0 {
		data[at] = '1'
	}
	aside := nonceFile(r.Key, s.nonce())
	s.step("write the changed record aside")
	f, err := s.staging.Write(aside, 0, data)
	if err != nil {
		return s.fail(what, err)
	}
	err = f.Close()
	if err == nil {
		s.step("rename the changed record into place")
		err = s.staging.Rename(aside, s.volumes, jsonName(r.Key))
	}
	if err != nil {
		_ = s.staging.Unlink(aside)
	}
	return s.fail(what, err)
}

// Keys returns the keys of all volumes, sorted.
func (s *Share) Keys(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.fail("list the volumes", err)
	}
	var keys []string
	err := s.volumes.Names(func(name string) error {
		if key, ok := keyOf(name); ok {
			keys = append(keys, key)
		}
		return ctx.Err()
	})
	slices.Sort(keys)
	return keys, s.fail("list the volumes", err)
}

// Exists reports whether there is a directory of that path, of whomever it may be.
func (s *Share) Exists(ctx context.Context, directory string) (bool, error) {
	err := ctx.Err()
	if err == nil {
		parent, name := volume.SplitDirectory(directory)
		var at beneath.Dir
		if at, err = s.root.Resolve(parent); err == nil {
			defer at.Close()
			err = at.Refresh()
		}
		var d beneath.Dir
		if err == nil {
			d, err = at.Resolve(name)
		}
		if err == nil {
			d.Close()
			return true, nil
		}
	}
	return false, s.fail(fmt.Sprintf("look at the directory %q", directory), ignore(err, unix.ENOENT))
}

// Age returns how long ago the record was written, as far as the clocks here and there agree.
func (r *Stored) Age() time.Duration { return time.Since(time.Unix(r.stat.Mtim.Unix())) }

func jsonName(key string) string { return key + ".json" }

func keyOf(name string) (string, bool) { return strings.CutSuffix(name, ".json") }
