// SPDX-License-Identifier: Apache-2.0

package volume

// Severity is how bad a Condition is.
type Severity int

// Severities, as CSI 1.13 has them for volumes and, but for DataLost, for storage.
const (
	Degraded Severity = iota + 1 // usable, and not as it should be
	Inaccessible
	DataLost // known or strongly suspected
)

// Condition is something that is wrong with a volume or with storage.
type Condition struct {
	Severity Severity
	Reason   Reason
	Message  string // for people: what, where, and what to do
}

// Reason is a Condition's name for programs, in CamelCase (CSI spec, VolumeHealthEntry).
type Reason string

// All reasons there are.
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

// Health is what is wrong with one volume. Nothing may be.
type Health struct {
	Handle     Handle
	Conditions []Condition
}
