// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"strings"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Health is the health of a share.
type Health struct {
	Share     string `json:"share"`
	Export    string `json:"export"`
	Reachable bool   `json:"reachable"` // it is mounted, and its server answers
	// Writable is nil if that was not tried.
	Writable *bool `json:"writable,omitempty"`
	// Version is the version of NFS, for example "4.2"; "": not known.
	Version string `json:"nfsVersion,omitempty"`
	// Free and Total are bytes; nil: the server does not report them.
	Free  *int64 `json:"freeBytes,omitempty"`
	Total *int64 `json:"totalBytes,omitempty"`
	// Problem is what is wrong, with the remedy; "": nothing.
	Problem string `json:"problem,omitempty"`
}

// Health calls each with the health of each share. It creates an empty file on each share, and removes it.
func (s Shares) Health(ctx context.Context, f Filter, each func(Health) error) error {
	names, err := s.service.shares(f)
	if err != nil {
		return err
	}
	openings := openAll(ctx, s.service, names)
	for _, name := range names {
		h, err := healthOf(ctx, s.service, name, <-openings[name], true)
		if err != nil {
			return err
		}
		if err := each(h); err != nil {
			return err
		}
	}
	return nil
}

// healthOf returns the health of one share. With write, it tries to write on it. The error is that of ctx
// or of the registry.
func healthOf(ctx context.Context, s *Service, name string, o opened, write bool) (Health, error) {
	def, err := s.pool.Registry().Resolve(name)
	if err != nil {
		return Health{}, err
	}
	h := Health{Share: def.Name, Export: exportOf(def)}
	err = workOn(ctx, s, o, name, func(got Health) error { h = got; return nil },
		func(ctx context.Context, sh *share.Share, emit emitter[Health]) error {
			got, err := health(ctx, sh, h, write)
			if err != nil {
				return err
			}
			return emit(got)
		})
	if ctx.Err() != nil {
		return h, ctx.Err()
	}
	if err != nil {
		h.Problem = err.Error()
		// These come from calls on the mounted share.
		h.Reachable = errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
	}
	h.Version = s.pool.Versions()[def.Name]
	return h, nil
}

// health completes h with what an open share says.
func health(ctx context.Context, sh *share.Share, h Health, write bool) (Health, error) {
	space, err := sh.Space(ctx)
	if err != nil {
		return h, err
	}
	h.Reachable = true
	if space.Known() {
		h.Free, h.Total = &space.Free, &space.Total
	}
	if def := sh.Definition(); def.ID != "" && def.ID != sh.Identity.ID() {
		h.Problem = volume.WrongShareError(def.Name, def.ID, sh.Identity.ID(), sh.Initialized()).Error()
	}
	if !write {
		return h, nil
	}
	err = share.CheckWritable(ctx, sh)
	writable := err == nil
	h.Writable = &writable
	if err != nil {
		h.Problem = err.Error()
	}
	return h, nil
}

func exportOf(def volume.Share) string {
	return volume.ExportName(strings.Join(def.Servers, ","), def.Path)
}
