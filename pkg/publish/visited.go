// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"regexp"
	"sync"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// uuidName matches a name that is never used twice (RFC 9562): the names of external-provisioner's
// volumes end in a UUID. A path does not match: a parent may have been replaced, and the kernel may have
// cached that parent's name.
var uuidName = regexp.MustCompile(`^[^/]*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// maxVisited bounds the number of directories in memory. Any further one may be cached.
const maxVisited = 20_000

// visited has the directories with a UUID that this process has let the kernel resolve.
type visited struct {
	mu   sync.Mutex
	dirs map[string]bool
}

// mayBeCached reports whether the kernel may have cached the name of a directory when it led to another
// one: see mount.MountFresh, which costs a process and, if the server is mounted already, a second mount.
// It adds the directory to visited, because the kernel caches it with the mount. It returns false for
// NFSv3, whose mount asks the server for the directory.
func (v *visited) mayBeCached(t target) bool {
	if volume.NFSVersion(t.options) == "3" {
		return false
	}
	if !uuidName.MatchString(t.dir) {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	dir := t.share.Name + "/" + t.dir
	if v.dirs[dir] || len(v.dirs) == maxVisited {
		return true
	}
	if v.dirs == nil {
		v.dirs = map[string]bool{}
	}
	v.dirs[dir] = true
	return false
}
