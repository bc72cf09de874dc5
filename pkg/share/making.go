// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// turns is how often a race for a parent directory is run before it is given up: the other
// side removes a parent once, when nobody has used it for long.
const turns = 3

// clockSkew is how far the clocks of server and clients may be apart. Times are the server's,
// but where it delegates a file's times (NFSv4.2, RFC 9754) the client's.
const clockSkew = 5 * time.Minute

// Found is a record that was there already, and how long ago it was written.
type Found struct {
	volume.Record
	Age time.Duration
}

// Making is a volume being made: its record is published, and is not ready. Each method is a
// step that may be repeated; Commit or Undo ends it, or nothing does, and a retry resumes it.
type Making struct {
	s       *Share
	rec     volume.Record
	file    *os.File // the record, open for its one digit
	readyAt int64
	until   time.Time // past it another controller may take over, and we have to have stopped
	resumed bool
	since   unix.Timespec // when the record was written, by the server's clock

	made bool // the directory, by us: Undo may remove it
}

// Begin publishes the record of a volume in the making. Where a record of the key is there
// already, that is returned instead, and nothing is changed.
//
// It does not look first: link(2) says both whether there is one and who was first.
func (s *Share) Begin(ctx context.Context, r volume.Record) (*Making, *Found, error) {
	const what = "publish the record"
	if err := ctx.Err(); err != nil {
		return nil, nil, s.fail(what, err)
	}
	r.Maker, r.Nonce, r.Ready = s.opt.Maker, s.nonce(), 0
	data, err := r.Encode()
	if err != nil {
		return nil, nil, err
	}
	m := &Making{s: s, rec: r, readyAt: int64(volume.ReadyAt(data)), until: time.Now().Add(s.opt.Lease / 2)}
	s.step("write the record aside")
	if m.file, err = s.staging.Write(nonceFile(r.Key, r.Nonce), 0, data); err != nil {
		return nil, nil, s.fail(what, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(m.file.Fd()), &st); err == nil {
		m.since = st.Mtim
		s.step("link the record")
		err = s.publish(m, data)
	}
	if err == nil {
		return m, nil, nil
	}
	taken := is(err, unix.EEXIST)
	if e := m.close(); taken {
		err = e
	}
	if err != nil {
		return nil, nil, s.fail(what, err)
	}
	// EEXIST may have been this client's memory, and so may be the record under the name.
	if err := s.volumes.Refresh(); err != nil {
		return nil, nil, s.fail(what, err)
	}
	other, stat, err := s.record(r.Key)
	if errors.Is(err, volume.ErrNotFound) {
		return nil, nil, volume.Errorf(volume.ErrBusy, "share %s: volume %s was deleted while it was created: try again", s.def, r.Key)
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, &Found{Record: *other, Age: since(stat.Mtim, st.Mtim)}, nil
}

// publish gives the aside its name, create-once. EEXIST: the name is another's.
func (s *Share) publish(m *Making, data []byte) error {
	err := s.staging.Link(nonceFile(m.rec.Key, m.rec.Nonce), s.volumes, jsonName(m.rec.Key))
	switch {
	case is(err, unix.EEXIST):
		// Before NFSv4.1's sessions a LINK whose answer was lost is sent again, and then says
		// EEXIST of its own work (RFC 8881, section 2.10.6.1 on why).
		if other, _, e := s.record(m.rec.Key); e == nil && other.Nonce == m.rec.Nonce {
			return nil
		}
	case noLinks(err):
		f, e := s.volumes.Write(jsonName(m.rec.Key), unix.O_EXCL, data)
		if e != nil {
			return e
		}
		_ = m.file.Close()
		m.file = f
		return nil
	}
	return err
}

// Resume goes on with a volume in the making that this instance began before, or that was
// left by another: the caller has made sure of that (Found.Age, Lease).
func (s *Share) Resume(ctx context.Context, r volume.Record) (*Making, error) {
	what := fmt.Sprintf("resume the making of volume %s", r.Key)
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	f, err := s.volumes.Open(jsonName(r.Key), unix.O_RDWR)
	if is(err, unix.ENOENT) {
		return nil, volume.Errorf(volume.ErrBusy, "share %s: volume %s was given up while its making was to be resumed: try again", s.def, r.Key)
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	m := &Making{s: s, rec: r, file: f, until: time.Now().Add(s.opt.Lease / 2), resumed: true}
	data := make([]byte, maxRecord)
	n, _ := f.ReadAt(data, 0)
	m.readyAt = int64(volume.ReadyAt(data[:n]))
	now, err := volume.DecodeRecord(r.Key, data[:n])
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err == nil && (now.Nonce != r.Nonce || now.Ready == 1) {
		err = volume.Errorf(volume.ErrBusy, "volume %s is, or was, made by another controller: try again", r.Key)
	}
	m.since = st.Mtim
	if err != nil {
		_ = f.Close()
		return nil, s.fail(what, err)
	}
	return m, nil
}

// Lease returns how long a record in the making belongs to its maker alone.
func (s *Share) Lease() time.Duration { return s.opt.Lease }

// Maker returns the name of this instance of the driver.
func (s *Share) Maker() string { return s.opt.Maker }

// Record returns the volume's record.
func (m *Making) Record() volume.Record { return m.rec }

// allowed refuses a step that comes too late.
func (m *Making) allowed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.Late()
}

// Late returns an error of kind ErrBusy when so much time has passed that another controller
// may have taken over: nothing that is found then tells anything, and nothing may be undone.
func (m *Making) Late() error {
	if time.Now().After(m.until) {
		return volume.Errorf(volume.ErrBusy, "share %s: making volume %s took too long, and another controller may have taken it over: the next try finds out", m.s.def, m.rec.Key)
	}
	return nil
}

// MakeDirectory makes the volume's directory in its place, with the owner and mode that the
// record asks for. A directory that was there before is ErrConflict, unless the record says
// that it is adopted: then it is left exactly as it is.
func (m *Making) MakeDirectory(ctx context.Context) error {
	what := fmt.Sprintf("make the directory %q of volume %s", m.rec.Directory, m.rec.Key)
	parent, name := volume.SplitDirectory(m.rec.Directory)
	for turn := range turns {
		if err := m.allowed(ctx); err != nil {
			return m.s.fail(what, err)
		}
		d, err := m.s.parent(parent, turn > 0)
		if err == nil {
			err = m.makeIn(d, name)
			d.Close()
		}
		// The parent may just have been tidied away.
		if m.rec.Adopted && is(err, unix.ENOENT) {
			err = volume.Errorf(volume.ErrConflict, "share %s: the directory %q, which volume %s was to adopt, is not there any more: try again", m.s.def, m.rec.Directory, m.rec.Key)
		}
		if !gone(err) || parent == "" {
			return m.s.fail(what, err)
		}
	}
	return m.s.confused(what)
}

func (m *Making) makeIn(parent beneath.Dir, name string) error {
	if m.rec.Adopted {
		d, err := parent.Resolve(name)
		if err == nil {
			d.Close()
		}
		return err
	}
	mode := uint32(volume.DefaultMode)
	if m.rec.Mode != nil {
		mode = *m.rec.Mode
	}
	m.s.step("make the directory")
	err := parent.Mkdir(name, mode)
	if is(err, unix.EEXIST) {
		// That may be this client's memory of a directory which another controller has removed.
		if err := parent.Refresh(); err != nil {
			return err
		}
		err = parent.Mkdir(name, mode)
	}
	if err == nil {
		m.made = true
	} else if !is(err, unix.EEXIST) {
		return err
	}
	d, e := parent.Resolve(name)
	if e != nil {
		return e
	}
	defer d.Close()
	if err != nil {
		if err := m.isOurs(d); err != nil {
			return err
		}
		m.made = true
	}
	return m.own(d, mode)
}

// isOurs tells a directory that an interrupted attempt has made from one that was there
// before: ours is empty, and not older than the record but for what clocks differ.
func (m *Making) isOurs(d beneath.Dir) error {
	foreign := volume.Errorf(volume.ErrConflict, "share %s: the directory %q exists already and is no volume's: remove or rename it, choose another subDir, or say existingDirectory: adopt in the class to use it as it is", m.s.def, m.rec.Directory)
	if !m.resumed {
		m.s.doubt()
		return foreign
	}
	st, err := d.Self()
	if err != nil {
		return err
	}
	empty, err := d.Empty()
	if err != nil {
		return err
	}
	if !empty || since(m.since, st.Mtim) < -clockSkew {
		return foreign
	}
	return nil
}

// own gives the directory its owner, and its mode where mkdir did not: the umask, a setgid
// parent and the special bits all have a say there. The attributes came with mkdir's answer.
func (m *Making) own(d beneath.Dir, mode uint32) error {
	st, err := d.Self()
	if err != nil {
		return err
	}
	uid, gid := -1, -1
	if m.rec.UID != nil && *m.rec.UID != st.Uid {
		uid = int(*m.rec.UID)
	}
	if m.rec.GID != nil && *m.rec.GID != st.Gid {
		gid = int(*m.rec.GID)
	}
	if uid >= 0 || gid >= 0 {
		m.s.step("set the owner")
		if err := unix.Fchownat(int(d), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give it the owner %s:%s: %w", orSame(uid), orSame(gid), err)
		}
		if st, err = d.Self(); err != nil {
			return err
		}
	}
	if st.Mode&0o7777 == mode || m.rec.Mode == nil && st.Mode&0o777 == mode {
		return nil
	}
	m.s.step("set the mode")
	// By the descriptor's own name: fchmod(2) does not take one that was opened by O_PATH.
	if err := unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", int(d)), mode, 0); err != nil {
		return fmt.Errorf("give it the mode %04o: %w", mode, err)
	}
	return nil
}

func orSame(id int) string {
	if id < 0 {
		return "(unchanged)"
	}
	return strconv.Itoa(id)
}

// Commit makes the volume ready: one byte changes, in place.
func (m *Making) Commit(ctx context.Context) (*volume.Record, error) {
	const what = "mark the record ready"
	if err := m.allowed(ctx); err != nil {
		return nil, m.s.fail(what, err)
	}
	m.s.step(what)
	_, err := m.file.WriteAt([]byte("1"), m.readyAt)
	if err == nil {
		err = m.file.Sync()
	}
	if err == nil {
		err = m.close()
	}
	if err != nil {
		return nil, m.s.fail(what, err)
	}
	m.rec.Ready = 1
	return &m.rec, nil
}

// Leave ends the work on the volume and leaves what there is for a retry to resume.
func (m *Making) Leave() { _ = m.file.Close() }

// close closes the record and then removes its first name, the aside. Not before: NFS keeps
// a file that is open here under yet another name when it loses one (silly rename), and two
// more round trips would go into that.
func (m *Making) close() error {
	err := m.file.Close()
	m.s.step("remove the aside")
	if gone := ignore(m.s.staging.Unlink(nonceFile(m.rec.Key, m.rec.Nonce)), unix.ENOENT); err == nil {
		err = gone
	}
	return err
}

// since returns how much later b is than a.
func since(a, b unix.Timespec) time.Duration {
	return time.Duration(b.Nano() - a.Nano())
}

// noLinks reports whether the server has no hard links to give. EPERM is what some say; a
// client with fs.protected_hardlinks says it too, to one who is not the owner.
func noLinks(err error) bool {
	return is(err, unix.EOPNOTSUPP) || is(err, unix.ENOTSUP) || is(err, unix.EPERM) || is(err, unix.ENOSYS)
}

func nonceFile(key, nonce string) string { return strings.Join([]string{key, nonce, "json"}, ".") }
