// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// mount(8) and the kernel can mount less than they were asked for, and call that success. The
// kernel takes a connection without TLS for a mount that asks for it (see clientName). mount(8)
// leaves out an SELinux context where it does not see that SELinux is on. So what was mounted is
// compared with what was asked for, in the kernel's own table.

// VerifyOptions compares a mount with the options that it was to have, and of these with what keeps
// others out: security, encryption, labels, read-only; and with the version. Only what the options
// say is compared, and more than they say is good. The error says what to do.
func VerifyOptions(e Entry, options []string) error {
	lacking := missingOptions(e, options)
	if lacking == nil {
		return nil
	}
	return explain(e.Source, strings.Join(lacking, "; "), errMissingOptions)
}

var errMissingOptions = errors.New("it is not as it was asked for")

// missingOptions says of each option that a mount does not have what it has in its place.
func missingOptions(e Entry, options []string) (lacking []string) {
	super := func(name string) string { return ValueOf(e.Super, name) }
	lack := func(option, has string) { lacking = append(lacking, option+" "+askedButHas+" "+has) }
	options = volume.MergeMountOptions(options)
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		switch got := super(name); name {
		case "ro":
			if !e.ReadOnly() && !slices.Contains(e.Super, "ro") {
				lack(o, "rw")
			}
		case "sec":
			if !slices.Contains(secFlavors(value), got) {
				lack(o, "sec="+got)
			}
		case "xprtsec":
			if encryptionLevel(value) > encryptionLevel(got) {
				lack(o, valueOrNone(name, got, noTLS))
			}
		case "context", "fscontext", "defcontext", "rootcontext":
			if !sameContext(value, got) {
				lack(o, valueOrNone(name, got, noLabel))
			}
		}
	}
	version, got := volume.NFSVersion(options), super("vers")
	if version != "" && got != version && !(version == "4" && strings.HasPrefix(got, "4.")) {
		lack("vers="+version, "vers="+got)
	}
	return lacking
}

// DowngradedTo3 reports whether a mount is by NFS 3 although the options leave the version open: mount.nfs
// takes that where a server speaks nothing newer, and also where it has the path by NFS 3 alone, and
// says nothing of it.
func DowngradedTo3(version string, options []string) bool {
	return version == "3" && volume.NFSVersion(options) == ""
}

// What is said of an option that a mount lacks: see causes.
const (
	askedButHas = "was asked for, and the mount has"
	noTLS       = "no TLS"
	noLabel     = "no SELinux label"
)

func valueOrNone(name, got, none string) string {
	if got == "" {
		return none
	}
	return name + "=" + got
}

// ValueOf returns the value of one of several options.
func ValueOf(options []string, name string) string {
	for _, o := range options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return value
		}
	}
	return ""
}

// secFlavors are the names that the kernel has for what sec= allows.
func secFlavors(sec string) []string {
	all := strings.Split(sec, ":")
	if slices.Contains(all, "none") {
		all = append(all, "null")
	}
	return all
}

// encryptionLevel puts what xprtsec= can be in an order.
func encryptionLevel(xprtsec string) int { return slices.Index([]string{"tls", "mtls"}, xprtsec) }

// sameContext reports whether two SELinux contexts are one. The kernel writes categories in its
// own way, c1,c2,c3 as c1.c3.
func sameContext(a, b string) bool {
	a, b = strings.Trim(a, `"`), strings.Trim(b, `"`)
	return a == b || a != "" && b != "" && normalizeContext(a) == normalizeContext(b)
}

func normalizeContext(context string) string {
	const beforeLevel = 4 // user, role and type
	fields := strings.SplitN(context, ":", beforeLevel)
	if len(fields) < beforeLevel {
		return context
	}
	var levels []string
	for level := range strings.SplitSeq(fields[beforeLevel-1], "-") {
		sensitivity, categories, _ := strings.Cut(level, ":")
		levels = append(levels, fmt.Sprint(sensitivity, expandCategories(categories)))
	}
	fields[beforeLevel-1] = strings.Join(slices.Compact(levels), "-") // s0-s0 is s0
	return strings.Join(fields, ":")
}

// expandCategories lists categories, ranges of which are written c1.c3. What is none of that stays itself.
func expandCategories(text string) (all []string) {
	const most = 1024 // in any policy
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, ".")
		from, err := strconv.Atoi(strings.TrimPrefix(first, "c"))
		to, failed := strconv.Atoi(strings.TrimPrefix(last, "c"))
		if !ranged || err != nil || failed != nil || to-from > most {
			all = append(all, part)
			continue
		}
		for n := from; n <= to; n++ {
			all = append(all, "c"+strconv.Itoa(n))
		}
	}
	slices.Sort(all)
	return all
}

// verify has what is mounted at target be as was asked for, or unmounts it. before is what was
// mounted there before mount(8), which calls it success if the file system is there already.
func (k *Kernel) verify(s Spec, target string, before uint64, options []string) error {
	table, err := k.readTable()
	e, ok := table.At(target)
	switch {
	case err != nil:
		err = fmt.Errorf("mount %s: %w", s.Source, err)
	case !ok:
		return volume.Errorf(volume.ErrUnavailable, "mount %s: mount(8) is content, and nothing is mounted at %s: try again", s.Source, target)
	default:
		e.Source = s.Source // as the caller knows it
		err = VerifyOptions(e, options)
	}
	if now := mountID(target); err != nil && (now != before || now == 0) {
		_ = Detach(target) // nobody uses it yet
	}
	return err
}

// mountID is the number of the mount that path leads to. 0: the kernel does not tell (before Linux
// 5.8). No server is asked.
func mountID(path string) uint64 {
	var st unix.Statx_t
	const flags = unix.AT_STATX_DONT_SYNC | unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

func (k *Kernel) readTable() (Table, error) {
	if k.table != nil {
		return k.table()
	}
	return k.Table()
}

// targetInTable is PathInTable, for a target of which mount(8) will tell what is wrong with it.
func targetInTable(target string) string {
	path, err := PathInTable(target)
	if err != nil {
		return target
	}
	return path
}

// PathInTable returns a path as the mount table has it: the parent's symbolic links are followed, and
// the last name is not looked at, where something may be mounted.
func PathInTable(path string) (string, error) {
	path = filepath.Clean(path)
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}
