// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// one is a Shares of a single share, that is mounted at dir.
type one struct {
	share  *share.Share
	def    volume.Share
	copier *jobs.Copier
	dies   error // of the server, ten seconds after it is opened; nil: it lives
}

func open(dir string, opt share.Options) (*one, error) {
	if opt.Maker == "" {
		opt.Maker = "0a1b2c3d"
	}
	opt.Initialize = true
	def := volume.Share{Name: "nas1", Servers: []string{"127.0.0.1"}, Path: "/export"}
	s, err := share.Open(dir, def, opt)
	return &one{share: s, def: def}, err
}

func (o *one) Registry() *volume.Registry {
	return &volume.Registry{Shares: []volume.Share{o.def}, SubDir: volume.MustTemplate(volume.DefaultSubDir)}
}

func (o *one) Open(ctx context.Context, _ string, _ []string) (*share.Share, func(), error) {
	if dies := o.dies; dies != nil {
		time.AfterFunc(10*time.Second, func() { bounded.AbandonFunc(ctx)(dies) })
	}
	return o.share, func() {}, nil
}

func (o *one) Known() []string { return []string{"nas1"} }

// Add implements Purger.
func (o *one) Add(string, share.TrashEntry) {}

// Rescan implements Purger and jobs.Trashed.
func (o *one) Rescan(string) {}

// purge empties the trash. What it does not see at once, it does a moment later, as the
// purger would.
func (o *one) purge(t *testing.T) {
	t.Helper()
	for range 5 {
		entries, err := o.share.Trash.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return
		}
		for _, e := range entries {
			err := o.share.Trash.Purge(e, func(trash int, name string) error {
				return (&copytree.Removal{Workers: 4}).Remove(context.Background(), trash, name)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// tidy removes the parents that no volume is in any more.
func (o *one) tidy(t *testing.T) {
	t.Helper()
	if err := o.share.Tidy(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
}

// noFault has every share take what is written to it.
func noFault(string) volume.Condition { return volume.Condition{} }

// controller opens a share and returns a Service on it, as a newly started process would.
func controller(t *testing.T, dir string, opt share.Options) (*Service, *one) {
	t.Helper()
	o, err := open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.share.Close)
	o.copier = jobs.NewCopier(o, o, jobs.CopyOptions{})
	return New(o, o, o.copier, noFault), o
}

// wish asks for a volume of a class with these parameters.
func wish(t *testing.T, name string, parameters map[string]string) volume.CreateRequest {
	t.Helper()
	w, err := parseWish(name, parameters)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func parseWish(name string, parameters map[string]string) (volume.CreateRequest, error) {
	all := map[string]string{
		"share": "nas1", "csi.storage.k8s.io/pvc/name": "data-" + name, "csi.storage.k8s.io/pvc/namespace": "default",
		"csi.storage.k8s.io/pv/name": name,
	}
	for key, value := range parameters {
		all[key] = value
	}
	params, err := volume.ParseParams(all)
	return volume.CreateRequest{Name: name, Params: params, Capacity: volume.Capacity{Required: 1 << 30}}, err
}

// deletedAt and nonce are what differs in names from run to run.
var (
	deletedAt = regexp.MustCompile(`\.[0-9]{10}\.[0-9]{10}\.json$`)
	nonce     = regexp.MustCompile(`\.[0-9a-f]{16}`)
)

// tree describes all that is in a directory: names, kinds, modes, owners and content, but for
// what differs from run to run. The empty directory of a claim that was released is in nobody's
// way, and whether it is left depends on which process released it: it is not told.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if name == "." {
			return nil
		}
		// What is empty there has ended, and is in nobody's way.
		if in, _ := os.ReadDir(path); (filepath.Dir(name) == ".mooring/claims" || entry.IsDir() && entry.Name() == "deletion") && len(in) == 0 {
			return nil
		}
		name = nonce.ReplaceAllString(deletedAt.ReplaceAllString(name, ".TIME.json"), ".NONCE")
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = describe(data)
		case info.Mode()&fs.ModeSymlink != 0:
			content, _ = os.Readlink(path)
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %v %s", name, info.Mode(), content)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// describe returns a record without what differs between runs, and anything else hashed.
func describe(data []byte) string {
	var record map[string]any
	if json.Unmarshal(data, &record) != nil {
		return fmt.Sprintf("%x", sha256.Sum256(data))
	}
	for _, key := range []string{"maker", "run", "id", "nonce", "groupNonce", "created", "restored"} {
		delete(record, key)
	}
	text, _ := json.Marshal(record)
	return string(text)
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	without := func(a, b []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(a), func(e string) bool { return slices.Contains(b, e) }), "\n\t")
	}
	t.Errorf("%s: the share holds\n\t%s\nand should hold instead\n\t%s", what, without(got, want), without(want, got))
}

// patience is for what has to happen, and how soon is not the question: a machine may be slow,
// and have other things to do.
const patience = 2 * time.Minute

// eventually repeats work for as long as it is told that another is at it.
func eventually(work func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := work()
		if !errors.Is(err, volume.ErrBusy) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
