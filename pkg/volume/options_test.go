// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"strings"
	"testing"
)

const selinux = `context="system_u:object_r:container_file_t:s0:c1,c2"`

func TestCheckMountOptions(t *testing.T) {
	for _, good := range [][]string{
		nil, {"nfsvers=4.2", "nconnect=4"}, {"nfsvers=4.2,nconnect=4,ro"}, {selinux}, {"ro," + selinux + ",noatime"}, {`fscontext=""`, "rootcontext=a:b"},
		{"sec=krb5p"}, {"_netdev"}, {"noac", "v4.2", "actimeo=30"}, {"vers=4", "minorversion=1"}, {"port=0"}, {"port=65535,mountport=20048"}, {"fsc=a-b:c/d", "clientaddr=fe80::1"}, {"grpid"},
	} {
		wantKind(t, strings.Join(good, " "), CheckMountOptions(good), nil)
	}
	for _, bad := range []string{
		"", ",", "ro,", "ro,,rw", "=", "=4", "-o", "--bind", "; rm", "a b", "a=b c", "ro\n", "nfsvers=4\n", "a=\x00", "a=\x7f", "\xff", "a=\xff", "ä", "a;b",
		"bind", "rbind", "move", "remount", "remount=1", "addr=1.2.3.4", "mountaddr=1.2.3.4", "mounthost=evil", "bg", "fg", "loop", "user", "users", "owner", "group", "noauto", "nofail", "sloppy",
		"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
		"port", "port=", "port=99999", "port=65536", "port=-1", "port=nfs", "mountport=99999", "minorversion=9", "minorversion",
		"ro,bind", "x-systemd.automount", "X-mount.mkdir", "comment=x", ".a",
		`"`, `a="`, `context="a`, `context="a,bind`, `a"b=c"`, `"bind"`,
		`a="b,addr=1.2.3.4,c"`, `context=x"a,b"`, `context="a"x`, `context="a""b"`, `contexts="a,b"`, `xcontext="a,b"`, `context"="`, `x=\",bind,y=\"`, `context="a\",bind,y=\"b"`, `a=\054bind`,
	} {
		wantKind(t, bad, CheckMountOptions([]string{bad}), ErrInvalid)
	}
	err := CheckMountOptions([]string{"ro", "bind", "nfsvers=4.2,-o"})
	wantText(t, err, `"bind"`, `"-o"`, "a share is mounted, not bound")
	for _, good := range []string{`"ro"`, "nfsvers"} {
		if strings.Contains(err.Error(), good) {
			t.Errorf("%v contains %s, which is valid", err, good)
		}
	}
}

func TestSplitMountOptions(t *testing.T) {
	for _, c := range []struct{ options, want []string }{
		{nil, nil},
		{[]string{"a", "b,c=d"}, []string{"a", "b", "c=d"}},
		{[]string{selinux + ",ro", "rw"}, []string{selinux, "ro", "rw"}},
		{[]string{`a="b,c`, "d,e"}, []string{`a="b,c`, "d", "e"}},
		{[]string{"", ",a,"}, []string{"", "", "a", ""}},
	} {
		if got := SplitMountOptions(c.options); !slices.Equal(got, c.want) {
			t.Errorf("%q splits into %q, want %q", c.options, got, c.want)
		}
	}
}

func TestMergeMountOptions(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"|", ""},
		{"nodev,nosuid|nfsvers=4.2|nconnect=4|ro", "nodev,nosuid,nfsvers=4.2,nconnect=4,ro"},
		{"ro|rw", "rw"},
		{"ro,nodev|rw", "nodev,rw"},
		{"hard|soft|softerr", "softerr"},
		{"softerr|hard", "hard"},
		{"nodev,nosuid|suid", "nodev,suid"},
		{"suid|nosuid", "nosuid"},
		{"dev,noexec|nodev,exec", "nodev,exec"},
		{"vers=3|nfsvers=4.2", "nfsvers=4.2"},
		{"nfsvers=4.1,v4.2|vers=4", "vers=4"},
		{"v3|v4.1", "v4.1"},
		{"vers=4,minorversion=1", "vers=4.1"},
		{"minorversion=1,hard,vers=4", "hard,vers=4.1"},
		{"minorversion=1,vers=4.2", "vers=4.2"},
		{"minorversion=1,v3", "vers=3"},
		{"vers=4.2,minorversion=1,ro", "vers=4.1,ro"},
		{"v4,minorversion=0", "vers=4.0"},
		{"minorversion=1", "vers=4.1"},
		{"vers=4,minorversion=1|nfsvers=4.2", "nfsvers=4.2"},
		{"vers=4,minorversion=1|vers=4", "vers=4"},
		{"vers=4,minorversion=1|v3", "v3"},
		{"nfsvers=4.2|minorversion=0", "vers=4.0"},
		{"vers=3|vers=4,minorversion=1", "vers=4.1"},
		{"proto=tcp|rdma", "rdma"},
		{"relatime|noatime", "noatime"},
		{"strictatime|nostrictatime", "nostrictatime"},
		{"sync|async", "async"},
		{"ac|noac", "noac"},
		{"noac|actimeo=3", "noac,actimeo=3"},
		{"softreval|nosoftreval", "nosoftreval"},
		{"nolock|lock", "lock"},
		{"rsize=1,wsize=1|rsize=2", "wsize=1,rsize=2"},
		{"sec=sys,ro|sec=krb5p", "ro,sec=krb5p"},
		{"nconnect=4,noresvport,nocto,acregmin=1,acregmax=2,timeo=3,retrans=4", "nconnect=4,noresvport,nocto,acregmin=1,acregmax=2,timeo=3,retrans=4"},
		{selinux + `|context="a,b"`, `context="a,b"`},
	} {
		var lists [][]string
		for list := range strings.SplitSeq(c.options, "|") {
			if list == "" {
				lists = append(lists, nil)
				continue
			}
			lists = append(lists, []string{list}) // one element of several options
		}
		if got := strings.Join(MergeMountOptions(lists...), ","); got != c.want {
			t.Errorf("%s merges into %s, want %s", c.options, got, c.want)
		}
	}
	if got := MergeMountOptions(); got != nil {
		t.Errorf("nothing merges into %q", got)
	}
	defaults := []string{"nodev", "nosuid"}
	MergeMountOptions(defaults, []string{"dev"})
	if !slices.Equal(defaults, []string{"nodev", "nosuid"}) {
		t.Errorf("merging changed its argument to %q", defaults)
	}
}

func FuzzMountOptions(f *testing.F) {
	for _, s := range []string{"nfsvers=4.2,nconnect=4", selinux + ",ro", `a="b`, "remount,bind", "hard,softerr", `x=\",bind,y=\"`, ",,"} {
		f.Add(s, "rw,noac")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		merged := MergeMountOptions([]string{a}, []string{b})
		if again := MergeMountOptions(merged); !slices.Equal(again, merged) {
			t.Errorf("%q merges into %q, and that into %q", []string{a, b}, merged, again)
		}
		all := SplitMountOptions([]string{a, b})
		kept := len(merged) > 0 && merged[len(merged)-1] == all[len(all)-1]
		if !kept && !strings.Contains(b, "minorversion") { // it becomes a part of another option
			t.Errorf("%q merges into %q, without the last", all, merged)
		}
		if err := CheckMountOptions([]string{a}); err != nil {
			wantKind(t, a, err, ErrInvalid)
			return
		}
		// Valid options are the same list for Mooring, for mount(8), which interprets quotation
		// marks, and (except SELinux contexts) for the kernel, which does not.
		split := SplitMountOptions([]string{a})
		if joined := strings.Join(split, ","); joined != a {
			t.Errorf("%q splits into %q", a, split)
		}
		for _, o := range split {
			name, _, _ := strings.Cut(o, "=")
			if _, forbidden := forbiddenOptions[name]; forbidden || strings.HasPrefix(o, "-") || strings.Contains(o, ",") && !strings.Contains(o, `context="`) {
				t.Errorf("%q is accepted, and contains %q", a, o)
			}
		}
	})
}

func TestNFSVersion(t *testing.T) {
	for options, want := range map[string]string{
		"": "", "hard": "", "nfsvers=4.2": "4.2", "vers=3": "3", "v3": "3", "v4.1": "4.1", "nfsvers=4": "4", "v4": "4",
		"nfsvers=3 vers=4.0": "4.0", "vers=4 minorversion=2": "4.2", "minorversion=1": "4.1", "minorversion=1 vers=3": "3",
	} {
		if got := NFSVersion(strings.Fields(options)); got != want {
			t.Errorf("%q asks for version %q, want %q", options, got, want)
		}
	}
}
