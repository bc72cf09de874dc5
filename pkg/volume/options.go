// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// forbiddenOptions are options of mount(8) that would make it do something else than mount
// this share here (mount(8), nfs(5)), with the reason for each.
var forbiddenOptions = map[string]string{
	"addr":      "the address is the share's",
	"mountaddr": "the address is the share's",
	"mounthost": "the address is the share's",
	"bind":      "a share is mounted, not bound",
	"rbind":     "a share is mounted, not bound",
	"move":      "a share is mounted, not moved",
	"remount":   "a share is mounted, not remounted",
	"bg":        "a mount in the background would be reported as done before it is",
	"fg":        "every mount is in the foreground",
	"loop":      "a share is not a disk image",
	"user":      "only the driver mounts",
	"users":     "only the driver mounts",
	"owner":     "only the driver mounts",
	"group":     "only the driver mounts",
	"noauto":    "it is for fstab(5)",
	"nofail":    "a failed mount must not be reported as done",
	"sloppy":    "an option that the kernel does not know must not be ignored",

	"private": propagationReason, "rprivate": propagationReason, "shared": propagationReason, "rshared": propagationReason,
	"slave": propagationReason, "rslave": propagationReason, "unbindable": propagationReason, "runbindable": propagationReason,
}

// propagationReason is the reason why a share has no options for mount propagation (mount_namespaces(7)).
const propagationReason = "the driver and kubelet set the mount propagation"

// allowedValues are the values of some options (nfs(5)): the errors of mount.nfs for others say little.
var allowedValues = map[string]string{
	"vers":    "3, 4, 4.0, 4.1, 4.2",
	"nfsvers": "3, 4, 4.0, 4.1, 4.2",
	"sec":     "sys, none, krb5, krb5i, krb5p",
	"xprtsec": "none, tls, mtls",

	"minorversion": "0, 1, 2",
}

// CheckMountOptions checks mount options. An element may contain several options, separated by
// commas. The error is ErrInvalid, and contains all faults.
func CheckMountOptions(options []string) error {
	var wrong []string
	for _, o := range SplitMountOptions(options) {
		name, value, _ := strings.Cut(o, "=")
		reason, bad := forbiddenOptions[name]
		allowed, limited := allowedValues[name]
		switch {
		case bad:
			wrong = append(wrong, quote(o)+" ("+reason+")")
		case !isOptionName(name):
			wrong = append(wrong, quote(o)+" (not of the form name or name=value)")
		case !utf8.ValidString(o) || strings.ContainsFunc(o, isControl) || strings.Contains(withoutQuoted(o), " "):
			wrong = append(wrong, quote(o)+" (white space or control characters)")
		case strings.Contains(o, `\`):
			wrong = append(wrong, quote(o)+" (a backslash, which versions of mount(8) read differently)")
		case strings.Contains(o, `"`) && !isQuotedContext(o):
			wrong = append(wrong, quote(o)+" (quotation marks go around the whole value of an SELinux context)")
		case strings.HasPrefix(o, "x-") || strings.HasPrefix(o, "X-") || strings.HasPrefix(o, "comment"):
			wrong = append(wrong, quote(o)+" (it is for fstab(5))")
		case limited && !isAllowed(name, value, strings.Split(allowed, ", ")):
			wrong = append(wrong, quote(o)+" (it is one of "+allowed+")")
		case (name == "port" || name == "mountport") && !isPort(value):
			wrong = append(wrong, quote(o)+" (a port is a number from 0 to 65535)")
		}
	}
	if wrong != nil {
		return Errorf(ErrInvalid, "mount options that cannot be used: %s", strings.Join(wrong, ", "))
	}
	return nil
}

// isAllowed reports whether an option's value is allowed; sec takes several, separated by colons.
func isAllowed(name, value string, allowed []string) bool {
	values := []string{value}
	if name == "sec" {
		values = strings.Split(value, ":")
	}
	return !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(allowed, v) })
}

func isPort(value string) bool {
	_, err := strconv.ParseUint(value, 10, 16)
	return err == nil
}

// SplitMountOptions splits elements that contain several options at their commas. It does not
// split at commas in quotation marks: SELinux contexts have them (mount(8), context=).
func SplitMountOptions(options []string) []string {
	var split []string
	for _, element := range options {
		quoted, start := false, 0
		for i := range len(element) {
			switch element[i] {
			case '"':
				quoted = !quoted
			case ',':
				if !quoted {
					split = append(split, element[start:i])
					start = i + 1
				}
			}
		}
		split = append(split, element[start:])
	}
	return split
}

// MergeMountOptions joins lists so that a later one wins: of options for the same setting (ro
// and rw, hard, soft and softerr, nodev and dev, vers=3 and nfsvers=4.2) it keeps the last one,
// at its place. If a list sets the version in two options, vers=4 and minorversion=1, it makes
// them one, so that a later list replaces both.
func MergeMountOptions(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		all = append(all, joinVersion(SplitMountOptions(list))...)
	}
	seen := map[string]bool{}
	var merged []string
	for _, o := range slices.Backward(all) {
		if topic := optionTopic(o); !seen[topic] {
			seen[topic] = true
			merged = append(merged, o)
		}
	}
	slices.Reverse(merged)
	return merged
}

// joinVersion replaces the options for the NFS version by one if minorversion is among them.
func joinVersion(options []string) []string {
	last, split, major, minor := 0, false, "", ""
	for i, o := range options {
		if optionTopic(o) != "vers" {
			continue
		}
		last = i
		if value, ok := strings.CutPrefix(o, "minorversion="); ok {
			split, major, minor = true, "4", value
		} else if major = versionIn(o); major != "4" { // a full version
			minor = ""
		}
	}
	if !split {
		return options
	}
	if minor != "" {
		major += "." + minor
	}
	var joined []string
	for i, o := range options {
		switch {
		case i == last:
			joined = append(joined, "vers="+major)
		case optionTopic(o) != "vers":
			joined = append(joined, o)
		}
	}
	return joined
}

// NFSVersion returns the NFS version in options: for example "3", "4.2", or "4" for any minor version.
// "": the options set none.
func NFSVersion(options []string) (version string) {
	for _, o := range MergeMountOptions(options) {
		if optionTopic(o) == "vers" {
			version = versionIn(o)
		}
	}
	return version
}

// versionIn returns the version in an option such as vers=4.2 or v4.2.
func versionIn(option string) string {
	if _, value, ok := strings.Cut(option, "="); ok {
		return value
	}
	return option[1:]
}

// optionTopic returns the name of the setting that an option is for: a later option for the same setting
// replaces an earlier one.
func optionTopic(option string) string {
	name, _, _ := strings.Cut(option, "=")
	switch name {
	case "ro", "rw":
		return "rw"
	case "hard", "soft", "softerr":
		return "hard"
	case "vers", "nfsvers", "minorversion", "v3", "v4", "v4.0", "v4.1", "v4.2":
		return "vers"
	case "proto", "tcp", "udp", "rdma", "tcp6", "udp6":
		return "proto"
	case "relatime", "norelatime", "strictatime", "nostrictatime", "atime", "noatime":
		return "atime"
	case "async":
		return "sync"
	}
	if strings.HasPrefix(name, "no") && toggles[name[2:]] {
		return name[2:]
	}
	return name
}

// toggles are the options of mount(8) and nfs(5) that the prefix "no" turns off.
var toggles = map[string]bool{
	"dev": true, "suid": true, "exec": true, "diratime": true, "lazytime": true, "ac": true, "acl": true,
	"cto": true, "lock": true, "intr": true, "fsc": true, "resvport": true, "sharecache": true,
	"rdirplus": true, "migration": true, "alignwrite": true, "iversion": true,
	"softreval": true, "trunkdiscovery": true, "symfollow": true, "posix": true,
}

func isOptionName(name string) bool {
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-' && c != '.') && (i != 0 || c != '_') {
			return false
		}
	}
	return name != ""
}

// isQuotedContext reports whether o is an SELinux context with its whole value in quotation
// marks. In other options mount(8) interprets quotation marks and the kernel does not: it would
// take the text after a quoted comma for another option.
func isQuotedContext(o string) bool {
	name, value, _ := strings.Cut(o, "=")
	switch name {
	case "context", "fscontext", "defcontext", "rootcontext":
		return len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' && strings.Count(value, `"`) == 2
	}
	return false
}

// withoutQuoted returns s without the text in quotation marks.
func withoutQuoted(s string) string {
	var b strings.Builder
	for i, piece := range strings.Split(s, `"`) {
		if i%2 == 0 {
			b.WriteString(piece)
		}
	}
	return b.String()
}
