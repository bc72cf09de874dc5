// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

func usageCommand(o *options) *cobra.Command {
	l := &listing{}
	top := 0
	c := &cobra.Command{
		Use: "usage", Aliases: []string{"du"}, Args: cobra.NoArgs,
		Short: "Measure what the volumes take, the largest first",
		Long: `Measure what the volumes take, the largest first: every file is looked at, as du does, in several
volumes at a time. Files that share their blocks, as a snapshot's do where the server clones,
count in full.`,
	}
	l.flags(c, true, false)
	c.Flags().IntVar(&top, "top", 0, "only so many of the largest (0: all)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := l.check(); err != nil {
			return err
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
		return s.end(list(c, l, s.unless("There are no volumes."), usageColumns(), func(each func(admin.Usage) error) error {
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
		{head: "CLAIM", cell: func(u admin.Usage) string { return claim(u.Claim) }},
		{head: "ON-DISK", cell: func(u admin.Usage) string { return size(u.Allocated) }},
		{head: "SIZE", cell: func(u admin.Usage) string { return size(u.Bytes) }},
		{head: "CAPACITY", cell: func(u admin.Usage) string { return size(u.Capacity) }},
		{head: "FILES", cell: func(u admin.Usage) string { return strconv.FormatInt(u.Files, 10) }},
		{head: "DIRECTORIES", wide: true, cell: func(u admin.Usage) string { return strconv.FormatInt(u.Dirs, 10) }},
		{head: "DIRECTORY", wide: true, cell: func(u admin.Usage) string { return u.Directory }},
	}
}

const (
	barEvery = 200 * time.Millisecond
	barWidth = 30
)

// showProgress draws a bar on a terminal, and nothing elsewhere, until done is called.
func showProgress(ctx context.Context, to io.Writer, p *admin.Progress) (done func()) {
	if !isTerminal(to) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(barEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				fmt.Fprint(to, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprint(to, "\r\x1b[K"+bar(p))
			}
		}
	}()
	return func() { cancel(); <-ended }
}

func bar(p *admin.Progress) string {
	measured, all := p.Measured.Load(), p.Volumes.Load()
	full := 0
	if all > 0 {
		full = int(barWidth * measured / all)
	}
	return fmt.Sprintf("[%s%s] %d of %d volumes, %d entries, %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		measured, all, p.Entries.Load(), size(p.Bytes.Load()))
}
