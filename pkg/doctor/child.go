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

// ChildCommand is the hidden subcommand by which the program runs itself to mount a share where
// nobody else sees it, and to try things out there.
const ChildCommand = "try"

const (
	// mountTimeout bounds one mount(8).
	mountTimeout = 10 * time.Second
	// childTimeout bounds a child, which keeps within it by itself.
	childTimeout = 45 * time.Second
)

// versions are those that a share is mounted by.
func versions() []string { return []string{"3", "4.0", "4.1", "4.2"} }

// request is what a child is to do.
type request struct {
	Share   string   `json:"share"`
	Source  string   `json:"source"`
	Options []string `json:"options"`
	At      string   `json:"at"` // where to mount, or where it is mounted
	// MultipleAddresses: the server is one of several.
	MultipleAddresses bool `json:"several,omitempty"`
	// Given: it is mounted already.
	Premounted bool `json:"given,omitempty"`
	// Versions asks for a mount by each of them, and no trial.
	Versions []string `json:"versions,omitempty"`
}

// answer is what it found.
type answer struct {
	Mount    mountResult            `json:"mount"`
	Facts    *Facts                 `json:"facts,omitempty"`
	Versions map[string]mountResult `json:"versions,omitempty"`
	// V4Path is by which path NFS 4 has what NFS 3 has by the share's, where that is another.
	V4Path string `json:"v4path,omitempty"`
}

// mountResult is how a mount ended.
type mountResult struct {
	Took  time.Duration `json:"took"`
	Super []string      `json:"super,omitempty"` // the superblock's options
	Cause mount.Cause   `json:"cause,omitempty"`
	Error string        `json:"error,omitempty"`
}

// version is that of NFS.
func (m mountResult) version() string { return mount.ValueOf(m.Super, "vers") }

// runChild has a child do what r says.
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

// Child is what the child does: it does what a request says, and tells what it found. now is the
// clock that the server's is compared with. It is not to do anything else afterwards.
func Child(in io.Reader, out io.Writer, now func() time.Time) error {
	return child.ServeOne(in, out, func(r request) (any, error) { return r.run(now) })
}

func (r request) run(now func() time.Time) (a answer, err error) {
	if r.Premounted {
		if a.Mount = r.checkPremounted(); a.Mount.Error == "" {
			a.Facts = runTrial(r.At, extraMounts{root: beneath.None, client: beneath.None, noRoot: "it takes a second mount, and nothing can be mounted here"}, now)
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
	others := r.mountAgain(kernel, a.Mount.version())
	// The trial's goroutines run elsewhere than this one, where r.At is something else.
	a.Facts = runTrial(fmt.Sprintf("/proc/self/fd/%d", root), others, now)
	return a, nil
}

// extraMounts are the share's root as it is mounted once more; beneath.None where it is not.
type extraMounts struct {
	// root has a superblock of its own, and has seen nothing of what is made by the first mount; once is why
	// there is none.
	root   beneath.Dir
	noRoot string
	// client is another client's, to the server.
	client beneath.Dir
}

// mountAgain mounts the share once more, on the first mount.
func (r request) mountAgain(kernel *mount.Kernel, version string) extraMounts {
	if client := r.mountAsOtherClient(kernel, version); client != beneath.None {
		return extraMounts{root: client, client: client}
	}
	s := r.spec()
	s.Options = volume.MergeMountOptions(s.Options, []string{"nosharecache"})
	o := extraMounts{root: beneath.None, client: beneath.None}
	if m := tryMount(kernel, s); m.Error != "" {
		o.noRoot = "it could not be mounted a second time: " + m.Error
		return o
	}
	root, err := beneath.OpenRoot(r.At)
	if err != nil {
		o.noRoot = fmt.Sprintf("its second mount cannot be opened: %v", err)
		return o
	}
	o.root = root
	return o
}

func (r request) spec() mount.Spec {
	return mount.Spec{Source: r.Source, Target: r.At, Options: pool.ControllerOptions(r.Options), MultipleAddresses: r.MultipleAddresses}
}

// specForVersion is for a mount by a version, without locks: whether the lock services are there is another
// question. NFS 4 refuses what options say of mountd (nfs(5)).
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

// tryMount mounts, and tells what is there then.
func tryMount(kernel *mount.Kernel, s mount.Spec) mountResult {
	ctx, cancel := context.WithTimeout(context.Background(), mountTimeout)
	defer cancel()
	start := time.Now()
	err := kernel.Mount(ctx, s)
	m := mountResult{Took: time.Since(start)}
	if err == nil {
		err = m.readTable(kernel, s.Target)
	}
	if err != nil {
		m.Cause, m.Error = mount.CauseOf(err)
	}
	return m
}

func (m *mountResult) readTable(kernel *mount.Kernel, target string) error {
	table, err := kernel.Table()
	if err != nil {
		return err
	}
	e, ok := table.At(target)
	if !ok {
		return errors.New("mount(8) is content, and nothing is mounted")
	}
	m.Super = e.Super
	return nil
}

// checkPremounted makes sure of what somebody else has mounted.
func (r request) checkPremounted() mountResult {
	var m mountResult
	kernel := mount.Kernel{}
	given := mount.Premounted{Table: kernel.Table}
	err := given.Mount(context.Background(), r.spec())
	if err == nil {
		err = m.readTable(&kernel, r.At)
	}
	if err != nil {
		m.Error = err.Error()
	}
	return m
}

// tryVersions mounts by each version, and looks for the path by NFS 4 where NFS 3 alone has it.
func (r request) tryVersions(kernel *mount.Kernel, a *answer) {
	a.Versions = map[string]mountResult{}
	var old dirIdentity // as NFS 3 has it
	var seen bool
	for _, version := range r.Versions {
		s := r.specForVersion(version)
		m := tryMount(kernel, s)
		if m.Error == "" {
			if version == "3" {
				old, seen = statDir(s.Target)
			}
			_ = mount.Detach(s.Target)
		}
		a.Versions[version] = m
	}
	if seen && onlyV3HasPath(a.Versions) {
		a.V4Path = r.findV4Path(kernel, old)
	}
}

// mountPoint returns a directory for a child to mount at, where nobody else sees it. Nothing is
// made, so nothing can be left behind.
func mountPoint() string {
	dirs := []string{"/mnt", "/media", "/srv", os.TempDir()}
	i := slices.IndexFunc(dirs, func(dir string) bool {
		st, err := os.Lstat(dir)
		return err == nil && st.IsDir()
	})
	return dirs[max(i, 0)]
}
