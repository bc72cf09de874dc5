// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestPremounted(t *testing.T) {
	g := &Premounted{Table: func() (Table, error) {
		return Table{{Source: "10.0.0.1:/export/", Target: "/shares/nas1", Type: "nfs4", Super: []string{"vers=4.1", "softerr", "sec=sys"}}}, nil
	}}
	for _, c := range []struct{ source, target, options, says string }{
		{"10.0.0.1:/export", "/shares/nas1", "", ""},
		{"10.0.0.1:/export", "/shares/nas1", "ro nfsvers=4.2 sec=sys", ""},
		{"10.0.0.1:/export", "/shares/nas1", "sec=krb5p", "sec=krb5p was asked for, and the mount has sec=sys"},
		{"10.0.0.1:/export", "/shares/nas1", "xprtsec=tls", "xprtsec=tls was asked for"},
		{"10.0.0.1:/export", "/shares/nas2", "xprtsec=tls", "nothing is mounted at /shares/nas2"},
		{"10.0.0.2:/export", "/shares/nas1", "", "the mount at /shares/nas1 is 10.0.0.1:/export/, not 10.0.0.2:/export"},
	} {
		err := g.Mount(context.Background(), Spec{Source: c.source, Target: c.target, Options: strings.Fields(c.options)})
		if c.says == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, volume.ErrPrecondition) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s at %s: the error is %v", c.source, c.target, err)
		}
	}
	if err := g.Unmount(context.Background(), "/shares/nas1"); err != nil {
		t.Error(err)
	}
	broken := errors.New("no table")
	g.Table = func() (Table, error) { return nil, broken }
	if err := g.Mount(context.Background(), Spec{}); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
}
