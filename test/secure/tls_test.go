// SPDX-License-Identifier: Apache-2.0

//go:build lab

package secure

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab/secure"
	"google.golang.org/grpc/codes"
)

// prompt is the time within which a call must report a fault: far below 60 s, after which all calls end.
const prompt = 20 * time.Second

// TestTLSVolumes takes volumes through their lives on exports that require TLS or a certificate of the node.
func TestTLSVolumes(t *testing.T) {
	x := secure.NewTLS(t)
	x.Export()
	for _, version := range []string{"4.1", "4.2"} {
		newRig(t, secure.Server, secure.TLSExport, "nfsvers="+version, "xprtsec=tls").life("v"+version, "xprtsec=tls")
		newRig(t, secure.Server, secure.MTLSExport, "nfsvers="+version, "xprtsec=mtls").life("v"+version, "xprtsec=mtls")
	}
}

// TestTLSFails checks that controller, node and doctor name each fault.
func TestTLSFails(t *testing.T) {
	x := secure.NewTLS(t)
	x.Export()
	x.IssueStrange("strange", "node1.example.com")
	x.Issue("expired", -time.Minute, secure.Server)
	handshake := []string{"the TLS handshake has failed", "journal of tlshd", "not in its certificate", "certificate"}
	more := []string{"the export asks for more than the mount options", "xprtsec=tls"}
	well := secure.Well()
	for _, c := range []struct {
		name, server, path string
		option             string
		peers              secure.Peers
		words              []string
		doctor             string
	}{
		{"another name", secure.Other, secure.TLSExport, "xprtsec=tls", well, handshake, "The journal of tlshd"},
		{"unknown CA", secure.Server, secure.TLSExport, "xprtsec=tls", secure.Peers{Client: "client", Server: "server", Strange: true}, handshake, "The journal of tlshd"},
		{"expired", secure.Server, secure.TLSExport, "xprtsec=tls", secure.Peers{Client: "client", Server: "expired"}, handshake, "The journal of tlshd"},
		{"no certificate", secure.Server, secure.MTLSExport, "xprtsec=mtls", secure.Peers{Server: "server"}, handshake, "The journal of tlshd"},
		{"strange certificate", secure.Server, secure.MTLSExport, "xprtsec=mtls", secure.Peers{Client: "strange", Server: "server"}, handshake, "The journal of tlshd"},
		{"in clear text", secure.Server, secure.TLSExport, "xprtsec=none", well, more, "Check the export on the server, and set xprtsec="},
		{"no tlshd", secure.Server, secure.TLSExport, "xprtsec=tls", secure.Peers{}, []string{"TLS (xprtsec) needs tlshd on this node, which does not run"}, "Install ktls-utils here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if x.Stop(); c.peers.Server != "" {
				x.Start(c.peers)
			}
			r := newRig(t, c.server, c.path, "nfsvers=4.2", c.option)
			code := codes.PermissionDenied
			if c.name == "no tlshd" {
				code = codes.FailedPrecondition
			}
			_, err := r.create("v", nil)
			r.refuses(err, code, c.words...)
			_, err = r.publish(absent("v"))
			r.refuses(err, code, c.words...)
			r.doctorSays(c.doctor)
		})
	}
}

// TestTLSEnds lets a certificate expire while a share is mounted with it: existing connections continue.
// When they break, every call ends soon and reports why, and everything continues with a new certificate.
func TestTLSEnds(t *testing.T) {
	x := secure.NewTLS(t)
	x.Export()
	x.Issue("short", 20*time.Second, secure.Server)
	end := time.Now().Add(21 * time.Second) // a certificate has its times in whole seconds
	x.Start(secure.Peers{Client: "client", Server: "short"})
	r := newRig(t, secure.Server, secure.TLSExport, "nfsvers=4.2", "xprtsec=tls")
	v := must(r.create("ends", nil))
	at := must(r.publish(v))
	time.Sleep(time.Until(end)) // nothing reports the expiry: the connection continues
	must(0, os.WriteFile(filepath.Join(at, "file"), []byte("well"), 0o600))
	x.Restart()
	r.deniedSoon(v, at, "the TLS handshake has failed", "a certificate has expired")
	x.Issue("short", time.Hour, secure.Server)
	x.Start(secure.Peers{Client: "client", Server: "short"})
	r.goesOn(v, at)
}

// deniedSoon checks that each call about a volume reports that the server does not let this machine do
// anything any more, and why.
func (r *rig) deniedSoon(v *csi.Volume, at string, words ...string) {
	r.t.Helper()
	words = append(words, "the server does not let this machine do anything any more")
	var begin time.Time
	var err error
	for n, until := 0, time.Now().Add(time.Minute); err == nil && time.Now().Before(until); n++ { // its ticket may end later
		time.Sleep(200 * time.Millisecond)
		begin = time.Now()
		_, err = r.create(fmt.Sprint("soon-", n), nil)
	}
	r.refuses(err, codes.PermissionDenied, words...)
	if took := time.Since(begin); took > prompt {
		r.t.Errorf("CreateVolume took %v", took)
	}
	_, err = r.Node.NodeGetVolumeStats(r.within(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.GetVolumeId(), VolumePath: at})
	if err != nil { // or the cached result
		r.refuses(err, codes.PermissionDenied, words...)
	}
	h, err := r.Node.NodeGetVolumeHealth(r.within(), &csi.NodeGetVolumeHealthRequest{VolumeId: v.GetVolumeId(), VolumePublishPath: at})
	if err != nil {
		r.t.Error(err)
	}
	r.has(h.String(), append(words, "AccessDenied")...)
	if took := time.Since(begin); took > 2*prompt {
		r.t.Errorf("stats and health took %v", took)
	}
}

// goesOn waits until everything works again by itself.
func (r *rig) goesOn(v *csi.Volume, at string) {
	r.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err = r.create("late", nil)
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(at, "file"), []byte("again"), 0o600)
	}
	if err != nil {
		r.t.Errorf("it does not work again: %v", err)
	}
	r.unpublish(v, at)
}
