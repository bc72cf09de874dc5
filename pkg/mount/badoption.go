// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// mount.nfs reports that the kernel rejects a mount option, but not which one. So each option is
// checked separately with a file system context (fsopen(2)), which accepts or rejects options with a
// message. This involves no server.

// userspaceOptions are options that mount(8) or mount.nfs process themselves.
var userspaceOptions = []string{
	"retry", "bg", "fg", "ro", "rw", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime",
	"relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "sync", "async", "dirsync", "mand", "nomand",
	"silent", "loud", "iversion", "noiversion", "symfollow", "nosymfollow", "defaults", "_netdev",
}

// wrongOptions returns the options that the kernel rejects, each with the kernel's message. It
// returns an error if the kernel cannot check options.
func wrongOptions(options []string, open func() (optionContext, error)) (wrong []string, err error) {
	for _, o := range options {
		if name, _, _ := strings.Cut(o, "="); slices.Contains(userspaceOptions, name) {
			continue
		}
		c, err := open() // a new context for each, because options can depend on others
		if err != nil {
			return nil, err
		}
		says, taken := c.take(o)
		c.close()
		if !taken {
			wrong = append(wrong, strings.TrimSpace(o+" "+says))
		}
	}
	return wrong, nil
}

// optionContext is a file system context that checks options.
type optionContext interface {
	// take returns the kernel's message about an option, in parentheses, and whether it accepts the
	// option.
	take(option string) (says string, taken bool)
	close()
}

// kernelContext is a file system context of the kernel.
type kernelContext int

func openContext() (optionContext, error) {
	fd, err := unix.Fsopen("nfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	return kernelContext(fd), nil
}

func (c kernelContext) close() { _ = unix.Close(int(c)) }

func (c kernelContext) take(option string) (says string, taken bool) {
	name, value, valued := strings.Cut(option, "=")
	var err error
	if valued {
		err = unix.FsconfigSetString(int(c), name, strings.Trim(value, `"`))
	} else {
		err = unix.FsconfigSetFlag(int(c), name)
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return "", true
	}
	return "(" + cmp.Or(c.readMessage(), err.Error()) + ")", false
}

// readMessage reads the kernel's message, such as "e nfs: Unknown parameter 'debug'".
func (c kernelContext) readMessage() string {
	var line [256]byte
	n, err := unix.Read(int(c), line[:])
	if err != nil {
		return ""
	}
	message := strings.TrimSpace(string(line[:n]))
	if _, after, ok := strings.Cut(message, ": "); ok {
		return after
	}
	return message
}

// nameWrongOptions adds the wrong options to an error of mount(8) or mount.nfs that only says that
// there is one.
func nameWrongOptions(source string, options []string, failed error, open func() (optionContext, error)) error {
	cause, said := CauseOf(failed)
	if cause != BadOption {
		return failed
	}
	wrong, err := wrongOptions(options, open)
	switch {
	case err != nil:
		return failed
	case wrong != nil:
		return volume.Errorf(volume.ErrInvalid, "mount %s: %s: the kernel does not take %s: correct the mount options of the share, the class or the PersistentVolume", source, said, strings.Join(wrong, ", "))
	case UsesKerberos(options):
		return explain(source, said+" (the kernel takes each option, and has no Kerberos)", failed)
	}
	return volume.Errorf(volume.ErrInvalid, "mount %s: %s: the kernel takes each option by itself, and not all of %s: take out those that do not go together", source, said, strings.Join(options, ","))
}
