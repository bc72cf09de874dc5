// SPDX-License-Identifier: Apache-2.0

// Package torture has Mooring live through random histories on a real NFS server: make torture.
//
// A history follows from its seed. It has a share of its own, two controllers and two nodes. One
// controller is on the machine of a node, the other on a machine of its own; the second node is on
// a third machine. Several owners, each of whom does one thing after the other, make volumes,
// snapshots, groups and clones, have pods write into them, expand them, delete them, and bring some
// back. Owners want the same directories. Each request goes to one controller or to both, and is
// given up after a while and sent again, perhaps to the other, as by sidecars whose leader changes.
// Meanwhile controllers are suspended, killed and started again, their system calls fail or are
// late, nodes are killed, and a machine's network is cut.
//
// What is judged is what was promised:
//
//   - A volume that was made has its directory, for itself alone, and in it what its pods have
//     written and nothing else, until its deletion is asked for.
//   - A snapshot, a clone, and a volume from a snapshot have what was written and closed before it
//     was asked for, and a snapshot is always the same.
//   - What was deleted is gone, or in the trash, archived or where it was, whole, as its class has it.
//   - No answer but one that invites to try again, where something failed or was late.
//   - In the end mooringctl check finds nothing broken; all can be deleted, nothing is left of it, and
//     each directory can be made anew.
//
// A creation that was given up and is carried out late may make a volume that nobody asks for any
// more: Kubernetes knows it by its name, and so does the judge. Such a volume is deleted in the end.
//
// How the steps of several processes interleave does not follow from the seed. A history that has
// failed is therefore kept as the seed, and what is understood of it as a test of its own.
package torture
