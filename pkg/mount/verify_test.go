// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestVerifyOptions(t *testing.T) {
	const label = "context=\"system_u:object_r:container_file_t:s0:c1,c2\""
	for _, c := range []struct{ asked, has, lacks string }{
		{"", "rw vers=3 sec=sys", ""},
		{"rw nodev hard nconnect=4", "ro vers=3 sec=sys", ""},
		{"ro", "ro", ""},
		{"ro", "rw", "ro was asked for, and the mount has rw"},
		{"ro rw", "rw", ""},
		{"rw ro", "rw", "ro was asked for"},

		{"sec=krb5p", "sec=krb5p", ""},
		{"sec=krb5p", "sec=krb5i", "sec=krb5p was asked for, and the mount has sec=krb5i"},
		{"sec=krb5:krb5p", "sec=krb5p", ""},
		{"sec=krb5:krb5p", "sec=sys", "sec=sys"},
		{"sec=none", "sec=null", ""},
		{"sec=sys", "sec=null", "sec=null"},
		{"sec=krb5 sec=sys", "sec=sys", ""},

		{"xprtsec=none", "", ""},
		{"xprtsec=none", "xprtsec=tls", ""},
		{"xprtsec=tls", "xprtsec=tls", ""},
		{"xprtsec=tls", "xprtsec=mtls", ""},
		{"xprtsec=tls", "", "xprtsec=tls was asked for, and the mount has no TLS: "},
		{"xprtsec=mtls", "xprtsec=tls", "xprtsec=mtls was asked for, and the mount has xprtsec=tls"},

		{"nfsvers=4.2", "vers=4.2", ""},
		{"v4.1", "vers=4.1", ""},
		{"vers=4", "vers=4.0", ""},
		{"vers=4", "vers=3", "vers=4 was asked for, and the mount has vers=3"},
		{"vers=4.2", "vers=4.1", "vers=4.1"},
		{"vers=4 minorversion=1", "vers=4.1", ""},
		{"vers=4 minorversion=1", "vers=4.2", "vers=4.1 was asked for, and the mount has vers=4.2"},
		{"vers=3", "vers=4.2", "vers=3 was asked for"},

		{label, label, ""},
		{label, "", "no SELinux label"},
		{label, strings.ReplaceAll(label, "c2", "c3"), "c1,c3"},
		{label, strings.ReplaceAll(label, "s0", "s0-s0"), "the mount has context="},
		{strings.ReplaceAll(label, "s0:", "s0-s0:"), label, "was asked for"},
		{"context=\"a:b:c:s0:c3,c1,c2\"", "context=\"a:b:c:s0:c1.c3\"", ""},
		{"context=a:b:c:s0-s0:c0.c1023", "context=a:b:c:s0-s0:c0.c1023", ""},
		{"context=a:b:c:s0:c1.c999999999", "context=a:b:c:s0:c1", "was asked for"},
		{"context=a:b:c", "context=a:b:c", ""},
		{"rootcontext=a:b:c", "rootcontext=a:b:d", "rootcontext=a:b:c was asked for"},
		{"fscontext=a:b:c", "context=a:b:c", "fscontext"},
		{"defcontext=a:b:c", "", "defcontext"},

		{"ro sec=krb5", "rw sec=sys", "ro was asked for, and the mount has rw; sec=krb5 was asked for, and the mount has sec=sys"},
	} {
		e := Entry{Source: "nas:/x", Options: strings.Fields(c.has), Super: splitOptions(strings.ReplaceAll(c.has, " ", ","))}
		err := VerifyOptions(e, strings.Fields(c.asked))
		switch {
		case c.lacks == "" && err != nil:
			t.Errorf("%q for %q: %v", c.has, c.asked, err)
		case c.lacks != "" && (volume.Kind(err) != volume.ErrPrecondition || !strings.HasPrefix(err.Error(), "mount nas:/x: ") || !strings.Contains(err.Error(), c.lacks)):
			t.Errorf("%q for %q: the error is %v, want %q in it", c.has, c.asked, err, c.lacks)
		}
	}
}

// TestMountMissingOptions runs a mount(8) that succeeds with fewer options than requested.
func TestMountMissingOptions(t *testing.T) {
	program(t, "exit 0")
	target := t.TempDir()
	plain := Entry{Source: "10.0.0.1:/x", Target: target, Options: []string{"rw"}, Super: []string{"vers=4.2", "sec=sys"}}
	for options, want := range map[string]Cause{
		"nfsvers=4.2": "", "sec=sys,rw": "",
		"ro": MissingOptions, "sec=krb5p": MissingOptions, "vers=4.1": MissingOptions, "context=a:b:c:s0": NoLabel,
	} {
		k := Kernel{table: tableOf(Entry{Target: target, Options: []string{"ro"}}, plain)} // stacked
		err := k.Mount(context.Background(), Spec{Source: "nas:/x", Target: target, Options: strings.Split(options, ",")})
		cause, _ := CauseOf(err)
		if cause != want || (err == nil) != (want == "") || want != "" && !strings.HasPrefix(err.Error(), "mount nas:/x: "+strings.Split(options, ",")[0]+" was asked for") {
			t.Errorf("%s: the error is %v", options, err)
		}
	}
	k := Kernel{table: tableOf()}
	if err := k.Mount(context.Background(), Spec{Source: "nas:/x", Target: target}); volume.Kind(err) != volume.ErrUnavailable || !strings.Contains(err.Error(), "nothing is mounted") {
		t.Errorf("nothing is mounted: the error is %v", err)
	}
	broken := errors.New("no table")
	k.table = func() (Table, error) { return nil, broken }
	if err := k.Mount(context.Background(), Spec{Source: "nas:/x", Target: target}); !errors.Is(err, broken) {
		t.Errorf("no table: the error is %v", err)
	}
}

// TestMountThroughSymlink mounts at a path with a symbolic link in its parent, like a kubelet
// directory on another disk.
func TestMountThroughSymlink(t *testing.T) {
	program(t, "exit 0")
	real, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Mkdir(filepath.Join(real, "pod"), 0o755), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	k := Kernel{table: tableOf(Entry{Target: filepath.Join(real, "pod")})}
	if err := k.Mount(context.Background(), Spec{Source: "nas:/x", Target: filepath.Join(link, "pod")}); err != nil {
		t.Error(err)
	}
}

func TestDowngradedTo3(t *testing.T) {
	for options, fell := range map[string]bool{"": true, "hard,nolock": true, "nfsvers=3": false, "vers=3": false, "v3": false} {
		if DowngradedTo3("3", strings.Split(options, ",")) != fell || DowngradedTo3("4.1", strings.Split(options, ",")) {
			t.Errorf("the result for %q is wrong", options)
		}
	}
}
