// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// queryTimeout bounds one query to a server without a mount.
const queryTimeout = 4 * time.Second

// shareCheck examines one share.
type shareCheck struct {
	d        *Doctor
	def      volume.Share
	findings []Finding
	mounts   []mountResult // those that succeeded
	causes   []mount.Cause // of those that failed
	id       string        // of the share; "": none or unknown
}

// serverCheck examines one of a share's servers.
type serverCheck struct {
	reportBuilder
	share        *shareCheck
	host         string
	endpoint     probe.Endpoint
	hasRpcbind   bool
	exports      []probe.Export
	exportsKnown bool
	mount        mountResult
	facts        *Facts
}

func (sc *shareCheck) examine(ctx context.Context) {
	servers := make([]*serverCheck, len(sc.def.Servers))
	var all sync.WaitGroup
	for i, host := range sc.def.Servers {
		c := &serverCheck{share: sc, host: host, endpoint: probe.EndpointOf(host, sc.def.MountOptions)}
		c.fill = []string{"{server}", host, "{path}", shellQuote(sc.def.Path), "{share}", sc.def.Name}
		if len(servers) > 1 {
			c.server = host
		}
		servers[i] = c
		all.Go(func() {
			why := c.checkNetwork(ctx)
			if why == "" && sc.d.SharesDir != "" {
				return // examinePremounted goes on
			}
			if why == "" {
				why = c.checkMount(ctx)
			}
			c.skipRemaining(serverChecks(), why)
		})
	}
	all.Wait()
	if sc.d.SharesDir != "" {
		sc.examinePremounted(ctx, servers)
	}
	for _, c := range servers {
		sc.findings = append(sc.findings, c.all...)
	}
	sc.judgeTrial(servers)
}

// shellQuote quotes a path for a shell if necessary.
func shellQuote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+", r)
	}
	if strings.TrimFunc(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// judgeTrial adds the findings about the share itself, from the first server that it was mounted from.
func (sc *shareCheck) judgeTrial(servers []*serverCheck) {
	for _, c := range servers {
		if c.mount.Error != "" {
			sc.causes = append(sc.causes, c.mount.Cause)
		}
		if c.mount.Super != nil {
			sc.mounts = append(sc.mounts, c.mount)
		}
	}
	i := slices.IndexFunc(servers, func(c *serverCheck) bool { return c.facts != nil })
	first := servers[max(i, 0)]
	s := reportBuilder{fill: first.fill}
	s.judgeOverlap(sc.def, sc.d.Nested)
	if i >= 0 {
		first.facts.Expected = sc.def.ID
		sc.id = first.facts.ID
		s.judgeFacts(first.facts, first.mount)
	}
	s.skipRemaining(shareChecks(), "the share is not mounted")
	sc.findings = append(sc.findings, s.all...)
}

// checkNetwork runs the checks that need no mount. It returns why no other check can run, or "".
func (c *serverCheck) checkNetwork(ctx context.Context) (why string) {
	c.share.d.progress(c.share.def.Name, "find "+c.host)
	if why := c.checkName(ctx); why != "" {
		return why
	}
	if why := c.checkAnswer(ctx); why != "" {
		return why
	}
	c.share.d.progress(c.share.def.Name, "list the exports of "+c.host)
	c.checkServices(ctx)
	return ""
}

func (c *serverCheck) checkName(ctx context.Context) (why string) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, c.host)
	if err != nil {
		c.problem("resolves", "unresolved", "%v", err)
		return "the server's name does not resolve"
	}
	c.fill = append(c.fill, "{client}", cmp.Or(probe.LocalAddress(found[0]), "CLIENT"))
	if slices.Equal(found, []string{c.host}) {
		c.ok("resolves", "%s is an address", c.host)
		return ""
	}
	c.ok("resolves", "%s is %s", c.host, strings.Join(found, ", "))
	return ""
}

func (c *serverCheck) checkAnswer(ctx context.Context) (why string) {
	if c.endpoint.Address == "" {
		c.skip("answers", "over UDP or RDMA this needs a mount")
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	start := time.Now()
	err := probe.Ping(ctx, c.endpoint)
	cause, detail := "no-nfs", fmt.Sprint(err)
	var netError net.Error
	switch {
	case err == nil:
		c.ok("answers", "on %s, in %s", c.endpoint.Address, formatDuration(time.Since(start)))
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		cause, detail = "refused", fmt.Sprintf("%s refuses the connection", c.endpoint.Address)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		cause, detail = "unreachable", fmt.Sprintf("there is no route to %s", c.endpoint.Address)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netError) && netError.Timeout():
		cause, detail = "silent", fmt.Sprintf("no answer from %s within %s", c.endpoint.Address, formatDuration(time.Since(start)))
	}
	c.problem("answers", cause, "%s", detail)
	return "the server does not answer"
}

// checkServices checks the services that NFSv3 needs in addition to NFS.
func (c *serverCheck) checkServices(ctx context.Context) {
	if c.share.needsNoRpcbind() {
		c.skip("rpcbind", "not needed: proto, port, mountport and nolock are among the options")
		c.skip("exported", "this needs rpcbind, which the share does not use")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := probe.PingRpcbind(ctx, c.host); err != nil {
		if c.share.wantsV3() {
			c.problem("rpcbind", "no-rpcbind", "%v", err)
		} else {
			c.skip("rpcbind", "it does not answer, and NFS 4 does not need it")
		}
		c.skip("exported", "this needs rpcbind")
		return
	}
	c.hasRpcbind = true
	c.ok("rpcbind", "on port 111")
	exports, err := probe.Exports(ctx, c.host)
	if err != nil {
		c.skip("exported", "the server does not list its exports: %v", err)
		return
	}
	c.exports, c.exportsKnown = exports, true
}

// checkMount runs the checks that need a mount. It returns why they could not run, or "".
func (c *serverCheck) checkMount(ctx context.Context) (why string) {
	if !mount.Privileged() {
		return "this process may not mount"
	}
	if c.share.wantsV3() && !c.hasRpcbind && !c.share.hasFixedPorts() {
		return "rpcbind does not answer" // mount(8) would wait for it
	}
	ctx, stop := c.watch(ctx)
	defer stop()
	source := c.share.def.Source(c.host, "")
	r := request{Share: c.share.def.Name, Source: source, Options: c.share.def.MountOptions, At: mountPoint(), MultipleAddresses: len(c.share.def.Servers) > 1}
	c.share.d.progress(c.share.def.Name, "mount "+source+" and test it")
	a, err := c.share.d.runChild(ctx, c.host, r)
	if err != nil {
		c.reportChildError(err)
		return "the mount did not end"
	}
	c.mount, c.facts = a.Mount, a.Facts
	c.checkLockd(ctx)
	c.share.d.progress(c.share.def.Name, "mount "+source+" with each NFS version")
	r.Versions = versions()
	if !c.hasRpcbind && !c.share.wantsV3() {
		r.Versions = r.Versions[1:] // NFSv3 needs rpcbind, and mount(8) would wait for it
	}
	byVersion, err := c.share.d.runChild(ctx, c.host, r)
	if err != nil {
		c.problem("versions", "late", "%v", err)
		c.judgeMount(byVersion)
		return ""
	}
	c.judgeMount(byVersion)
	c.judgeVersions(byVersion)
	return ""
}

// checkLockd pings the server's lock service if an NFSv3 lock was not granted in time.
func (c *serverCheck) checkLockd(ctx context.Context) {
	if c.facts == nil || !c.facts.Failures[stepLock].TimedOut || c.mount.version() != "3" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := probe.PingLockd(ctx, c.host); err != nil {
		c.facts.LockdError = err.Error()
	}
}

// watch returns a context for a child. It ends when the server stops answering.
func (c *serverCheck) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.endpoint.Address == "" {
		return context.WithCancel(ctx)
	}
	return probe.NewServers(probe.Ping).Watch(ctx, c.endpoint)
}

// reportChildError reports that a child has no result.
func (c *serverCheck) reportChildError(err error) {
	c.mount = mountResult{Error: err.Error()}
	if volume.Kind(err) == volume.ErrUnavailable || errors.Is(err, context.DeadlineExceeded) {
		c.mount.Cause = mount.Silent
		c.problem("mounts", "late", "%v", err)
		return
	}
	if errors.Is(err, syscall.EPERM) { // no namespace for the child
		c.problem("mounts", "not-permitted", "%v", err)
		return
	}
	c.problem("mounts", "failed", "%v", err)
}

// examinePremounted examines a share that is already mounted, from one of its servers.
func (sc *shareCheck) examinePremounted(ctx context.Context, servers []*serverCheck) {
	target := filepath.Join(sc.d.SharesDir, sc.def.Name)
	const noVersions = "the share is already mounted, and this machine cannot mount it again"
	var first error
	for _, c := range servers {
		if c.has("mounts") { // the server does not answer
			continue
		}
		r := request{Share: sc.def.Name, Source: sc.def.Source(c.host, ""), Options: sc.def.MountOptions, At: target, Premounted: true}
		watched, stop := c.watch(ctx)
		sc.d.progress(sc.def.Name, "test "+target)
		a, err := sc.d.runChild(watched, c.host, r)
		stop()
		switch {
		case err != nil:
			c.reportChildError(err)
		case a.Mount.Error != "":
			first = cmp.Or(first, errors.New(a.Mount.Error))
			continue
		default:
			c.mount, c.facts = a.Mount, a.Facts
			c.checkLockd(ctx)
			c.ok("path", "%s is a directory", sc.def.Path)
			c.ok("mounts", "%s is mounted at %s with NFS %s", r.Source, target, a.Mount.version())
		}
		break
	}
	done := slices.ContainsFunc(servers, func(c *serverCheck) bool { return c.has("mounts") && c.mount.Super != nil })
	for _, c := range servers {
		switch {
		case c.has("mounts"):
		case done:
			c.skip("mounts", "the share is mounted from another server")
		case first != nil:
			c.problem("mounts", "not-given", "%sc", first)
			first = nil
		}
		if !c.has("exported") {
			c.judgeExport()
		}
		c.skipRemaining(serverChecks(), noVersions)
	}
}
