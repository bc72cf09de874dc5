// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"strings"
)

// AccessDeniedReason says why a server does not let a machine do anything any more that has it mounted with
// these options.
func AccessDeniedReason(options []string) string {
	has := func(prefix string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, prefix) })
	}
	const says = "the server does not let this machine do anything any more: "
	switch {
	case has("sec=krb5"):
		return says + "its Kerberos ticket has ended, and there is no new one: look whether /etc/krb5.keytab is there (klist -k), rpc.gssd runs and the KDC answers (kinit -k); the journal of rpc-gssd tells (docs/kerberos.md)"
	case has("xprtsec=tls"), has("xprtsec=mtls"):
		return says + "it had to connect anew, and the TLS handshake has failed: most likely a certificate has expired, or tlshd does not run; the journal of tlshd here and on the server tells (docs/tls.md)"
	}
	return says + "the export was withdrawn, or is for other clients now: look there with exportfs -v"
}
