// SPDX-License-Identifier: Apache-2.0

//go:build lab && fat

package share

import (
	"encoding/binary"
	"os"
	"os/exec"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// fat makes an empty FAT16 of 64 MiB: a file system where names also have short names, and where case does
// not matter. No program in the lab can make one.
func fat(t *testing.T, image string) {
	t.Helper()
	const sectors, perFAT = 131072, 128
	boot := make([]byte, 512)
	copy(boot, "\xeb\x3c\x90MSWIN4.1")
	le := binary.LittleEndian
	le.PutUint16(boot[11:], 512) // bytes in a sector
	boot[13] = 4                 // sectors in a cluster
	le.PutUint16(boot[14:], 1)   // reserved
	boot[16] = 2                 // FATs
	le.PutUint16(boot[17:], 512) // entries of the root
	boot[21] = 0xf8
	le.PutUint16(boot[22:], perFAT)
	le.PutUint32(boot[32:], sectors)
	boot[38] = 0x29
	copy(boot[43:], "NO NAME    FAT16   ")
	boot[510], boot[511] = 0x55, 0xaa
	data := make([]byte, sectors*512)
	copy(data, boot)
	for i := range 2 {
		copy(data[(1+i*perFAT)*512:], "\xf8\xff\xff\xff")
	}
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestShortNames uses a server that has a short name for each directory, too. It has a build tag of its own,
// and runs alone (make test-fat): in one lab with other tests these take many times as long. The reason is
// not known yet.
func TestShortNames(t *testing.T) {
	image := t.TempDir() + "/fat.img"
	fat(t, image)
	setup := `set -e
modprobe -a loop vfat nls_cp437 nls_iso8859_1
mkdir /run/export/fat
mount -t vfat -o loop,umask=0,quiet "$1" /run/export/fat
echo "/fat *(rw,no_root_squash,sync,no_subtree_check,insecure,fsid=77)" >>/etc/exports
exportfs -ra`
	if out, err := exec.Command("bash", "-c", setup, "-", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("bash", "-c", "sed -i '/^.fat /d' /etc/exports; exportfs -ra; exportfs -f; umount /run/export/fat").Run()
	})
	for _, version := range []string{"3", "4.2"} {
		t.Run(version, func(t *testing.T) {
			dir := t.TempDir()
			options := "softerr,timeo=50,retrans=2,lookupcache=positive,nosharecache,nfsvers=" + version
			if out, err := exec.Command("mount", "-t", "nfs", "-o", options, "127.0.0.1:/fat", dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			shortNames(t, dir, version[:1])
		})
	}
}

func shortNames(t *testing.T, dir, version string) {
	g := openTestShare(t, dir, Options{Maker: maker})
	name := func(s string) string { return "v" + version + s }
	g.must(os.Mkdir(g.at(name("team-one")), 0o755)) // it has the first short name, so the claim has another
	g.create(name("pvc"), name("team-two"))
	g.must(os.MkdirAll(g.at(name("models/llama")), 0o755))
	short, shout := "V"+version+"TEAM~2", "V"+version+"TEAM-TWO"
	for _, there := range []string{"MOORIN~1/volumes", short, shout} { // otherwise the test proves nothing
		if _, err := os.Stat(g.at(there)); err != nil {
			t.Fatalf("the server has no other names: %v", err)
		}
	}
	v, err := OpenInline(dir, nas1, true)
	g.must(err)
	defer v.Close()
	for _, directory := range []string{"MOORIN~1", "MOORIN~1/volumes", "moorin~1/claims", short, "V" + version + "MODELS/llama", name("models/LLAMA")} {
		_, err := v.Open(directory)
		g.wantError("inline "+directory, err, volume.ErrInvalid, directory[:4])
	}
	_, err = v.Open(shout) // the claims are not case-sensitive there either
	g.wantError("inline "+shout, err, volume.ErrRefused, "belongs to volume")
	llama, err := v.Open(name("models/llama"))
	g.must(err)
	llama.Close()

	p := g.begin(record(name("in"), "MOORIN~1/x"))
	g.wantError("a volume in .mooring", p.MakeDirectory(t.Context()), volume.ErrInvalid, "MOORIN~1", "Mooring's own")
	g.must(p.Abort())
	for _, parent := range []string{short, "V" + version + "MODELS", name("models/LLAMA")} {
		p := g.begin(record(name("inside"), parent+"/x"))
		g.wantError("a volume in "+parent, p.MakeDirectory(t.Context()), volume.ErrInvalid, parent, "as the server lists it")
		g.must(p.Abort())
	}
	for _, key := range []string{"first", "second"} {
		g.create(name(key), name("models/llama/"+key))
		g.delete(name(key))
	}
	for key, directory := range map[string]string{name("own"): "MOORIN~1", name("other"): short} {
		r := record(key, directory)
		r.Adopt, r.Adopted = true, true
		p := g.begin(r)
		g.wantError("adopt "+directory, p.MakeDirectory(t.Context()), volume.ErrInvalid, directory)
		g.must(p.Abort())
	}
	g.delete(name("pvc"))
}
