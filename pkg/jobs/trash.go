// SPDX-License-Identifier: Apache-2.0

package jobs

import "time"

// Trash is the state of one share's trash.
type Trash struct {
	Share   string
	Scanned bool      // whether the trash was listed: else its content is not known
	Volumes int       // in the trash, at the last scan
	Oldest  time.Time // deletion of the oldest; zero: there is none
	Overdue int       // of those, whose retention is over
	Since   time.Time // when the first of the overdue was due; zero: there is none
	// Unfinished are those whose record is not in the trash: their deletion was interrupted, and
	// they are not purged before it is finished.
	Unfinished int
	Purged     int64 // volumes, by this process
	Entries    int64 // files and directories, by this process; grows during a purge
	Failed     int64 // attempts, by this process
}

// Status returns the state of each share's trash.
func (p *Purger) Status() []Trash {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Trash
	for _, w := range p.workers {
		all = append(all, w.statusAt(p.serverNow(w)))
	}
	return all
}

// serverNow returns the time of the server of a worker's share, by the last measurement.
func (p *Purger) serverNow(w *worker) time.Time { return p.clock().Add(w.clockAhead) }

// statusAt returns the status at a time, with the overdue volumes and the running removals.
func (w *worker) statusAt(at time.Time) Trash {
	status := w.status
	for _, e := range w.queue {
		if !e.entry.HasRecord() {
			status.Unfinished++
			continue
		}
		if e.due.After(at) {
			continue
		}
		status.Overdue++
		if status.Since.IsZero() || e.due.Before(status.Since) {
			status.Since = e.due
		}
	}
	for removal := range w.removals {
		status.Entries += removal.Entries.Load()
	}
	return status
}

// updateStatus counts the queue.
func (w *worker) updateStatus() {
	w.status.Volumes, w.status.Oldest = len(w.queue), time.Time{}
	for _, e := range w.queue {
		if e.entry.Deleted.IsZero() {
			continue
		}
		if w.status.Oldest.IsZero() || e.entry.Deleted.Before(w.status.Oldest) {
			w.status.Oldest = e.entry.Deleted
		}
	}
}
