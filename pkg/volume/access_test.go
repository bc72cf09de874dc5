// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"testing"
)

func TestAccessDeniedReason(t *testing.T) {
	for options, want := range map[string]string{
		"":                        "exportfs -v",
		"rw,sec=sys,xprtsec=none": "exportfs -v",
		"rw,sec=krb5i":            "Kerberos ticket",
		"xprtsec=mtls":            "TLS handshake",
		"sec=krb5,xprtsec=tls":    "Kerberos ticket",
	} {
		if says := AccessDeniedReason(strings.Split(options, ",")); !strings.Contains(says, want) {
			t.Errorf("%s: %s", options, says)
		}
	}
}
