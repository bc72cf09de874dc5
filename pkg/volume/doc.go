// SPDX-License-Identifier: Apache-2.0

// Package volume has the nouns of Mooring: what a share, a volume, its handle,
// its directory and its record are, what a StorageClass may ask for, and the
// errors that every other package speaks in.
//
// It is pure: it opens nothing, mounts nothing and knows neither protobuf nor
// Kubernetes, so that all of it can be fuzzed.
package volume
