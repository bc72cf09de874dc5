// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// listing returns the names in a directory.
func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestProbeFile runs all steps on a new share, and on one with .mooring: they must create files
// only there, and leave none.
func TestProbeFile(t *testing.T) {
	for _, laidOut := range []bool{false, true} {
		root := t.TempDir()
		in, want := root, []string(nil)
		if laidOut {
			in, want = filepath.Join(root, volume.StateDir), []string{volume.StateDir}
			if err := os.Mkdir(in, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		trial, err := openProbeFile(root)
		if err != nil {
			t.Fatal(err)
		}
		if skew, err := trial.write(time.Now); err != nil || skew.Abs() > time.Second {
			t.Errorf("the skew is %v, %v", skew, err)
		}
		if _, _, err := trial.openCopy(); err != nil {
			t.Error(err)
		}
		made := listing(t, in)
		if len(made) != 2 || !probeName.MatchString(made[0]) || !probeName.MatchString(made[1]) {
			t.Errorf("the files are %q", made)
		}
		if laidOut && !slices.Equal(listing(t, root), want) {
			t.Errorf("the root has %q", listing(t, root))
		}
		if err := trial.link(); err != nil {
			t.Error(err)
		}
		if err := trial.lock(); err != nil {
			t.Error(err)
		}
		if space, err := trial.space(); err != nil || space.Total == 0 {
			t.Errorf("the space is %+v, %v", space, err)
		}
		if took, err := trial.latency(20, time.Second); err != nil || took <= 0 {
			t.Errorf("the latency is %v, %v", took, err)
		}
		if uid, _, err := trial.owner(); err != nil || uid != uint32(os.Geteuid()) {
			t.Errorf("the owner is %d, %v", uid, err)
		}
		if err := trial.close(); err != nil {
			t.Error(err)
		}
		if got := listing(t, root); !slices.Equal(got, want) {
			t.Errorf("files are left: %q", got)
		}
		if laidOut && len(listing(t, in)) != 0 {
			t.Errorf("files are left: %q", listing(t, in))
		}
	}
}

// TestProbeFileRenames tests renames on a local file system, and the violations that it records.
func TestProbeFileRenames(t *testing.T) {
	root := t.TempDir()
	trial, err := openProbeFile(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trial.write(time.Now); err != nil {
		t.Fatal(err)
	}
	wrong, err := trial.renames(trial.root, true)
	if err != nil || len(wrong) > 0 {
		t.Errorf("the violations are %q, %v", wrong, err)
	}
	if made := listing(t, root); len(made) != 1 {
		t.Errorf("files are left: %q", made)
	}
	if err := trial.close(); err != nil {
		t.Error(err)
	}
	r := &renamesTrial{}
	for _, answer := range []error{nil, unix.EEXIST, unix.EIO, unix.ETIMEDOUT} {
		if err := r.expectRefusal(forbiddenStep{"a late rename", func() error { return answer }}); (err == nil) == (answer == unix.ETIMEDOUT) {
			t.Errorf("for %v expectRefusal returns %v", answer, err)
		}
	}
	if !slices.Equal(r.violations, []string{"a late rename"}) {
		t.Errorf("the violations are %q", r.violations)
	}
}

// TestProbeFileClock uses a local clock that is wrong.
func TestProbeFileClock(t *testing.T) {
	for _, off := range []time.Duration{0, time.Hour, -time.Hour} {
		trial, err := openProbeFile(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		skew, err := trial.write(func() time.Time { return time.Now().Add(-off) })
		if err != nil || (skew-off).Abs() > time.Second {
			t.Errorf("for a server that is %v ahead the skew is %v, %v", off, skew, err)
		}
		if err := trial.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestProbeFileSweep uses leftovers of a killed doctor, and files that only look like them.
func TestProbeFileSweep(t *testing.T) {
	root := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	write := func(name, content string, at time.Time) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	const n = probePrefix + "0123456789abcde"
	write(".mooring/"+n+"0", probeMark+"more", old)
	write(".mooring/"+n+"1.copy", "", old)
	write(n+"2", probeMark, old)
	stays := map[string]string{
		n + "3":               "somebody's, who likes the name", // other contents
		probePrefix + "x":     probeMark,                        // another name
		n + "4.bak":           probeMark,
		".mooring/" + n + "5": "short",
	}
	for name, content := range stays {
		write(name, content, old)
	}
	write(n+"6", probeMark, time.Now()) // of a running trial
	stays[n+"6"] = probeMark
	for _, name := range []string{n + "7", n + "8"} {
		stays[name] = ""
	}
	if err := os.Mkdir(filepath.Join(root, n+"7"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x", filepath.Join(root, n+"8")); err != nil {
		t.Fatal(err)
	}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, n+"8"), []unix.Timespec{{Sec: old.Unix()}, {Sec: old.Unix()}}, unix.AT_SYMLINK_NOFOLLOW)
	if err := os.Chtimes(filepath.Join(root, n+"7"), old, old); err != nil {
		t.Fatal(err)
	}
	for name, inside := range map[string]string{"9": "full/file", "a": "somebody's"} { // directories of renames
		write(n+name+renamesSuffix+"/"+inside, "", old)
		if err := os.Chtimes(filepath.Join(root, n+name+renamesSuffix), old, old); err != nil {
			t.Fatal(err)
		}
	}
	stays[n+"a"+renamesSuffix+"/somebody's"] = ""
	trial, err := openProbeFile(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trial.write(time.Now); err != nil {
		t.Fatal(err)
	}
	if removed, err := trial.sweep(); err != nil || removed != 4 {
		t.Errorf("sweep returns %d, %v", removed, err)
	}
	if err := trial.close(); err != nil {
		t.Error(err)
	}
	for name := range stays {
		if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	for _, name := range []string{".mooring/" + n + "0", ".mooring/" + n + "1.copy", n + "2", n + "9" + renamesSuffix} {
		if _, err := os.Lstat(filepath.Join(root, name)); !os.IsNotExist(err) {
			t.Errorf("%s still exists: %v", name, err)
		}
	}
}
