// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// registryOf returns a file with one share.
func registryOf(name string) string {
	return "shares: [{name: " + name + ", servers: [10.0.0.1], path: /x}]\n"
}

// writeFile writes text to a file; "" removes the file.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), 0o644)
	if text == "" {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wantShare fails the test unless r has exactly this share.
func wantShare(t *testing.T, when string, r *volume.Registry, name string) {
	t.Helper()
	if len(r.Shares) != 1 || r.Shares[0].Name != name {
		t.Errorf("%s the shares are %v, want %s", when, r.Shares, name)
	}
}

func TestOpen(t *testing.T) {
	s, err := Open("")
	if err != nil || !s.Current().Unregistered {
		t.Errorf("without a file the source is %+v, %v", s, err)
	}
	s.Watch(t.Context(), time.Hour) // returns

	path := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	writeFile(t, path, "bogus: 1")
	if _, err := Open(path); volume.Kind(err) != volume.ErrInvalid || !strings.Contains(err.Error(), path) {
		t.Errorf("a bad file: %v", err)
	}
	writeFile(t, path, registryOf("nas1"))
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	wantShare(t, "at start", s.Current(), "nas1")
}

// TestWatch changes the file step by step. Watch reads it three times in each step.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, registryOf("nas1"))
	steps := []struct {
		what, text, share, logged string
	}{
		{"unchanged", registryOf("nas1"), "nas1", ""},
		{"changed", registryOf("nas2"), "nas2", "INFO Configuration reloaded"},
		{"bad", "bogus: 1", "nas2", "ERROR The new configuration cannot be used"},
		{"bad in another way", "bogus: 2", "nas2", "ERROR The new configuration cannot be used"},
		{"as it was", registryOf("nas2"), "nas2", "INFO Configuration reloaded"},
		{"removed", "", "nas2", "ERROR The new configuration cannot be used"},
		{"back", registryOf("nas3"), "nas3", "INFO Configuration reloaded"},
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
		log := logger.GetSink().(ktesting.Underlier).GetBuffer()
		ctx, stop := context.WithCancel(klog.NewContext(t.Context(), logger))
		done := make(chan struct{})
		go func() { defer close(done); s.Watch(ctx, time.Second) }()

		read := 0
		time.Sleep(time.Second / 2) // between two reads
		for _, step := range steps {
			writeFile(t, path, step.text)
			time.Sleep(3 * time.Second)
			wantShare(t, step.what, s.Current(), step.share)
			logged := strings.TrimSpace(log.String()[read:])
			read = len(log.String())
			if (logged == "") != (step.logged == "") || !strings.HasPrefix(logged, step.logged) || strings.Contains(logged, "\n") {
				t.Errorf("%s: the log is %q, want one line with %q", step.what, logged, step.logged)
			}
		}
		stop()
		<-done
	})
}

// TestWatchConfigMap replaces a symbolic link, as kubelet does, while Current is called.
func TestWatchConfigMap(t *testing.T) {
	dir := t.TempDir()
	swap := func(name string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, ".."+name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, ".."+name, "config.yaml"), registryOf(name))
		if err := os.Symlink(".."+name, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "config.yaml")
	if err := os.Symlink(filepath.Join("..data", "config.yaml"), path); err != nil {
		t.Fatal(err)
	}
	names := []string{"nas1", "nas2", "nas3"}
	swap(names[0])
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(klog.NewContext(t.Context(), klog.Logger{}))
	done := make(chan struct{})
	go func() { defer close(done); s.Watch(ctx, time.Millisecond) }()
	for _, name := range names[1:] {
		swap(name)
		deadline := time.Now().Add(time.Minute)
		for s.Current().Shares[0].Name != name && time.Now().Before(deadline) {
			if !slices.Contains(names, s.Current().Shares[0].Name) {
				t.Fatalf("the shares are %v", s.Current().Shares)
			}
		}
		wantShare(t, "after a swap", s.Current(), name)
	}
	stop()
	<-done
}
