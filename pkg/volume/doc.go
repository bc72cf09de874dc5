// SPDX-License-Identifier: Apache-2.0

// Package volume defines the data types of Mooring: shares, volumes and snapshots
// with their handles, directories and records, the parameters of a StorageClass,
// and the kinds of errors that every other package returns.
//
// It is pure: it opens nothing, mounts nothing and depends on neither protobuf nor
// Kubernetes, so that all of it can be fuzzed.
package volume
