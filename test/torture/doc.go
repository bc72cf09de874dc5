// SPDX-License-Identifier: Apache-2.0

// Package torture runs random histories of Mooring on a real NFS server: make torture.
//
// A seed determines a history, which has a share of its own, two controllers and two nodes. One
// controller is on the machine of a node, the other on a machine of its own; the second node is on
// a third machine. Several owners, each with one operation at a time, make volumes, snapshots, groups
// and clones, write into them in pods, expand and delete them, and restore some. Owners use the same
// directories. Each request goes to one controller or to both, and is canceled after a while and sent
// again, perhaps to the other one, like requests of sidecars whose leader changes. Meanwhile
// controllers are suspended, killed and started again, their system calls fail or are delayed, nodes
// are killed, and a machine's network is cut.
//
// A history checks what the project promises:
//
//   - A volume has its directory for itself, with exactly what its pods have written, until its
//     deletion is requested.
//   - A snapshot, a clone, and a volume from a snapshot have what was written and closed before it
//     the request, and a snapshot never changes.
//   - A deleted volume is gone, or complete in the trash, in the archive or in its place, as its class
//     says.
//   - If a request failed or was late, its error asks for a retry.
//   - In the end mooringctl check finds nothing broken; everything can be deleted, nothing is left of
//     it, and each directory can be made again.
//
// A canceled creation that is executed later may make a volume that nobody requests any more:
// Kubernetes identifies it by its name, and so does the test. Such a volume is deleted in the end.
//
// The seed does not determine how the steps of several processes interleave. The seed of a history that
// has failed is kept, and each fault that was understood has a test of its own.
package torture
