// SPDX-License-Identifier: Apache-2.0

// Package nfs tests the program from outside, by gRPC, against a real NFS server. Its tests
// have the build tag lab and run there: make test-lab.
package nfs
