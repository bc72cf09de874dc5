// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
)

// writer is a pod that writes to two files, one of them locked.
type writer struct {
	volume        *csi.Volume
	dir           string
	plain, locked *file
	end           func() // and waits for it, unless its server is gone
}

// file is a file to which lines are appended and synced.
type file struct {
	what   string
	path   string
	locked bool

	mu     sync.Mutex
	lines  []string // on disk after fsync(2)
	acked  []time.Time
	errors []failure
}

type failure struct {
	at   time.Time
	text string
}

// startWriter starts a writer, and returns when both files have a line.
func startWriter(t *testing.T, v *csi.Volume, dir string) *writer {
	t.Helper()
	w := &writer{volume: v, dir: dir,
		plain:  &file{what: "a pod that appends to a file", path: filepath.Join(dir, "plain")},
		locked: &file{what: "a pod that appends to a file that it has locked", path: filepath.Join(dir, "locked"), locked: true},
	}
	plain, locked := w.plain.start(t), w.locked.start(t)
	w.end = sync.OnceFunc(func() { plain(); locked() })
	for _, f := range []*file{w.plain, w.locked} {
		if at, seen := f.after(time.Time{}); at.IsZero() || seen != nil {
			t.Fatalf("a pod cannot write: %q", seen)
		}
	}
	return w
}

// start writes in a process of its own: a child that executes another program closes the files of its
// parent, and so waits until the data is on the server, which may be unavailable.
func (f *file) start(t *testing.T) (end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestWriter$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("MOORING_WRITER=%s:%t", f.path, f.locked))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			f.note(lines.Text())
		}
	}()
	return func() {
		_ = in.Close()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Errorf("%s: writing does not end", f.path)
			_ = cmd.Process.Kill()
		}
	}
}

const failed = "failed: "

// TestWriter is the process of a writer for the file in MOORING_WRITER. It prints each line that is on disk,
// and each error.
func TestWriter(t *testing.T) {
	path, locked, ok := strings.Cut(os.Getenv("MOORING_WRITER"), ":")
	if !ok {
		t.Skip("TestHeads runs this")
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	(&file{path: path, locked: locked == "true"}).write(stop)
}

// write continues until stop is closed. After an error it opens the file again, like a restarted pod.
func (f *file) write(stop <-chan struct{}) {
	for n := 0; ; {
		err := f.opened(func(open *os.File) error {
			for {
				select {
				case <-stop:
					return nil
				case <-time.After(50 * time.Millisecond):
				}
				n++
				line := fmt.Sprint("line ", n)
				if _, err := open.WriteString(line + "\n"); err != nil {
					return err
				}
				if err := open.Sync(); err != nil {
					return err
				}
				fmt.Println(line)
			}
		})
		if err == nil {
			return
		}
		text := err.Error()
		if e := new(os.PathError); errors.As(err, &e) {
			text = e.Op + ": " + e.Err.Error()
		}
		fmt.Println(failed + text)
		time.Sleep(100 * time.Millisecond)
	}
}

func (f *file) opened(do func(*os.File) error) error {
	open, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer open.Close()
	if f.locked {
		if err := unix.FcntlFlock(open.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			return &os.PathError{Op: "lock", Path: f.path, Err: err}
		}
	}
	return do(open)
}

// note records a line of the process.
func (f *file) note(printed string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch text, bad := strings.CutPrefix(printed, failed); {
	case bad:
		f.errors = append(f.errors, failure{time.Now(), text})
	case strings.HasPrefix(printed, "line "):
		f.lines, f.acked = append(f.lines, printed), append(f.acked, time.Now())
	}
}

// after waits for an acknowledged line, and returns its time, or the zero time if there is none, and the
// errors since then.
func (f *file) after(since time.Time) (at time.Time, seen []string) {
	for deadline := time.Now().Add(headPatience); at.IsZero() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		f.mu.Lock()
		if i := slices.IndexFunc(f.acked, func(a time.Time) bool { return a.After(since) }); i >= 0 {
			at = f.acked[i]
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.errors {
		if e.at.After(since) && !slices.Contains(seen, e.text) {
			seen = append(seen, e.text)
		}
	}
	return at, seen
}

// kept reports acknowledged lines that are not in the file, or not in their order.
func (f *file) kept(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, filepath.Base(f.path)))
	if err != nil {
		return err
	}
	has := strings.Split(string(data), "\n")
	for i, line := range f.lines {
		at := slices.Index(has, line)
		if at < 0 {
			return fmt.Errorf("%s: %q was acknowledged at %s, the %dth of %d, and is lost", f.path, line, f.acked[i], i+1, len(f.lines))
		}
		has = has[at+1:]
	}
	return nil
}

// last returns the time of the last acknowledged line.
func (w *writer) last() (at time.Time) {
	for _, f := range []*file{w.plain, w.locked} {
		f.mu.Lock()
		if n := len(f.acked); n > 0 && f.acked[n-1].After(at) {
			at = f.acked[n-1]
		}
		f.mu.Unlock()
	}
	return at
}

// wantWriting checks that a pod writes and has got no error.
func (w *writer) wantWriting(t *testing.T, when string) {
	t.Helper()
	now := time.Now()
	for _, f := range []*file{w.plain, w.locked} {
		f.mu.Lock()
		for _, e := range f.errors {
			t.Errorf("%s: %s has seen at %s: %s", when, f.what, e.at, e.text)
		}
		f.mu.Unlock()
		if at, _ := f.after(now); at.IsZero() {
			t.Errorf("%s: %s does not continue", when, f.what)
		}
	}
}

// longest returns the longest time between two lines of a file.
func (w *writer) longest() (gap time.Duration) {
	for _, f := range []*file{w.plain, w.locked} {
		f.mu.Lock()
		for i := range f.acked[1:] {
			gap = max(gap, f.acked[i+1].Sub(f.acked[i]))
		}
		f.mu.Unlock()
	}
	return gap
}
