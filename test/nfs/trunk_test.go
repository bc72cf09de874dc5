// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// first is another address of the lab's server.
const first = "127.0.0.2"

// twoAddresses adds that address to the share, as the first one.
func twoAddresses(s *site) {
	s.config = strings.Replace(s.config, "servers: ["+lab.Server+"]", "servers: ["+first+", "+lab.Server+"]", 1)
}

// silence cuts an address of the server off until the test ends or heal is called.
func silence(t *testing.T, address string) (heal func()) {
	output(t, "tc qdisc add dev lo clsact && tc filter add dev lo egress protocol ip u32 match ip dst "+address+"/32 match ip dport 2049 0xffff action drop")
	heal = sync.OnceFunc(func() { output(t, "tc qdisc del dev lo clsact") })
	t.Cleanup(heal)
	return heal
}

// TestSecondAddress uses a share with two addresses of one server. Pods of the node use the first one, which
// then becomes silent: the next volume is mounted from the second one. If both had the same NFSv4 client, the
// kernel would find that the second one belongs to a server that it has, and would use the existing
// connection.
func TestSecondAddress(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			twoAddresses(s)
			volumes := []string{"before", "after"}
			for _, v := range volumes {
				mkdir(t, s.at(v))
			}
			node := s.start("node", "node")
			before := s.held(node, static(volumes[0], "share", "nas1", "subDir", volumes[0]))
			after := s.seat(node, static(volumes[1], "share", "nas1", "subDir", volumes[1]))
			heal := silence(t, first)
			var err error
			for until := time.Now().Add(waitTimeout); time.Now().Before(until); { // the node may just have heard from the first
				if err = after.hold(); err == nil {
					break
				}
				wantError(t, err, codes.Unavailable, first)
			}
			after.must(err)
			m := after.mount(after.target(holder))
			if want := "addr=" + lab.Server; !strings.Contains(m.VFSOptions+",", want+",") {
				t.Errorf("it is mounted by %s", m.VFSOptions)
			}
			write(t, after.target(holder+"/file"), fmt.Sprint("by ", lab.Server))
			heal()
			write(t, before.target(holder+"/file"), fmt.Sprint("by ", first))
			before.leave()
			after.leave()
		})
	}
}

// TestControllerSecondAddress checks that the controller continues with the second address of a share, even
// if pods of the node use the first.
func TestControllerSecondAddress(t *testing.T) {
	s := newSite(t, "mountOptions: [nfsvers=4.2]")
	twoAddresses(s)
	a := s.held(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	heal := silence(t, first)
	eventually(t, waitTimeout, "there is another volume", func() bool { _, err := s.create("pvc-2", nil); return err == nil })
	heal()
	a.leave()
}

// TestControllerSecondAddressUnderWay has ten creations under way when the address by which the share is
// mounted falls silent: all are answered by the second address, after a few retries.
func TestControllerSecondAddressUnderWay(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			twoAddresses(s)
			s.mustCreate("pvc-before", "")
			silence(t, first) // the controller knows for five seconds that it answers
			start := time.Now()
			var all sync.WaitGroup
			for i := range 10 {
				all.Go(func() {
					name := fmt.Sprint("pvc-", i)
					for tries := 1; ; tries++ {
						_, err := s.create(name, nil)
						if err == nil {
							t.Logf("%s is there after %v and %d tries", name, time.Since(start), tries)
							return
						}
						if code := status.Code(err); code != codes.Unavailable && code != codes.Aborted {
							t.Errorf("%s: %v", name, err)
						}
						if strings.Contains(err.Error(), "input/output error") {
							t.Errorf("%s: the disk has not failed: %v", name, err)
						}
						if time.Since(start) > waitTimeout {
							t.Errorf("%s is not there after %v and %d tries: %v", name, time.Since(start), tries, err)
							return
						}
						time.Sleep(time.Second)
					}
				})
			}
			all.Wait()
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
