// SPDX-License-Identifier: Apache-2.0

// Package secure tests the real program, as controller and node, on shares with Kerberos and with TLS.
// make test-kerberos and make test-tls run it.
package secure
