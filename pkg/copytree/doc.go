// SPDX-License-Identifier: Apache-2.0

// Package copytree copies, measures and removes whole directory trees on a share.
//
// Tenants may change a tree at the same time. Nothing here follows a symbolic link or crosses
// into another file system; every step uses a descriptor of the parent directory.
package copytree
