// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"slices"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

func (t *table) resolve(key string) (*entry, error) {
	d, err := t.dir.Resolve(key)
	if err != nil {
		return nil, err
	}
	return &entry{table: t, dir: d, key: key}, nil
}

// open opens the entry of a key. ENOENT: the server says that there is none.
func (t *table) open(key string) (*entry, error) {
	e, err := t.resolve(key)
	if !isMissing(err) {
		return e, err
	}
	// That may be this client's memory.
	if err := t.dir.Refresh(); err != nil {
		return nil, err
	}
	return t.resolve(key)
}

// revalidate has the client ask the server for the entry of a key, of which it may remember another one.
func (t *table) revalidate(key string) error {
	return ignore(refreshPath(t.dir, key), unix.ENOENT)
}

// openCurrent opens the entry that the server has of a key now. What is to be changed, or held, is opened
// so: of one that this client remembers, and that was deleted and made anew by another, it would be told
// that it is being deleted.
func (t *table) openCurrent(key string) (*entry, error) {
	if err := t.revalidate(key); err != nil {
		return nil, err
	}
	return t.open(key)
}

// read opens an entry and reads its record. An entry that was removed and made anew between
// two steps is opened again. One that is not ready may be what this client remembers of one that was
// deleted, and made anew by another.
func (t *table) read(key string) (*entry, rawRecord, error) {
	asked := false
	for range retries {
		e, err := t.open(key)
		if err != nil {
			return nil, rawRecord{}, err
		}
		r, err := e.read()
		if err == nil && (asked || r.state == Ready) {
			return e, r, nil
		}
		e.close()
		if err != nil && !is(err, unix.ESTALE) {
			return nil, rawRecord{}, err
		}
		asked = err == nil
		// The name may have led to what does not exist any more: with ESTALE it has.
		if err := t.revalidate(key); err != nil {
			return nil, rawRecord{}, err
		}
	}
	t.requestRemount()
	return nil, rawRecord{}, busy("%s %s is made and deleted again and again", t.kind, key)
}

// keys returns the keys of all entries, sorted. What no key can be is no entry.
func (t *table) keys(ctx context.Context) ([]string, error) {
	var keys []string
	err := t.list(t.dir, func(name string) error {
		if volume.ValidKey(name) {
			keys = append(keys, name)
		}
		return ctx.Err()
	})
	slices.Sort(keys)
	return keys, err
}

// isDead reports whether the entry of this incarnation of a key does not exist any more: see fate.
func (t *table) isDead(key, nonce string) (bool, error) {
	dead, _, err := t.incarnationState(key, nonce)
	return dead, err
}

// incarnationState finds out what became of an incarnation of a key. dead: its entry does not exist any more,
// and never will again. leaving: it is being deleted or undone, or its entry has no record by
// which to tell.
func (t *table) incarnationState(key, nonce string) (dead, leaving bool, err error) {
	if err := t.revalidate(key); err != nil { // not from memory
		return false, false, err
	}
	e, r, err := t.read(key)
	if is(err, unix.ENOENT) {
		return true, false, nil
	}
	if err != nil {
		return false, false, err
	}
	e.close()
	_, has := decodeIdentity(r.data)
	if has != "" && has != nonce {
		return true, false, nil
	}
	leaving = r.state == Empty || has == nonce && (r.state == Deleting || r.state == Aborting)
	return false, leaving, nil
}
