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
	// The answer may come from this client's cache.
	if err := t.dir.Refresh(); err != nil {
		return nil, err
	}
	return t.resolve(key)
}

// refresh makes the client ask the server for the entry of a key: its cache may have a former one.
func (t *table) refresh(key string) error {
	return ignore(refreshPath(t.dir, key), unix.ENOENT)
}

// openCurrent opens the entry that the server has for a key now. Callers that change or hold an
// entry need it: the cached one may have been deleted and recreated by another client, and would
// look as if it were being deleted.
func (t *table) openCurrent(key string) (*entry, error) {
	if err := t.refresh(key); err != nil {
		return nil, err
	}
	return t.open(key)
}

// read opens an entry and reads its record. It retries if the entry was replaced between two steps.
// An entry that is not Ready is read again after a refresh: the cache may show one that another
// client has deleted and recreated.
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
		// The cached name may lead to an entry that was removed: with ESTALE it does.
		if err := t.refresh(key); err != nil {
			return nil, rawRecord{}, err
		}
	}
	t.requestRemount()
	return nil, rawRecord{}, busy("%s %s is made and deleted again and again", t.kind, key)
}

// keys returns the keys of all entries, sorted. Names that are not valid keys are skipped.
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

// isDead reports whether the entry of this incarnation of a key has been removed: see
// incarnationState.
func (t *table) isDead(key, nonce string) (bool, error) {
	dead, _, err := t.incarnationState(key, nonce)
	return dead, err
}

// incarnationState returns what became of the incarnation of a key with this nonce. dead: its entry
// was removed and never comes back. leaving: it is being deleted or undone, or its entry has no
// record that identifies it.
func (t *table) incarnationState(key, nonce string) (dead, leaving bool, err error) {
	if err := t.refresh(key); err != nil {
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
