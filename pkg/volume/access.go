// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"strings"
)

// AccessDeniedReason returns the likely reason, with the remedy, why a server denies everything to a machine
// that has it mounted with these options.
func AccessDeniedReason(options []string) string {
	has := func(prefix string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, prefix) })
	}
	const denied = "the server does not let this machine do anything any more: "
	switch {
	case has("sec=krb5"):
		return denied + "its Kerberos ticket has expired, and there is no new one: check that /etc/krb5.keytab exists (klist -k), rpc.gssd runs and the KDC answers (kinit -k); see the journal of rpc-gssd (docs/kerberos.md)"
	case has("xprtsec=tls"), has("xprtsec=mtls"):
		return denied + "it had to connect again, and the TLS handshake has failed: most likely a certificate has expired, or tlshd does not run; see the journal of tlshd here and on the server (docs/tls.md)"
	}
	return denied + "the export was withdrawn, or is for other clients now: check it on the server with exportfs -v"
}
