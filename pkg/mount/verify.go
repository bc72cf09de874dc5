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

// mount(8) and the kernel can ignore an option and still report success. The kernel may use a
// connection without TLS for a mount with xprtsec= (see clientName). mount(8) drops an SELinux
// context if it does not see that SELinux is enabled. So Kernel compares each new mount with the
// requested options, in the kernel's mount table.

// VerifyOptions compares a mount with the options that were requested: those that keep others out
// (security, encryption, labels, read-only), and the version. It ignores other options, and accepts
// a mount that has more than was requested. The error is ErrPrecondition and says what to do.
func VerifyOptions(e Entry, options []string) error {
	lacking := missingOptions(e, options)
	if lacking == nil {
		return nil
	}
	return explain(e.Source, strings.Join(lacking, "; "), errMissingOptions)
}

var errMissingOptions = errors.New("the mount lacks requested options")

// missingOptions describes each option that a mount lacks, with what the mount has instead.
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

// DowngradedTo3 reports whether a mount uses NFS 3 although the options leave the version open:
// mount.nfs silently falls back to NFS 3 if the server supports nothing newer, and also if only NFS
// 3 has the path.
func DowngradedTo3(version string, options []string) bool {
	return version == "3" && volume.NFSVersion(options) == ""
}

// Texts about an option that a mount lacks: see causes.
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

// ValueOf returns the value of an option, or "".
func ValueOf(options []string, name string) string {
	for _, o := range options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return value
		}
	}
	return ""
}

// secFlavors returns the kernel's names of the flavors that sec= allows.
func secFlavors(sec string) []string {
	all := strings.Split(sec, ":")
	if slices.Contains(all, "none") {
		all = append(all, "null")
	}
	return all
}

// encryptionLevel orders the values of xprtsec=; it is negative without encryption.
func encryptionLevel(xprtsec string) int { return slices.Index([]string{"tls", "mtls"}, xprtsec) }

// sameContext reports whether two SELinux contexts are equal. The kernel writes the categories
// c1,c2,c3 as c1.c3.
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

// expandCategories lists the categories in text, and expands ranges such as c1.c3. It keeps what it
// cannot parse.
func expandCategories(text string) (all []string) {
	const most = 1024 // categories in any policy
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, ".")
		from, err := strconv.Atoi(strings.TrimPrefix(first, "c"))
		to, lastErr := strconv.Atoi(strings.TrimPrefix(last, "c"))
		if !ranged || err != nil || lastErr != nil || to-from > most {
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

// verify checks that the mount at target has the requested options, and unmounts it if not. before
// is the id of the mount at target before mount(8), which also succeeds if the file system was
// already mounted.
func (k *Kernel) verify(s Spec, target string, before uint64, options []string) error {
	table, err := k.Table()
	e, ok := table.At(target)
	switch {
	case err != nil:
		err = fmt.Errorf("mount %s: %w", s.Source, err)
	case !ok:
		return volume.Errorf(volume.ErrUnavailable, "mount %s: mount(8) succeeded, but nothing is mounted at %s: try again", s.Source, target)
	default:
		e.Source = s.Source // as the caller knows it
		err = VerifyOptions(e, options)
	}
	if now := mountID(target); err != nil && (now != before || now == 0) {
		_ = Detach(target) // it has no users yet
	}
	return err
}

// mountID returns the id of the mount that path leads to, or 0 if the kernel does not report it
// (before Linux 5.8). It sends nothing to a server.
func mountID(path string) uint64 {
	var st unix.Statx_t
	const flags = unix.AT_STATX_DONT_SYNC | unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// targetInTable is PathInTable, or target itself after an error, which mount(8) then reports.
func targetInTable(target string) string {
	path, err := PathInTable(target)
	if err != nil {
		return target
	}
	return path
}

// PathInTable returns a path in the form of the mount table. It follows symbolic links in the
// parent, and does not access the last name, where something may be mounted.
func PathInTable(path string) (string, error) {
	path = filepath.Clean(path)
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}
