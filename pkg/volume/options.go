// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// notOptions are words that mount(8) takes among its options and that would make it do
// something else than mount this share here (mount(8), nfs(5)), with what is wrong with each.
var forbiddenOptions = map[string]string{
	"addr":      "the address is the share's",
	"mountaddr": "the address is the share's",
	"mounthost": "the address is the share's",
	"bind":      "a share is mounted, not bound",
	"rbind":     "a share is mounted, not bound",
	"move":      "a share is mounted, not moved",
	"remount":   "a share is mounted, not remounted",
	"bg":        "a mount that goes on in the background would be called done before it is",
	"fg":        "it is the only way",
	"loop":      "a share is no disk image",
	"user":      "only the driver mounts",
	"users":     "only the driver mounts",
	"owner":     "only the driver mounts",
	"group":     "only the driver mounts",
	"noauto":    "it is for fstab(5)",
	"nofail":    "a mount that failed must not be called done",
	"sloppy":    "an option that the kernel does not know must not be left out in silence",

	"private": propagationReason, "rprivate": propagationReason, "shared": propagationReason, "rshared": propagationReason,
	"slave": propagationReason, "rslave": propagationReason, "unbindable": propagationReason, "runbindable": propagationReason,
}

// unshared is why mount propagation (mount_namespaces(7)) is no subject of a share's options.
const propagationReason = "how mounts propagate is the driver's and kubelet's"

// values are what some options can be (nfs(5)): mount.nfs says little of any other.
var allowedValues = map[string]string{
	"vers":    "3, 4, 4.0, 4.1, 4.2",
	"nfsvers": "3, 4, 4.0, 4.1, 4.2",
	"sec":     "sys, none, krb5, krb5i, krb5p",
	"xprtsec": "none, tls, mtls",

	"minorversion": "0, 1, 2",
}

// CheckMountOptions says what is wrong with mount options, each as one element or several
// joined by commas; all that is wrong is in the one error, which is ErrInvalid.
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

// among reports whether an option's value is allowed; sec's can be several, with colons.
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

// SplitMountOptions takes elements that hold several options apart at their commas. Commas
// within quotation marks stay: SELinux contexts have them (mount(8), context=).
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

// MergeMountOptions joins lists so that a later one wins: of options that say the same
// thing (ro and rw, hard, soft and softerr, nodev and dev, vers=3 and nfsvers=4.2) the last
// is kept, at its place. What one list says in two options, vers=4 and minorversion=1, is made
// one: a later list replaces the whole of it.
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

// joinVersion returns options with one that says the NFS version where minorversion says a part of it.
func joinVersion(options []string) []string {
	last, split, major, minor := 0, false, "", ""
	for i, o := range options {
		if optionTopic(o) != "vers" {
			continue
		}
		last = i
		if value, ok := strings.CutPrefix(o, "minorversion="); ok {
			split, major, minor = true, "4", value
		} else if major = versionIn(o); major != "4" { // it leaves no minor version open
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

// NFSVersion returns the NFS version that options ask for: "3", "4", which leaves the minor version
// open, or "4.2", say. "" where they ask for none.
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

// optionTopic returns a word that two options share where the later replaces the earlier.
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

// toggles are the options of mount(8) and nfs(5) that a "no" before them turns off.
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

// quotedContext reports whether o is an SELinux context with its whole value in quotation
// marks. Elsewhere mount(8) heeds them and the kernel does not: it would take what follows
// a quoted comma for an option of its own.
func isQuotedContext(o string) bool {
	name, value, _ := strings.Cut(o, "=")
	switch name {
	case "context", "fscontext", "defcontext", "rootcontext":
		return len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' && strings.Count(value, `"`) == 2
	}
	return false
}

// unquoted returns s without what stands in quotation marks.
func withoutQuoted(s string) string {
	var b strings.Builder
	for i, piece := range strings.Split(s, `"`) {
		if i%2 == 0 {
			b.WriteString(piece)
		}
	}
	return b.String()
}
