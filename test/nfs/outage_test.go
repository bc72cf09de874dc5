// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outage causes an accident of the lab's server, and ends it when the test ends or over is called.
func outage(t *testing.T, begin, end string) (over func()) {
	t.Helper()
	begun := true
	over = func() {
		if !begun {
			return
		}
		begun = false
		if err := lab.Do(end); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		over()
		if err := lab.Do("settle"); err != nil { // so that locks of the next test do not wait
			t.Error(err)
		}
	})
	if err := lab.Do(begin); err != nil {
		t.Fatal(err)
	}
	return over
}

// TestControllerInOutage asks controllers for volumes while the server refuses connections or is
// silent: some have their share mounted, and one starts meanwhile. All answer in time, and work
// again afterwards without a restart.
func TestControllerInOutage(t *testing.T) {
	for _, c := range []struct{ begin, end string }{{"stop", "start"}, {"cut", "heal"}} {
		t.Run(c.begin, func(t *testing.T) {
			sites := map[string]*site{}
			for _, version := range []string{"3", "4.2"} {
				dir := exportDir(t, version)
				sites[version] = newSiteAt(t, dir, dir, "mountOptions: [nfsvers="+version+"]")
				sites[version].mustCreate("pvc-before", "")
			}
			over := outage(t, c.begin, c.end)
			dir := exportDir(t, "fresh")
			fresh := newSiteAt(t, dir, dir)
			fresh.controller()
			var all sync.WaitGroup
			sites["fresh"] = fresh
			for _, s := range sites {
				all.Go(func() { wantUnavailable(s, 8*time.Second, "pvc-short") })
				all.Go(func() { wantUnavailable(s, time.Minute, "pvc-long") })
			}
			all.Wait()
			over()
			for _, s := range sites {
				worksAgain(s)
			}
		})
	}
}

// exportDir makes a directory on the server for one of several sites of a test.
func exportDir(t *testing.T, name string) string {
	t.Helper()
	dir := lab.Exports + "/" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()+"-"+name)
	mkdir(t, dir)
	return dir
}

// wantUnavailable asks for a volume that cannot be made at present. A caller with a long timeout gets
// Unavailable; every caller gets the reason.
func wantUnavailable(s *site, timeout time.Duration, name string) {
	var took time.Duration
	var err error
	// The driver answers some time before the caller's deadline. On a busy machine the answer may still
	// arrive too late: the error is then the client's own, without the reason.
	for range 5 {
		start := time.Now()
		_, err = s.ctl.Controller.CreateVolume(within(s.t, timeout), request(name, nil))
		took = time.Since(start)
		s.t.Logf("%s, %s: after %v: %v", filepath.Base(s.path), name, took.Round(time.Millisecond), err)
		if status.Code(err) != codes.DeadlineExceeded || strings.Contains(err.Error(), "share nas1") {
			break
		}
	}
	if status.Code(err) == codes.DeadlineExceeded && timeout < time.Minute {
		wantError(s.t, err, codes.DeadlineExceeded, "volume "+name+" on share nas1", "does not answer", "safe to try again")
	} else {
		wantError(s.t, err, codes.Unavailable, "share nas1", "127.0.0.1:"+s.path, "answer")
	}
	if took >= timeout {
		s.t.Errorf("the answer took %v", took)
	}
}

// worksAgain makes and deletes volumes, as soon as the server's grace period allows.
func worksAgain(s *site) {
	s.t.Helper()
	for _, name := range []string{"pvc-short", "pvc-long", "pvc-before"} {
		eventually(s.t, waitTimeout, "the share can be used again", func() bool {
			_, err := s.ctl.Controller.CreateVolume(within(s.t, 20*time.Second), request(name, nil))
			return err == nil
		})
		s.mustDelete("nas1/" + name)
	}
	s.empty()
}
