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
	// mountPatience bounds one mount(8).
	mountPatience = 10 * time.Second
	// childPatience bounds a child, which keeps within it by itself.
	childPatience = 45 * time.Second
)

// versions are those that a share is mounted by.
func versions() []string { return []string{"3", "4.0", "4.1", "4.2"} }

// request is what a child is to do.
type request struct {
	Share   string   `json:"share"`
	Source  string   `json:"source"`
	Options []string `json:"options"`
	At      string   `json:"at"` // where to mount, or where it is mounted
	// Several: the server is one of several.
	Several bool `json:"several,omitempty"`
	// Given: it is mounted already.
	Given bool `json:"given,omitempty"`
	// Versions asks for a mount by each of them, and no trial.
	Versions []string `json:"versions,omitempty"`
}

// answer is what it found.
type answer struct {
	Mount    mounted            `json:"mount"`
	Facts    *Facts             `json:"facts,omitempty"`
	Versions map[string]mounted `json:"versions,omitempty"`
	// V4Path is by which path NFS 4 has what NFS 3 has by the share's, where that is another.
	V4Path string `json:"v4path,omitempty"`
}

// mounted is how a mount ended.
type mounted struct {
	Took  time.Duration `json:"took"`
	Super []string      `json:"super,omitempty"` // the superblock's options
	Cause mount.Cause   `json:"cause,omitempty"`
	Error string        `json:"error,omitempty"`
}

// version is that of NFS.
func (m mounted) version() string { return mount.ValueOf(m.Super, "vers") }

// ask has a child do what r says.
func (d *Doctor) ask(ctx context.Context, server string, r request) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, childPatience)
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
	return child.ServeOne(in, out, func(r request) (any, error) { return r.do(now) })
}

func (r request) do(now func() time.Time) (a answer, err error) {
	if r.Given {
		if a.Mount = r.given(); a.Mount.Error == "" {
			a.Facts = tried(r.At, others{mount: beneath.None, client: beneath.None, once: "it takes a second mount, and nothing can be mounted here"}, now)
		}
		return a, nil
	}
	kernel, err := mount.NewIsolated(probe.NewServers(probe.Ping).Answers)
	if err != nil {
		return a, err
	}
	if r.Versions != nil {
		r.byVersion(kernel, &a)
		return a, nil
	}
	if a.Mount = mountAt(kernel, r.spec()); a.Mount.Error != "" {
		return a, nil
	}
	root, err := beneath.OpenRoot(r.At)
	if err != nil {
		return a, err
	}
	defer root.Close()
	others := r.others(kernel, a.Mount.version())
	// The trial's goroutines run elsewhere than this one, where r.At is something else.
	a.Facts = tried(fmt.Sprintf("/proc/self/fd/%d", root), others, now)
	return a, nil
}

// others are the share's root as it is mounted once more; beneath.None where it is not.
type others struct {
	// mount has a superblock of its own, and has seen nothing of what is made by the first mount; once is why
	// there is none.
	mount beneath.Dir
	once  string
	// client is another client's, to the server.
	client beneath.Dir
}

// others mounts the share once more, on the first mount.
func (r request) others(kernel *mount.Kernel, version string) others {
	if client := r.otherClient(kernel, version); client != beneath.None {
		return others{mount: client, client: client}
	}
	s := r.spec()
	s.Options = volume.MergeMountOptions(s.Options, []string{"nosharecache"})
	o := others{mount: beneath.None, client: beneath.None}
	if m := mountAt(kernel, s); m.Error != "" {
		o.once = "it could not be mounted a second time: " + m.Error
		return o
	}
	root, err := beneath.OpenRoot(r.At)
	if err != nil {
		o.once = fmt.Sprintf("its second mount cannot be opened: %v", err)
		return o
	}
	o.mount = root
	return o
}

func (r request) spec() mount.Spec {
	return mount.Spec{Source: r.Source, Target: r.At, Options: pool.ControllerOptions(r.Options), Several: r.Several}
}

// specBy is for a mount by a version, without locks: whether the lock services are there is another
// question. NFS 4 refuses what options say of mountd (nfs(5)).
func (r request) specBy(version string) mount.Spec {
	s := r.spec()
	s.Options = volume.MergeMountOptions(s.Options, []string{"nfsvers=" + version})
	if version == "3" {
		s.Options = volume.MergeMountOptions(s.Options, []string{"nolock"})
		return s
	}
	s.Options = slices.DeleteFunc(s.Options, func(o string) bool { return strings.HasPrefix(o, "mount") })
	return s
}

// mountAt mounts, and tells what is there then.
func mountAt(kernel *mount.Kernel, s mount.Spec) mounted {
	ctx, cancel := context.WithTimeout(context.Background(), mountPatience)
	defer cancel()
	start := time.Now()
	err := kernel.Mount(ctx, s)
	m := mounted{Took: time.Since(start)}
	if err == nil {
		err = m.look(kernel, s.Target)
	}
	if err != nil {
		m.Cause, m.Error = mount.CauseOf(err)
	}
	return m
}

func (m *mounted) look(kernel *mount.Kernel, target string) error {
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

// given makes sure of what somebody else has mounted.
func (r request) given() mounted {
	var m mounted
	kernel := mount.Kernel{}
	given := mount.Premounted{Table: kernel.Table}
	err := given.Mount(context.Background(), r.spec())
	if err == nil {
		err = m.look(&kernel, r.At)
	}
	if err != nil {
		m.Error = err.Error()
	}
	return m
}

// byVersion mounts by each version, and looks for the path by NFS 4 where NFS 3 alone has it.
func (r request) byVersion(kernel *mount.Kernel, a *answer) {
	a.Versions = map[string]mounted{}
	var old directory // as NFS 3 has it
	var seen bool
	for _, version := range r.Versions {
		s := r.specBy(version)
		m := mountAt(kernel, s)
		if m.Error == "" {
			if version == "3" {
				old, seen = directoryAt(s.Target)
			}
			_ = mount.Detach(s.Target)
		}
		a.Versions[version] = m
	}
	if seen && otherRoot(a.Versions) {
		a.V4Path = r.pathByV4(kernel, old)
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
