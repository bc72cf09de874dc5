// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// fakeContext is a context of a kernel that accepts a few options.
type fakeContext struct{ open *int }

func (c fakeContext) close() { *c.open-- }

func (c fakeContext) take(option string) (says string, taken bool) {
	known := []string{"nfsvers=4.2", "nosharecache", "nconnect=4", "sec=krb5p", "xprtsec=tls", `context="a:b:c:s0:c1,c2"`}
	return "(Unknown parameter)", slices.Contains(known, option)
}

func TestNameWrongOptions(t *testing.T) {
	const said = "mount.nfs: an incorrect mount option was specified"
	bad := explain("nas:/x", said, errors.New("exit status 32"))
	for _, c := range []struct {
		options string
		kind    error
		cause   Cause
		says    string
	}{
		{"nfsvers=4.2 debug nconnect=4", volume.ErrInvalid, BadOption, "the kernel does not take debug (Unknown parameter): correct"},
		{"retry=0 ro nodev nosuid noatime _netdev foo=1", volume.ErrInvalid, BadOption, "the kernel does not take foo=1 (Unknown parameter): correct"},
		{"debug rsize=1M", volume.ErrInvalid, BadOption, "debug (Unknown parameter), rsize=1M (Unknown parameter): correct"},
		{"nfsvers=4.2 sec=krb5p", volume.ErrPrecondition, NoGSSHandler, "rpc.gssd"},
		{"nfsvers=4.2 nconnect=4", volume.ErrInvalid, BadOption, "not all of nfsvers=4.2,nconnect=4: take out"},
	} {
		open := 0
		err := nameWrongOptions("nas:/x", strings.Fields(c.options), bad, func() (optionContext, error) { open++; return fakeContext{&open}, nil })
		if volume.Kind(err) != c.kind || !strings.HasPrefix(err.Error(), "mount nas:/x: "+said) || !strings.Contains(err.Error(), "the kernel takes each option") && !strings.Contains(err.Error(), "the kernel does not take ") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v", c.options, err)
		}
		if cause, _ := CauseOf(err); cause != c.cause || open != 0 {
			t.Errorf("%s: the cause is %q, and %d contexts are left", c.options, cause, open)
		}
	}
	if err := nameWrongOptions("nas:/x", []string{"debug"}, bad, func() (optionContext, error) { return nil, errors.ErrUnsupported }); err != bad {
		t.Errorf("a kernel that cannot check options: %v", err)
	}
	for _, other := range []error{nil, explain("nas:/x", "mount.nfs: Connection refused", errors.New("exit status 32"))} {
		if err := nameWrongOptions("nas:/x", []string{"debug"}, other, nil); err != other {
			t.Errorf("another error: %v", err)
		}
	}
}
