// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// heartbeatFile is a file that is rewritten now and then, to see whether the server takes it.
const heartbeatFile = "heartbeat"

// heartbeatText is what is in it: always the same, so that of two who write it at once no half is wrong.
const heartbeatText = "Mooring rewrites this file now and then, to see whether the disk takes it. Nothing depends on it.\n"

// Heartbeat rewrites the heartbeat, and returns when the server says that it is on its disk. On a share
// that has not been laid out, or is open for reading only, it does nothing. [FaultReason] says what an error means.
//
// A file system that an error of its disk has made read-only goes on answering who only asks: ext4,
// since Linux 6.12, even who asks whether one could write.
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

// FaultReason names what an error says of the share's file system: that it fails, that nobody may write
// there, or that it is full; "" where it says nothing of it.
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

// IsRefused reports whether an error says that the server does not let this machine do what was asked for: by
// its export, the owner and mode of a file, or because a Kerberos ticket has ended.
func IsRefused(err error) bool { return is(err, unix.EACCES, unix.EPERM, unix.EKEYEXPIRED) }
