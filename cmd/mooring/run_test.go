// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestCheckAddress(t *testing.T) {
	for address, valid := range map[string]bool{
		"": true, ":9102": true, "127.0.0.1:9102": true, "[::1]:9102": true, "node-1:9102": true,
		"9102": false, "127.0.0.1:": false, "127.0.0.1": false, "::1:9102": false, ":91020": false, ":metrics-of-mooring": false,
	} {
		if err := checkAddress("--metrics-address", address); (err == nil) != valid {
			t.Errorf("%q: %v", address, err)
		}
	}
}
