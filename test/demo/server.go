// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stateDir is Mooring's own directory on a share.
const stateDir = ".mooring"

// slack is the allowed difference of two figures of free space from different moments.
const slack = 64 << 20

// purgeWithin is the timeout of the purge after the retention.
const purgeWithin = 10 * time.Second

// ls returns the names in a directory of the server, like "ls -A".
func ls(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// look shows the export and checks that it has exactly the directories of the claims.
func look(n *note, claims ...*claim) error {
	names, err := ls(export)
	if err != nil {
		return err
	}
	n.add("server$ ls -A %s", export)
	want := []string{stateDir}
	for _, c := range claims {
		want = append(want, c.directory())
	}
	for _, name := range names {
		n.add("%s", name)
	}
	slices.Sort(want)
	return expect("the names in "+export+" on the server", strings.Join(want, "\n"), strings.Join(names, "\n"))
}

// onServer checks the content of a volume's file on the server.
func onServer(c *claim, file, want string) error {
	data, err := os.ReadFile(c.onServer(file))
	if err != nil {
		return err
	}
	return expect("what the server has in "+c.onServer(file), strconv.Quote(want), strconv.Quote(string(data)))
}

// serverAgrees compares a share's space with that of the server's file system, with some slack for changes.
func serverAgrees(total, free int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(export, &st); err != nil {
		return err
	}
	if err := expect("the size of the server's file system", int64(st.Blocks)*st.Frsize, total); err != nil {
		return err
	}
	want := int64(st.Bavail) * st.Frsize
	if diff := free - want; diff < -slack || diff > slack {
		return expect("the bytes that are free on the server", want, free)
	}
	return nil
}

// trash returns the number of deleted volumes on the server that are not purged yet.
func trash() (int, error) {
	names, err := ls(filepath.Join(export, stateDir, "trash"))
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".json") })
	return len(names), err
}

// leftOver lists everything in the export except the directories that Mooring always keeps.
func leftOver() ([]string, error) {
	own := map[string]bool{".": true, stateDir: true}
	for _, name := range []string{"format.json", "heartbeat", "volumes", "claims", "parents", "snapshots", "groups", "staging", "jobs", "trash"} {
		own[stateDir+"/"+name] = true
	}
	var left []string
	err := filepath.WalkDir(export, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _ := filepath.Rel(export, path); !own[name] {
			left = append(left, name)
		}
		return nil
	})
	return left, err
}

// untilPurged waits until nothing of the volumes is left on the server.
func untilPurged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, retention+purgeWithin)
	defer cancel()
	for {
		left, err := leftOver()
		if err == nil && left == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return expect("what is left on the server", "", strings.Join(left, "\n"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
