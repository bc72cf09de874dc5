// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

func usageCommand(o *options) *cobra.Command {
	l := &listOptions{}
	top := 0
	c := &cobra.Command{
		Use: "usage", Aliases: []string{"du"}, Args: cobra.NoArgs,
		Short: "Measure the space of the volumes, the largest first",
		Long: `Measure the space of the volumes, the largest first: the command reads the attributes of every file,
as du does, in several volumes at a time. Files with shared blocks, for example of a snapshot on a
server with CLONE, count in full.`,
	}
	l.flags(c, true, false, heads(usageColumns()))
	c.Flags().IntVar(&top, "top", 0, "only the largest ones, this many (0: all)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if top < 0 {
			return volume.Errorf(volume.ErrInvalid, "--top is %d, which is negative", top)
		}
		s, end, err := o.open(c, false)
		if err != nil {
			return err
		}
		defer end()
		p := &admin.Progress{}
		done := showProgress(c.Context(), c.ErrOrStderr(), p)
		all, err := s.Usage(c.Context(), o.filter(l.namespace), p)
		done()
		if err != nil {
			return err
		}
		if top > 0 {
			all = all[:min(top, len(all))]
		}
		return s.finish(list(c, l, s.emptyMessage("There are no volumes."), usageColumns(), func(each func(admin.Usage) error) error {
			for _, u := range all {
				if err := each(u); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return c
}

func usageColumns() []column[admin.Usage] {
	return []column[admin.Usage]{
		{head: "HANDLE", cell: func(u admin.Usage) string { return u.Handle }},
		claimColumn(func(u admin.Usage) *volume.PVC { return u.Claim }),
		sizeColumn("ON-DISK", func(u admin.Usage) int64 { return u.Allocated }),
		sizeColumn("SIZE", func(u admin.Usage) int64 { return u.Bytes }),
		sizeColumn("CAPACITY", func(u admin.Usage) int64 { return u.Capacity }),
		countColumn("FILES", func(u admin.Usage) int64 { return u.Files }),
		{head: "DIRECTORIES", wide: true, cell: func(u admin.Usage) string { return strconv.FormatInt(u.Dirs, 10) }, number: func(u admin.Usage) int64 { return u.Dirs }},
		{head: "DIRECTORY", wide: true, cell: func(u admin.Usage) string { return u.Directory }},
	}
}

const (
	progressInterval = 200 * time.Millisecond
	barWidth         = 30
)

// showProgress shows a bar on a terminal until done is called.
func showProgress(ctx context.Context, out io.Writer, p *admin.Progress) (done func()) {
	line := newProgressLine(out)
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				line.clear()
				return
			case <-tick.C:
				line.show(bar(p))
			}
		}
	})
	return func() { cancel(); background.Wait() }
}

func bar(p *admin.Progress) string {
	measured, all := p.Measured.Load(), p.Volumes.Load()
	full := 0
	if all > 0 {
		full = int(barWidth * measured / all)
	}
	return fmt.Sprintf("[%s%s] %d of %d volumes, %d entries, %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		measured, all, p.Entries.Load(), volume.FormatBytes(p.Bytes.Load()))
}
