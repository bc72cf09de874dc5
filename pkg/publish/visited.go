// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"regexp"
	"sync"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// withUUID is a name that nobody gives twice (RFC 9562): those of the volumes that
// external-provisioner asks for end like that. It is no path: a parent may have been replaced, and the
// kernel remembers that one's name.
var withUUID = regexp.MustCompile(`^[^/]*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// maxVisited bounds the memory for directories: of more, all may be remembered.
const maxVisited = 20_000

// visited are the directories with a UUID to which this run of the driver has had the kernel walk.
type visited struct {
	mu   sync.Mutex
	dirs map[string]bool
}

// mayRemember reports whether the kernel may know the name of a directory from before, when it led to
// another one: see mount.MountFresh. It notes the directory: after the mount the kernel does. To find out costs a process, and a second mount where the server
// is mounted already. NFSv3 need not remember: its mount asks the server for the directory.
func (v *visited) mayRemember(t target) bool {
	if volume.NFSVersion(t.options) == "3" {
		return false
	}
	if !withUUID.MatchString(t.dir) {
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
