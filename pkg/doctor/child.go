// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// ChildCommand is the hidden subcommand with which the program runs itself to mount a share in a
// private mount namespace and to test it there.
const ChildCommand = "try"

const (
	// mountTimeout bounds one mount(8).
	mountTimeout = 10 * time.Second
	// childTimeout bounds a child. The steps of a child have their own, shorter timeouts.
	childTimeout = 45 * time.Second
)

// versions returns the NFS versions that the doctor tries.
func versions() []string { return []string{"3", "4.0", "4.1", "4.2"} }

// request tells a child what to do.
type request struct {
	Share   string   `json:"share"`
	Source  string   `json:"source"`
	Options []string `json:"options"`
	At      string   `json:"at"` // the mount point
	// MultipleAddresses: the server is one of several.
	MultipleAddresses bool `json:"several,omitempty"`
	// Premounted: the share is already mounted there.
	Premounted bool `json:"given,omitempty"`
	// Versions asks for a mount with each of them, and no trial.
	Versions []string `json:"versions,omitempty"`
}

// answer is the result of a request.
type answer struct {
	Mount    mountResult            `json:"mount"`
	Facts    *Facts                 `json:"facts,omitempty"`
	Versions map[string]mountResult `json:"versions,omitempty"`
	// V4Path is the NFS 4 path of the directory, if it differs from the NFS 3 path.
	V4Path string `json:"v4path,omitempty"`
}

// mountResult is the result of a mount.
type mountResult struct {
	Took  time.Duration `json:"took"`
	Super []string      `json:"super,omitempty"` // the superblock's options
	Cause mount.Cause   `json:"cause,omitempty"`
	Error string        `json:"error,omitempty"`
}

// version returns the NFS version of the mount.
func (m mountResult) version() string { return mount.ValueOf(m.Super, "vers") }

// runChild runs a child for a request.
func (d *Doctor) runChild(ctx context.Context, server string, r request) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, childTimeout)
	defer cancel()
	err = d.children.Do(ctx, child.Command{Name: "/proc/self/exe", Args: []string{ChildCommand}, Server: server}, r, &a)
	if ctx.Err() != nil {
		return a, context.Cause(ctx)
	}
	if err != nil {
		return a, fmt.Errorf("the child failed: %w", err)
	}
	return a, nil
}

// Child is the main function of the child: it reads a request, and writes the answer. now is the
// clock to compare with the server's. The process must exit afterwards.
func Child(in io.Reader, out io.Writer, now func() time.Time) error {
	return child.ServeOne(in, out, func(r request) (any, error) { return r.run(now) })
}

func (r request) run(now func() time.Time) (a answer, err error) {
	if r.Premounted {
		if a.Mount = r.checkPremounted(); a.Mount.Error == "" {
			a.Facts = runTrial(r.At, extraMounts{root: beneath.None, client: beneath.None, noRoot: "this needs a second mount, and this machine cannot mount"}, now)
		}
		return a, nil
	}
	kernel, err := mount.NewIsolated(probe.NewServers(probe.Ping).Answers)
	if err != nil {
		return a, err
	}
	if r.Versions != nil {
		r.tryVersions(kernel, &a)
		return a, nil
	}
	if a.Mount = tryMount(kernel, r.spec()); a.Mount.Error != "" {
		return a, nil
	}
	root, err := beneath.OpenRoot(r.At)
	if err != nil {
		return a, err
	}
	defer root.Close()
	extra := r.mountAgain(kernel, a.Mount.version())
	// The trial's goroutines run in another mount namespace than this one, in which r.At is another directory.
	a.Facts = runTrial(fmt.Sprintf("/proc/self/fd/%d", root), extra, now)
	return a, nil
}

// extraMounts has the roots of further mounts of the share; beneath.None if there is no such mount.
type extraMounts struct {
	// root belongs to a mount with its own superblock, which caches nothing of what the first mount
	// creates. noRoot says why there is none.
	root   beneath.Dir
	noRoot string
	// client belongs to a mount that is another client to the server.
	client beneath.Dir
}

// mountAgain mounts the share again, on top of the first mount.
func (r request) mountAgain(kernel *mount.Kernel, version string) extraMounts {
	if client := r.mountAsOtherClient(kernel, version); client != beneath.None {
		return extraMounts{root: client, client: client}
	}
	s := r.spec()
	s.Options = volume.MergeMountOptions(s.Options, []string{"nosharecache"})
	extra := extraMounts{root: beneath.None, client: beneath.None}
	if m := tryMount(kernel, s); m.Error != "" {
		extra.noRoot = "the second mount failed: " + m.Error
		return extra
	}
	root, err := beneath.OpenRoot(r.At)
	if err != nil {
		extra.noRoot = fmt.Sprintf("the second mount cannot be opened: %v", err)
		return extra
	}
	extra.root = root
	return extra
}

func (r request) spec() mount.Spec {
	return mount.Spec{Source: r.Source, Target: r.At, Options: pool.ControllerOptions(r.Options), MultipleAddresses: r.MultipleAddresses}
}

// specForVersion returns the spec for a mount with a version, without locks: other checks cover the
// lock services. NFS 4 rejects options about mountd (nfs(5)).
func (r request) specForVersion(version string) mount.Spec {
	s := r.spec()
	s.Options = volume.MergeMountOptions(s.Options, []string{"nfsvers=" + version})
	if version == "3" {
		s.Options = volume.MergeMountOptions(s.Options, []string{"nolock"})
		return s
	}
	s.Options = slices.DeleteFunc(s.Options, func(o string) bool { return strings.HasPrefix(o, "mount") })
	return s
}

// tryMount mounts, and returns the superblock's options or the error.
func tryMount(kernel *mount.Kernel, s mount.Spec) (m mountResult) {
	ctx, cancel := context.WithTimeout(context.Background(), mountTimeout)
	defer cancel()
	start := time.Now()
	err := kernel.Mount(ctx, s)
	m.Took = time.Since(start)
	if err != nil {
		m.Cause, m.Error = mount.CauseOf(err)
		return m
	}
	if m.Super, err = superOptions(kernel, s.Target); err != nil {
		m.Cause, m.Error = mount.CauseOf(err)
	}
	return m
}

func superOptions(kernel *mount.Kernel, target string) ([]string, error) {
	table, err := kernel.Table()
	if err != nil {
		return nil, err
	}
	e, ok := table.At(target)
	if !ok {
		return nil, errors.New("mount(8) succeeded, but nothing is mounted")
	}
	return e.Super, nil
}

// checkPremounted verifies a mount that the doctor has not made.
func (r request) checkPremounted() (m mountResult) {
	kernel := mount.Kernel{}
	premounted := mount.Premounted{Table: kernel.Table}
	if err := premounted.Mount(context.Background(), r.spec()); err != nil {
		return mountResult{Error: err.Error()}
	}
	var err error
	if m.Super, err = superOptions(&kernel, r.At); err != nil {
		m.Error = err.Error()
	}
	return m
}

// tryVersions mounts with each version, and looks for the NFS 4 path if only NFS 3 has the path.
func (r request) tryVersions(kernel *mount.Kernel, a *answer) {
	a.Versions = map[string]mountResult{}
	var v3Dir dirIdentity
	var v3Found bool
	for _, version := range r.Versions {
		s := r.specForVersion(version)
		m := tryMount(kernel, s)
		if m.Error == "" {
			if version == "3" {
				v3Dir, v3Found = statDir(s.Target)
			}
			_ = mount.Detach(s.Target)
		}
		a.Versions[version] = m
	}
	if v3Found && onlyV3HasPath(a.Versions) {
		a.V4Path = r.findV4Path(kernel, v3Dir)
	}
}

// mountPoint returns an existing directory for a child to mount at, in its private namespace. The
// child creates nothing and so leaves nothing behind.
func mountPoint() string {
	dirs := []string{"/mnt", "/media", "/srv", os.TempDir()}
	for _, dir := range dirs {
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() {
			continue
		}
		return dir
	}
	return dirs[0]
}
