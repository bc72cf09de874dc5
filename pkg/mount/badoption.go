// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Of a mount option that the kernel does not take, mount.nfs says that there is one, and not which.
// So the kernel is asked about each by itself: a file system context (fsopen(2)) takes options and
// tells what is wrong with them, and no server has a part in that.

// userspaceOptions are options that mount(8) or mount.nfs keep to themselves.
var userspaceOptions = []string{
	"retry", "bg", "fg", "ro", "rw", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime",
	"relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "sync", "async", "dirsync", "mand", "nomand",
	"silent", "loud", "iversion", "noiversion", "symfollow", "nosymfollow", "defaults", "_netdev",
}

// wrongOptions returns those that the kernel does not take, each with what it says of it. It is an
// error where the kernel cannot be asked.
func wrongOptions(options []string, open func() (optionContext, error)) (wrong []string, err error) {
	for _, o := range options {
		if name, _, _ := strings.Cut(o, "="); slices.Contains(userspaceOptions, name) {
			continue
		}
		c, err := open() // a new one for each: options can depend on others
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

// optionContext is a file system context.
type optionContext interface {
	// take returns what the kernel says of an option, in brackets, and whether it takes it.
	take(option string) (says string, taken bool)
	close()
}

// kernelContext is one of the kernel's.
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
	if err == nil || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return "", true
	}
	if said := c.readMessage(); said != "" {
		return "(" + said + ")", false
	}
	return "(" + err.Error() + ")", false
}

// readMessage reads what the kernel has to say: "e nfs: Unknown parameter 'debug'", say.
func (c kernelContext) readMessage() string {
	var line [256]byte
	n, err := unix.Read(int(c), line[:])
	if err != nil {
		return ""
	}
	said := strings.TrimSpace(string(line[:n]))
	if _, after, ok := strings.Cut(said, ": "); ok {
		said = after
	}
	return said
}

// nameWrongOptions says which option is wrong, where mount(8) or mount.nfs have said that one is.
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
