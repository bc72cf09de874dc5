// SPDX-License-Identifier: Apache-2.0

package share

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// manyVolumes is the number of volumes of a large share.
const manyVolumes = 15000

// makeManyVolumes makes volumes as a class with subDir does: ns-N/pvc, each with a parent of its
// own. It does not use the steps of a creation, which would take a minute.
func makeManyVolumes(g *testShare, n int) {
	g.Helper()
	r := record("pvc-0", "ns-0/pvc")
	r.Maker, r.Run, r.Nonce = maker, "run", someNonce
	data, err := r.Encode()
	g.must(err)
	for i := range n {
		number := strconv.Itoa(i)
		text := strings.NewReplacer("pvc-0", "pvc-"+number, "ns-0", "ns-"+number, someNonce, fmt.Sprintf("%016x", i)).Replace(string(data))
		parent, claim, entry := g.at("ns-"+number), g.at(".mooring/claims/ns-"+number), g.at(".mooring/volumes/pvc-"+number)
		for _, dir := range []string{parent, parent + "/pvc", claim, claim + "/taken", claim + "/taken/pvc", entry} {
			g.must(os.Mkdir(dir, 0o700))
		}
		g.must(os.WriteFile(entry+"/"+recordFile, []byte(text), 0o600))
		g.must(os.Link(entry+"/"+recordFile, claim+"/taken/pvc/"+takenName))
		for _, note := range []string{claimsNote, directoryNote} {
			g.must(os.WriteFile(g.at(".mooring/parents/"+note+"ns-"+number), nil, 0o600))
		}
	}
}

// TestCrowd checks that such volumes look as if they had been created.
func TestCrowd(t *testing.T) {
	g, made := newTestShare(t), newTestShare(t)
	makeManyVolumes(g, 20)
	if found := checked(g, expiredLease, nil); len(found) > 0 {
		t.Errorf("found is %q", found)
	}
	for i := range 20 {
		made.create(fmt.Sprintf("pvc-%d", i), fmt.Sprintf("ns-%d/pvc", i))
	}
	if d := diffLines(g.tree(), made.tree()); d != "" {
		t.Errorf("they differ from those that are created:\n%s", d)
	}
	if left := clearShare(g); len(left) > 0 {
		t.Errorf("in the end there is %q", left)
	}
}

// dirWatch records what is done in the share's directory and in Mooring's directories, by
// inotify(7): each directory that is read, and each file that is opened, made or removed.
type dirWatch struct {
	g  *testShare
	fd int
	of map[int32]string
}

func watching(g *testShare) *dirWatch {
	g.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	g.must(err)
	g.Cleanup(func() { _ = unix.Close(fd) })
	w := &dirWatch{g, fd, map[int32]string{}}
	for _, dir := range append(slices.Sorted(maps.Keys(g.directories())), "", "..") {
		path := filepath.Join(volume.StateDir, dir)
		wd, err := unix.InotifyAddWatch(fd, g.at(path), unix.IN_ALL_EVENTS)
		g.must(err)
		w.of[int32(wd)] = path
	}
	return w
}

// events returns what was done since the last call.
func (w *dirWatch) events() (all []string) {
	w.g.Helper()
	buffer := make([]byte, 1<<16)
	for {
		n, err := unix.Read(w.fd, buffer)
		if err == unix.EAGAIN {
			return all
		}
		w.g.must(err)
		for at := 0; at < n; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at]))
			at += unix.SizeofInotifyEvent
			name := string(bytes.TrimRight(buffer[at:at+int(e.Len)], "\x00"))
			at += int(e.Len)
			if e.Mask&unix.IN_Q_OVERFLOW != 0 {
				w.g.Fatal("events were lost")
			}
			line := fmt.Sprintf("%s %s %#x", w.of[e.Wd], name, e.Mask)
			all = append(all, nonces.ReplaceAllString(line, "NONCE"))
		}
	}
}

// TestOpenMany opens a share with many volumes, and more parents: that does exactly what it does on
// an empty share.
func TestOpenMany(t *testing.T) {
	opens := map[string]func(g *testShare, step func(string)) error{
		"for a controller": func(g *testShare, step func(string)) error {
			s, err := Open(g.dir, nas1, Options{Maker: "new", Run: "run", Step: step})
			if err == nil {
				s.Close()
			}
			return err
		},
		"to look": func(g *testShare, step func(string)) error {
			s, err := Open(g.dir, nas1, Options{ReadOnly: true, Step: step})
			if err == nil {
				s.Close()
			}
			return err
		},
		"for a pod": func(g *testShare, _ func(string)) error {
			v, err := OpenInline(g.dir, nas1, true)
			if err == nil {
				v.Close()
			}
			return err
		},
	}
	empty, full := newTestShare(t), newTestShare(t)
	began := time.Now()
	makeManyVolumes(full, manyVolumes)
	t.Logf("%d volumes were made in %v", manyVolumes, time.Since(began).Round(time.Millisecond))
	for what, open := range opens {
		var did [2][]string
		for i, g := range []*testShare{empty, full} {
			g.must(open(g, nil)) // which makes what only the first call has to make
			w := watching(g)
			began := time.Now()
			g.must(open(g, func(step string) { did[i] = append(did[i], "step "+step) }))
			took := time.Since(began)
			did[i] = append(did[i], w.events()...)
			t.Logf("%s, with %d volumes: %d steps and accesses, %v", what, i*manyVolumes, len(did[i]), took.Round(time.Microsecond))
		}
		if !slices.Equal(did[0], did[1]) {
			t.Errorf("%s: done is\n\t%s\nand on an empty share\n\t%s", what, strings.Join(did[1], "\n\t"), strings.Join(did[0], "\n\t"))
		}
		for _, line := range did[1] {
			if strings.Contains(line, "volumes") || strings.Contains(line, "claims") || strings.Contains(line, "parents") {
				t.Errorf("%s: %s", what, line)
			}
		}
	}
}
