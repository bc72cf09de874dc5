// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// heartbeatFile is a file that is rewritten regularly, to check that the server still accepts writes.
const heartbeatFile = "heartbeat"

// heartbeatText is its content. It is always the same, so two processes can write it at once.
const heartbeatText = "Mooring rewrites this file now and then, to see whether the disk takes it. Nothing depends on it.\n"

// Heartbeat rewrites the heartbeat file, and returns when the server reports that it is on disk. It does
// nothing on a share that has not been laid out or is open read-only. [FaultReason] classifies the error.
//
// A file system that has become read-only after a disk error still answers a client that only reads. ext4,
// since Linux 6.12, even answers one that asks whether it can write.
func (s *Share) Heartbeat(ctx context.Context) (err error) {
	if !s.Initialized() || s.opt.ReadOnly {
		return nil
	}
	defer s.wrapError(&err, "write .mooring/%s", heartbeatFile)
	if err := ctx.Err(); err != nil {
		return err
	}
	s.step("write the heartbeat")
	f, err := beneath.Write(s.state, heartbeatFile, unix.O_TRUNC, []byte(heartbeatText))
	if err != nil {
		return err
	}
	return f.Close()
}

// FaultReason returns what an error says about the share's file system: it fails, it is read-only, it is
// full, or it refuses access. It returns "" for any other error.
func FaultReason(err error) volume.Reason {
	switch {
	case is(err, unix.EIO):
		return volume.DiskFailing
	case is(err, unix.EROFS):
		return volume.ReadOnlyServer
	case is(err, unix.ENOSPC, unix.EDQUOT):
		return volume.ShareFull
	case IsRefused(err):
		return volume.AccessDenied
	}
	return ""
}

// IsRefused reports whether the server does not let this machine do what it asked for: because of its
// export, the owner and mode of a file, or an expired Kerberos ticket.
func IsRefused(err error) bool { return is(err, unix.EACCES, unix.EPERM, unix.EKEYEXPIRED) }
