// SPDX-License-Identifier: Apache-2.0

package volume

// CreateRequest is a request to create a volume (CreateVolume).
type CreateRequest struct {
	Name     string // the CSI name, the key of idempotency
	Params   Params
	Mutable  Mutable // overrides the same fields of Params
	Capacity Capacity
	// MountOptions are for an unregistered export only; a registered share has its own.
	MountOptions []string
	// Source is the volume or snapshot to copy; nil: the volume begins empty.
	Source *Source
	// ReadOnly: nobody writes to the volume (its access modes).
	ReadOnly bool
}

// Volume is a volume as the controller reports it.
type Volume struct {
	Handle   Handle
	Capacity int64 // bytes; 0: no size was requested
	Location Location
	Source   *Source // the volume or snapshot that was copied; nil: none
	Shallow  bool    // it is the snapshot itself, and read-only
}

// Location is the place of a volume for a node: a directory on a share, which has its
// name in a Handle. The PV contains it in its volumeAttributes.
type Location struct {
	Share     string
	Directory string
}

// Page selects a part of a list. Token is "" for the first page, else what the previous page returned.
type Page struct {
	Token string
	Max   int // 0: all
}

// PublishRequest is a request to mount a volume for a pod.
type PublishRequest struct {
	ID           string // the CSI volume_id, for locks and messages
	Location     Location
	Target       string   // the mount point for the pod
	Options      []string // the PV's mount options
	ReadOnly     bool
	SingleWriter bool    // SINGLE_NODE_SINGLE_WRITER: no second target on this node
	Inline       *Inline // instead of Location and Options; nil: it is a PV
}

// Inline describes the ephemeral inline volume of a pod.
type Inline struct {
	Share     string   // registered, with inline: true
	Directory string   // an existing one on the share; "": a new one, which is removed with the pod
	Pod       string   // namespace/name, for messages
	Context   []string // kubelet's mount option for SELinux, if any
}
