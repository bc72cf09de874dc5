// SPDX-License-Identifier: Apache-2.0

package volume

// Severity is how bad a Condition is.
type Severity int

// The severities of CSI 1.13 for volumes and, except DataLost, for storage.
const (
	Degraded Severity = iota + 1 // usable, with a problem
	Inaccessible
	DataLost // known or strongly suspected
)

// Condition is a problem of a volume or of storage.
type Condition struct {
	Severity Severity
	Reason   Reason
	Message  string // for people: the problem, its place, and the remedy
}

// Reason is the name of a Condition for programs, in CamelCase (CSI spec, VolumeHealthEntry).
type Reason string

// All reasons.
const (
	ServerUnreachable  Reason = "ServerUnreachable"
	SlowResponses      Reason = "SlowResponses"
	StaleFileHandle    Reason = "StaleFileHandle"
	ReadOnlyServer     Reason = "ReadOnlyServer"
	DiskFailing        Reason = "DiskFailing"
	ShareFull          Reason = "ShareFull"
	AccessDenied       Reason = "AccessDenied"
	DirectoryMissing   Reason = "DirectoryMissing"
	RecordDamaged      Reason = "RecordDamaged"
	ShareNotRegistered Reason = "ShareNotRegistered"
	ShareUnusable      Reason = "ShareUnusable"
	SharesOverlap      Reason = "SharesOverlap"
	ServerMoved        Reason = "ServerMoved"
	NotMounted         Reason = "NotMounted"
	FileSystemError    Reason = "FileSystemError"
)

// Health is the health of one volume. Without Conditions it is healthy.
type Health struct {
	Handle     Handle
	Conditions []Condition
}
