// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
)

// add registers one more share for the site's programs, in a directory of its own: of the server's path
// base, whose local path on the server is seen. It returns that directory.
func (s *site) add(name, base, seen string, lines ...string) string {
	s.t.Helper()
	dir := filepath.Base(s.path) + "-" + name
	mkdir(s.t, filepath.Join(seen, dir))
	s.config += strings.TrimPrefix(lab.Registry(name, base+"/"+dir, lines...), "shares:\n")
	return filepath.Join(seen, dir)
}

// addSmall registers the share "small", which has less space than nas1.
func addSmall(s *site) string {
	s.t.Helper()
	if err := lab.Do("export", "small"); err != nil {
		s.t.Fatal(err)
	}
	dir := s.add("small", "/small", "/run/export/small")
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// silent returns the port of a server that accepts connections and does not answer.
func silent(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", lab.Server+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// refused returns a port on which no process listens.
const refused = "4"

func onPort(port string) string { return "mountOptions: [nfsvers=4.2, port=" + port + "]" }

// TestPlacement lets the controller choose among shares: the one with the most free space of the usable ones.
func TestPlacement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, share, want string
		dead              string // port of nas1
	}{
		{"the freest of all", "*", "nas1", ""},
		{"the freest of two", "small,nas1", "nas1", ""},
		{"in any order", "nas1, small", "nas1", ""},
		{"the one that is named", "small", "small", ""},
		{"the one that is up", "nas1,small", "small", refused},
		{"any that is up", "*", "small", refused},
		{"any that answers", "*", "small", "silent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []string
			switch c.dead {
			case "silent":
				lines = append(lines, onPort(silent(t)))
			case refused:
				lines = append(lines, onPort(refused))
			}
			s := newSite(t, lines...)
			small := addSmall(s)
			v, err := s.create("pvc-1", params{"share": c.share, "subDir": "dir"})
			if err != nil || v.VolumeContext["share"] != c.want || v.VolumeId != c.want+"/pvc-1" {
				t.Fatalf("the volume is %v (%v), and should be on %s", v, err, c.want)
			}
			dir := map[string]string{"nas1": s.at("dir"), "small": small + "/dir"}[c.want]
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPlacementSticks retries a creation when another share has become the better one.
func TestPlacementSticks(t *testing.T) {
	s := newSite(t)
	good := s.config
	addSmall(s)
	s.config = strings.Replace(s.config, "    path: "+s.path+"\n", "    path: "+s.path+"\n    "+onPort(refused)+"\n", 1)
	first, err := s.create("pvc-1", params{"share": "*"})
	if err != nil || first.VolumeContext["share"] != "small" {
		t.Fatalf("the volume is %v (%v)", first, err)
	}
	s.config = strings.Replace(s.config, "    "+onPort(refused)+"\n", "", 1)
	if !strings.HasPrefix(s.config, good) {
		t.Fatalf("the configuration is\n%s", s.config)
	}
	s.restart()
	if other, err := s.create("pvc-2", params{"share": "*"}); err != nil || other.VolumeContext["share"] != "nas1" {
		t.Errorf("another volume is %v (%v)", other, err)
	}
	for _, share := range []string{"*", "nas1,small"} {
		if again, err := s.create("pvc-1", params{"share": share}); err != nil || again.String() != first.String() {
			t.Errorf("the retry with %s is answered %v (%v), not %v", share, again, err, first)
		}
	}
}

// TestMaxVolumes creates as many volumes on a share as it may have.
func TestMaxVolumes(t *testing.T) {
	s := newSite(t, "maxVolumes: 2")
	s.mustCreate("pvc-1", "")
	s.mustCreate("pvc-2", "")
	unchanged(t, s.export, func() {
		_, err := s.create("pvc-3", nil)
		wantCode(t, err, codes.ResourceExhausted, "nas1 (127.0.0.1:"+s.path+")", "2 volumes", "maxVolumes is 2", "delete some, or raise it")
		s.mustCreate("pvc-2", "") // a retry is not a new volume
	})
	s.mustDelete("nas1/pvc-1")
	s.mustCreate("pvc-3", "")
	s.mustDelete("nas1/pvc-2", "nas1/pvc-3")
	s.empty()
}

// TestCheckedCapacity asks for more than the available space, with a class that checks this.
func TestCheckedCapacity(t *testing.T) {
	s := newSite(t)
	small := addSmall(s)
	s.open()
	for _, c := range []struct {
		size     int64
		capacity string
		code     codes.Code
		says     []string
	}{
		{1 << 40, "checked", codes.OutOfRange, []string{"share small", "1099511627776 are asked for"}},
		{60 << 20, "checked", codes.ResourceExhausted, []string{"share small", "bytes free", "62914560 are asked for", "capacity: unchecked"}},
		{1 << 40, "unchecked", codes.OK, nil},
		{1 << 20, "checked", codes.OK, nil},
	} {
		t.Run(fmt.Sprintf("%d %s", c.size, c.capacity), func(t *testing.T) {
			if c.code == codes.ResourceExhausted {
				write(t, small+"-fill", strings.Repeat("x", 16<<20))
				defer os.Remove(small + "-fill")
			}
			r := request("pvc-1", params{"share": "small", "capacity": c.capacity})
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: c.size}
			_, err := s.controller().CreateVolume(soon(t), r)
			wantCode(t, err, c.code, c.says...)
			s.mustDelete("small/pvc-1")
		})
	}
}

// TestList pages through the volumes of two shares, with a restart and a deletion in between.
func TestList(t *testing.T) {
	s := newSite(t)
	s.add("nas2", lab.Exports, lab.Exports)
	var want []string
	for i := range 7 {
		share := []string{"nas1", "nas2"}[i/4]
		s.mustCreate(fmt.Sprintf("pvc-%d", i), "", "share", share)
		want = append(want, fmt.Sprintf("%s/pvc-%d", share, i))
	}
	if got, next := listVolumes(s, "", 0); !slices.Equal(got, want) || next != "" {
		t.Errorf("the list is %q, %q", got, next)
	}
	for size := range len(want) + 2 {
		var got []string
		for token := "-"; token != ""; {
			page, next := listVolumes(s, strings.TrimPrefix(token, "-"), int32(size))
			if size > 0 && len(page) > size || next != "" && len(page) < size {
				t.Errorf("a page of %d is %q", size, page)
			}
			got, token = append(got, page...), next
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d the list is %q", size, got)
		}
	}
	one, token := listVolumes(s, "", 3)
	s.mustDelete(one[2]) // the volume in the token
	s.restart()
	two, token := listVolumes(s, token, 3)
	s.restart()
	three, token := listVolumes(s, token, 3)
	if got := slices.Concat(one, two, three); !slices.Equal(got, want) || token != "" {
		t.Errorf("three pages are %q, %q, %q and then %q", one, two, three, token)
	}
	_, err := s.controller().ListVolumes(soon(t), &csi.ListVolumesRequest{StartingToken: "no/../token"})
	wantCode(t, err, codes.Aborted, `"no/../token"`, "start it again")
	_, err = s.controller().ListVolumes(soon(t), &csi.ListVolumesRequest{MaxEntries: -1})
	wantCode(t, err, codes.InvalidArgument, "max_entries is -1")
}

func listVolumes(s *site, token string, max int32) (ids []string, next string) {
	s.t.Helper()
	r, err := s.controller().ListVolumes(soon(s.t), &csi.ListVolumesRequest{StartingToken: token, MaxEntries: max})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range r.Entries {
		ids = append(ids, e.Volume.VolumeId)
	}
	return ids, r.NextToken
}

// TestReload changes the configuration file of running programs.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.mustCreate("pvc-1", "")
	node := s.start("node", "node")
	before := s.config
	s.add("nas2", lab.Exports, lab.Exports)
	unknown := func(err error) {
		t.Helper()
		wantCode(t, err, codes.FailedPrecondition, `"nas2"`, "not in Mooring's configuration", "nas1")
	}
	_, err := s.create("pvc-2", params{"share": "nas2"})
	unknown(err)
	rewrite(s, s.config, s.ctl, node)
	eventually(t, waitTimeout, "the new share can be used", func() bool {
		_, err := s.create("pvc-2", params{"share": "nas2"})
		return err == nil
	})
	eventually(t, waitTimeout, "the node knows it", func() bool {
		a := s.seat(node, &csi.Volume{VolumeId: "nas2/pvc-2", VolumeContext: params{"share": "nas2", "subDir": "team-claim-pvc-2-pvc-2"}})
		if a.hold() != nil {
			return false
		}
		a.leave()
		return true
	})
	rewrite(s, before+"colour: red\n", s.ctl, node)
	eventually(t, waitTimeout, "the bad file is noticed", func() bool {
		return strings.Contains(s.ctl.Log(), "The new configuration cannot be used; the previous one stays active")
	})
	s.mustCreate("pvc-2", "", "share", "nas2")
	rewrite(s, before, s.ctl, node)
	eventually(t, waitTimeout, "the share is forgotten", func() bool {
		_, err = s.create("pvc-2", params{"share": "nas2"})
		return err != nil
	})
	unknown(err)
	unknown(s.delete("nas2/pvc-2"))
	s.mustDelete(v.VolumeId)
}

// rewrite replaces the configuration by a rename, like the file of a ConfigMap.
func rewrite(s *site, config string, programs ...*lab.Driver) {
	s.t.Helper()
	for _, d := range programs {
		file := filepath.Join(d.Dir, "config.yaml")
		write(s.t, file+".new", config)
		rename(s.t, file+".new", file)
	}
}

// TestDeadShareHoldsUpNoOther uses a healthy share beside one on a silent server, and one whose server
// wantUnavailable connections.
func TestDeadShareHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add("silent", lab.Exports, lab.Exports, onPort(silent(t)))
	s.add("refused", lab.Exports, lab.Exports, onPort(refused))
	node := s.start("node", "node")
	s.controller()
	life := func(name string) time.Duration {
		start := time.Now()
		v := s.mustCreate(name, "")
		a := s.held(node, v)
		a.must(a.publish("pod", false))
		_, err := a.stats(a.target("pod"))
		a.must(err)
		a.leave("pod")
		s.mustDelete(v.VolumeId)
		return time.Since(start)
	}
	alone := life("pvc-alone") // depends on the machine and its load
	var all sync.WaitGroup
	for _, share := range []string{"silent", "refused"} {
		for i := range 4 {
			name := fmt.Sprintf("pvc-%s-%d", share, i)
			all.Go(func() {
				_, err := s.ctl.Controller.CreateVolume(within(t, prompt), request(name, params{"share": share}))
				wantError(t, err, codes.Unavailable, "share "+share, "127.0.0.1", map[string]string{"silent": "does not answer", "refused": "refused"}[share])
			})
			all.Go(func() {
				a := s.seat(node, &csi.Volume{VolumeId: share + "/" + name, VolumeContext: params{"share": share, "subDir": name}})
				_, err := node.Node.NodePublishVolume(within(t, prompt), &csi.NodePublishVolumeRequest{
					VolumeId: a.volume.VolumeId, VolumeContext: a.volume.VolumeContext, TargetPath: a.target(holder), VolumeCapability: a.capability,
				})
				wantError(t, err, codes.Unavailable, "volume "+share+"/"+name, "127.0.0.1")
			})
		}
	}
	time.Sleep(200 * time.Millisecond) // so that most calls have begun: nothing shows that a call waits
	// A call that waits for a dead share does so each time; on a busy machine not all calls are slow.
	quickest := life("pvc-0")
	for i := range 4 {
		quickest = min(quickest, life(fmt.Sprintf("pvc-%d", i+1)))
	}
	if quickest > 4*alone+4*time.Second {
		t.Errorf("a volume's life took %v alone, and %v at least beside dead shares", alone, quickest)
	}
	all.Wait()
	_, err := s.ctl.Controller.ListVolumes(within(t, 30*time.Second), &csi.ListVolumesRequest{})
	wantCode(t, err, codes.Unavailable, "share refused", "refused")
	s.empty()
}
