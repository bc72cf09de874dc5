// SPDX-License-Identifier: Apache-2.0

package volume

// CreateRequest is what CreateVolume asks for.
type CreateRequest struct {
	Name     string // the CSI name, the key of idempotency
	Params   Params
	Mutable  Mutable // overrides what Params says of the same
	Capacity Capacity
	// MountOptions are for an unregistered export only; a registered share has its own.
	MountOptions []string
	// Source is what the volume is to hold; nil: nothing.
	Source *Source
	// ReadOnly: nobody is to write to the volume (its access modes).
	ReadOnly bool
}

// Volume is what the controller tells of a volume.
type Volume struct {
	Handle   Handle
	Capacity int64 // bytes; 0: no size was asked for
	Location Location
	Source   *Source // what it was made from; nil: nothing
	Shallow  bool    // it is the snapshot itself, and can only be read
}

// Location is where a node finds a volume: the directory beneath a share, which is
// named as in a Handle. It travels in the PV's volumeAttributes.
type Location struct {
	Share     string
	Directory string
}

// Page asks for a part of a list. Token is "" for the first page, else the Next of the one before.
type Page struct {
	Token string
	Max   int // 0: all
}

// PublishRequest asks for a pod's view of a volume.
type PublishRequest struct {
	ID           string // the CSI volume_id, for locks and messages
	Location     Location
	Target       string   // where the pod is to see it
	Options      []string // the PV's mount options
	ReadOnly     bool
	SingleWriter bool    // SINGLE_NODE_SINGLE_WRITER: no second target on this node
	Inline       *Inline // instead of Location and Options; nil: it is a PV
}

// Inline is what a pod says of a volume that it has for itself.
type Inline struct {
	Share     string   // registered, with inline: true
	Directory string   // that is there, beneath the share; "": a new one, which goes with the pod
	Pod       string   // namespace/name, for messages
	Context   []string // kubelet's mount option for SELinux, if any
}
