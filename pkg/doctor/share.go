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

// queryTimeout bounds one question to a server that needs no mount.
const queryTimeout = 4 * time.Second

// shareCheck is the examination of one share.
type shareCheck struct {
	d        *Doctor
	def      volume.Share
	findings []Finding
	mounts   []mountResult // what could be mounted
	causes   []mount.Cause
	id       string // of the share; "": none, or not known
}

// serverCheck is the examination of a share by one of its servers.
type serverCheck struct {
	reportBuilder
	share        *shareCheck
	host         string
	endpoint     probe.Endpoint
	hasRpcbind   bool // it answers
	exports      []probe.Export
	exportsKnown bool // the exports are known
	mount        mountResult
	facts        *Facts
}

func (v *shareCheck) examine(ctx context.Context) {
	calls := make([]*serverCheck, len(v.def.Servers))
	var all sync.WaitGroup
	for i, host := range v.def.Servers {
		c := &serverCheck{share: v, host: host, endpoint: probe.EndpointOf(host, v.def.MountOptions)}
		c.fill = []string{"{server}", host, "{path}", shellQuote(v.def.Path), "{share}", v.def.Name}
		if len(calls) > 1 {
			c.server = host
		}
		calls[i] = c
		all.Go(func() {
			why := c.checkNetwork(ctx)
			if why == "" && v.d.SharesDir != "" {
				return // given
			}
			if why == "" {
				why = c.checkMount(ctx)
			}
			c.skipRemaining(serverChecks(), why)
		})
	}
	all.Wait()
	if v.d.SharesDir != "" {
		v.examinePremounted(ctx, calls)
	}
	for _, c := range calls {
		v.findings = append(v.findings, c.all...)
	}
	v.judgeTrial(calls)
}

// shellQuote returns a path as a shell takes it.
func shellQuote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+", r)
	}
	if strings.TrimFunc(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// judgeTrial adds what was found on the share itself, by the first server that it was mounted from.
func (v *shareCheck) judgeTrial(calls []*serverCheck) {
	for _, c := range calls {
		if c.mount.Error != "" {
			v.causes = append(v.causes, c.mount.Cause)
		}
		if c.mount.Super != nil {
			v.mounts = append(v.mounts, c.mount)
		}
	}
	i := slices.IndexFunc(calls, func(c *serverCheck) bool { return c.facts != nil })
	first := calls[max(i, 0)]
	s := reportBuilder{fill: first.fill}
	s.judgeOverlap(v.def, v.d.Nested)
	if i >= 0 {
		first.facts.Expected = v.def.ID
		v.id = first.facts.ID
		s.judgeFacts(first.facts, first.mount)
	}
	s.skipRemaining(shareChecks(), "the share is not mounted")
	v.findings = append(v.findings, s.all...)
}

// checkNetwork examines what needs no mount. It returns why nothing else can be.
func (c *serverCheck) checkNetwork(ctx context.Context) (why string) {
	c.share.d.progress(c.share.def.Name, "look for "+c.host)
	if why := c.checkName(ctx); why != "" {
		return why
	}
	if why := c.checkAnswer(ctx); why != "" {
		return why
	}
	c.share.d.progress(c.share.def.Name, "ask "+c.host+" what it exports")
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
	switch {
	case slices.Equal(found, []string{c.host}):
		c.ok("resolves", "%s is an address", c.host)
	default:
		c.ok("resolves", "%s is %s", c.host, strings.Join(found, ", "))
	}
	return ""
}

func (c *serverCheck) checkAnswer(ctx context.Context) (why string) {
	if c.endpoint.Address == "" {
		c.skip("answers", "a server cannot be asked over UDP or RDMA without a mount")
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	start := time.Now()
	err := probe.Ping(ctx, c.endpoint)
	if err == nil {
		c.ok("answers", "on %s, in %s", c.endpoint.Address, formatDuration(time.Since(start)))
		return ""
	}
	cause, detail := "no-nfs", err.Error()
	var netError net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		cause, detail = "refused", fmt.Sprintf("%s refuses the connection", c.endpoint.Address)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		cause, detail = "unreachable", fmt.Sprintf("no way leads to %s", c.endpoint.Address)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netError) && netError.Timeout():
		cause, detail = "silent", fmt.Sprintf("no answer from %s within %s", c.endpoint.Address, formatDuration(time.Since(start)))
	}
	c.problem("answers", cause, "%s", detail)
	return "the server does not answer"
}

// checkServices examines the services beside NFS that NFSv3 has.
func (c *serverCheck) checkServices(ctx context.Context) {
	if c.share.needsNoRpcbind() {
		c.skip("rpcbind", "not needed: proto, port, mountport and nolock are among the options")
		c.skip("exported", "rpcbind, which tells where mountd is, was not asked")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err := probe.PingRpcbind(ctx, c.host)
	c.hasRpcbind = err == nil
	switch {
	case c.hasRpcbind:
		c.ok("rpcbind", "on port 111")
	case c.share.wantsV3():
		c.problem("rpcbind", "no-rpcbind", "%v", err)
	default:
		c.skip("rpcbind", "it does not answer, and NFS 4 does without")
	}
	if err != nil {
		c.skip("exported", "rpcbind does not tell where mountd is")
		return
	}
	if c.exports, err = probe.Exports(ctx, c.host); err != nil {
		c.skip("exported", "the server does not tell: %v", err)
		return
	}
	c.exportsKnown = true
}

// checkMount examines what a mount tells.
func (c *serverCheck) checkMount(ctx context.Context) (why string) {
	if !mount.Privileged() {
		return "this process may not mount"
	}
	if c.share.wantsV3() && !c.hasRpcbind && !c.share.hasFixedPorts() {
		return "rpcbind does not answer" // and mount(8) would wait for it
	}
	ctx, stop := c.watch(ctx)
	defer stop()
	source := c.share.def.Source(c.host, "")
	r := request{Share: c.share.def.Name, Source: source, Options: c.share.def.MountOptions, At: mountPoint(), MultipleAddresses: len(c.share.def.Servers) > 1}
	c.share.d.progress(c.share.def.Name, "mount "+source+" and try it out")
	a, err := c.share.d.runChild(ctx, c.host, r)
	if err != nil {
		c.reportChildError(err)
		return "the mount was given up"
	}
	c.mount, c.facts = a.Mount, a.Facts
	c.checkLockd(ctx)
	c.share.d.progress(c.share.def.Name, "mount "+source+" by each version")
	r.Versions = versions()
	if !c.hasRpcbind && !c.share.wantsV3() {
		r.Versions = r.Versions[1:] // 3 is found through it, and mount(8) would wait
	}
	byVersion, err := c.share.d.runChild(ctx, c.host, r)
	if err != nil {
		c.problem("versions", "late", "%v", err)
	}
	c.judgeMount(byVersion)
	if err == nil {
		c.judgeVersions(byVersion)
	}
	return ""
}

// checkLockd asks whether there is a lock service where a lock of NFSv3 has not been given.
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

// watch returns a context for a child, which ends when the server does not answer any more.
func (c *serverCheck) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.endpoint.Address == "" {
		return context.WithCancel(ctx)
	}
	return probe.NewServers(probe.Ping).Watch(ctx, c.endpoint)
}

// reportChildError reports that a child has found out nothing.
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

// given examines a share that is mounted already, from one of its servers.
func (v *shareCheck) examinePremounted(ctx context.Context, calls []*serverCheck) {
	target := filepath.Join(v.d.SharesDir, v.def.Name)
	const noVersions = "the share is mounted already, and nothing else can be here"
	var first error
	for _, c := range calls {
		if c.has("mounts") { // it does not answer
			continue
		}
		r := request{Share: v.def.Name, Source: v.def.Source(c.host, ""), Options: v.def.MountOptions, At: target, Premounted: true}
		watched, stop := c.watch(ctx)
		v.d.progress(v.def.Name, "try out "+target)
		a, err := v.d.runChild(watched, c.host, r)
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
			c.ok("path", "%s is a directory", v.def.Path)
			c.ok("mounts", "%s is mounted at %s by NFS %s", r.Source, target, a.Mount.version())
		}
		break
	}
	done := slices.ContainsFunc(calls, func(c *serverCheck) bool { return c.has("mounts") && c.mount.Super != nil })
	for _, c := range calls {
		switch {
		case c.has("mounts"):
		case done:
			c.skip("mounts", "the share is mounted from another of its servers")
		case first != nil:
			c.problem("mounts", "not-given", "%v", first)
			first = nil
		}
		if !c.has("exported") {
			c.judgeExport()
		}
		c.skipRemaining(serverChecks(), noVersions)
	}
}
