// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// ids are a user and a group.
type ids = [2]uint32

// chownByName accepts the IDs that have a name, as a server does with Kerberos.
func chownByName(_ target, want ids) (ids, error) {
	for _, id := range want {
		if id != 0 && id != 2000 && id != nobody {
			return ids{}, unix.EINVAL
		}
	}
	return want, nil
}

// TestOwners sets the owners of copies on all kinds of servers.
func TestOwners(t *testing.T) {
	squashed := func(err error) func(target, ids) (ids, error) {
		return func(_ target, want ids) (ids, error) {
			if want == (ids{}) {
				return ids{}, unix.EPERM
			}
			return ids{}, err
		}
	}
	servers := map[string]func(target, ids) (ids, error){
		"numbers":                func(_ target, want ids) (ids, error) { return want, nil },
		"names":                  chownByName,
		"squashed":               squashed(unix.EPERM),
		"names, squashed":        squashed(unix.EINVAL), // the name is checked before the permission
		"no names":               func(target, ids) (ids, error) { return ids{unmapped, unmapped}, nil },
		"makes nobody of others": func(target, ids) (ids, error) { return ids{nobody, nobody}, nil },
		"gone":                   func(target, ids) (ids, error) { return ids{}, unix.ETIMEDOUT },
	}
	for _, c := range []struct {
		server     string
		made, want ids
		refused    bool
		err        error
	}{
		{"numbers", ids{}, ids{2000, 2000}, false, nil},
		{"numbers", ids{}, ids{7777, nobody}, false, nil},
		{"names", ids{}, ids{2000, 2000}, false, nil},
		{"names", ids{}, ids{7777, 2000}, true, nil},
		{"names", ids{}, ids{nobody, nobody}, true, nil},
		{"names", ids{}, ids{2000, nobody}, true, nil},
		{"names", ids{nobody, nobody}, ids{nobody, nobody}, true, nil}, // as in a directory with setgid
		{"squashed", ids{nobody, nobody}, ids{nobody, nobody}, false, nil},
		{"squashed", ids{nobody, nobody}, ids{2000, 2000}, false, unix.EPERM},
		{"names, squashed", ids{nobody, nobody}, ids{nobody, nobody}, false, nil},
		{"no names", ids{unmapped, unmapped}, ids{unmapped, unmapped}, true, nil},
		{"makes nobody of others", ids{}, ids{2000, 2000}, true, nil},
		{"gone", ids{}, ids{nobody, nobody}, false, unix.ETIMEDOUT},
	} {
		o := &owners{chown: servers[c.server]}
		for range 2 { // the second time the result is known
			err := o.copyOwner(target{}, &unix.Stat_t{Uid: c.want[0], Gid: c.want[1]}, &unix.Stat_t{Uid: c.made[0], Gid: c.made[1]})
			var refused *OwnerError
			if errors.As(err, &refused) != c.refused || !errors.Is(err, c.err) && !c.refused {
				t.Errorf("%s: change of the owner from %d to %d: %v", c.server, c.made, c.want, err)
			}
		}
	}
}

// TestOwnersOnLocalFileSystem copies files of nobody on a file system that keeps numeric IDs.
func TestOwnersOnLocalFileSystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can change the owner")
	}
	dir := t.TempDir()
	source, copied := filepath.Join(dir, "source"), filepath.Join(dir, "copy")
	for _, d := range []string{source, copied} {
		must(t, os.Mkdir(d, 0o700))
	}
	for name, id := range map[string]int{"a": nobody, "b": nobody, "c": 7777} {
		must(t, os.WriteFile(filepath.Join(source, name), nil, 0o600))
		must(t, os.Symlink("nowhere", filepath.Join(source, name+".link")))
		must(t, os.Lchown(filepath.Join(source, name), id, id))
		must(t, os.Lchown(filepath.Join(source, name+".link"), id, id))
	}
	must(t, copyInto(t, context.Background(), source, copied, &Copy{Workers: 4}))
	for name, id := range map[string]uint32{"a": nobody, "b": nobody, "c": 7777, "a.link": nobody, "c.link": 7777} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(copied, name), &st))
		if st.Uid != id || st.Gid != id {
			t.Errorf("%s belongs to %d:%d, not %d", name, st.Uid, st.Gid, id)
		}
	}
}
