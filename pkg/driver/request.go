// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Keys of the volume context (a PV's volumeAttributes), which the controller writes and the node
// reads. They are those of csi-driver-nfs, so that its PVs work unchanged.
const (
	contextShare  = "share"  // a registered share's name; with a server, the path of its export
	contextServer = "server" // only of an export that is not registered
	contextSubDir = "subDir" // the volume's directory in the share

	contextMountOptions = "mountOptions" // of a static PV, joined by commas
)

// Keys that kubelet adds if the CSIDriver has podInfoOnMount.
const (
	contextEphemeral    = "csi.storage.k8s.io/ephemeral"
	contextPodName      = "csi.storage.k8s.io/pod.name"
	contextPodNamespace = "csi.storage.k8s.io/pod.namespace"
	contextKubernetes   = "csi.storage.k8s.io/"
)

// inlineID matches the id that kubelet generates for an inline volume. A PV cannot have such an id: the
// driver must not trust a pod's attributes like an administrator's.
var inlineID = regexp.MustCompile(`^csi-[0-9a-f]{64}$`)

// secretMountOptions is the key of mount options in a secret, as csi-driver-nfs has it: the request
// of DeleteVolume has no capability with mount options.
const secretMountOptions = "mountOptions"

func encodeLocation(l volume.Location) map[string]string {
	if server, path, ok := volume.SplitExport(l.Share); ok {
		return map[string]string{contextServer: server, contextShare: path, contextSubDir: l.Directory}
	}
	return map[string]string{contextShare: l.Share, contextSubDir: l.Directory}
}

// pvLocation is the content of a PV's attributes.
type pvLocation struct {
	volume.Location
	options []string // before those of the PV itself
}

// decodeLocation reads a PV's attributes as csi-driver-nfs does: keys in any case, and templates in
// subDir. It returns ErrInvalid for an unknown key: it could be a misspelled subDir, without which the
// pod would get a whole export.
func decodeLocation(context map[string]string) (pvLocation, error) {
	attributes, err := lowerKeys(context)
	if err != nil {
		return pvLocation{}, err
	}
	l := pvLocation{Location: volume.Location{Share: attributes["share"], Directory: attributes["subdir"]}}
	if l.Share == "" {
		return l, invalid("the volume's attributes name no share")
	}
	if given := attributes["mountoptions"]; given != "" {
		l.options = []string{given}
	}
	if server := attributes["server"]; server != "" {
		l.Share = volume.ExportName(strings.Trim(server, "[]"), path.Clean("/"+l.Share))
		l.Directory = strings.Trim(l.Directory, "/")
	}
	if strings.Contains(l.Directory, "${") {
		template, err := volume.ParseTemplate(l.Directory)
		if err != nil {
			return l, err
		}
		l.Directory, err = template.Expand(volume.Names{
			PVC: attributes["csi.storage.k8s.io/pvc/name"], Namespace: attributes["csi.storage.k8s.io/pvc/namespace"], PV: attributes["csi.storage.k8s.io/pv/name"],
		})
		return l, err
	}
	return l, nil
}

// lowerKeys returns a PV's attributes with keys in lower case. It returns ErrInvalid for an unknown key.
// A node ignores the keys with which a class of csi-driver-nfs creates a directory (mountPermissions,
// uid, gid). To a directory that was not provisioned, that driver applies them at each mount; Mooring
// does not, and refuses them.
func lowerKeys(context map[string]string) (map[string]string, error) {
	all := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(context)) {
		lower := strings.ToLower(key)
		if _, exists := all[lower]; exists {
			return nil, invalid("the attribute %q is given twice, in different case", key)
		}
		all[lower] = context[key]
	}
	provisioned := all["storage.kubernetes.io/csiprovisioneridentity"] != "" || all["csi.storage.k8s.io/pv/name"] != ""
	for _, key := range slices.Sorted(maps.Keys(all)) {
		host, _, qualified := strings.Cut(key, "/")
		switch {
		case slices.Contains([]string{"share", "server", "subdir", "mountoptions", "ondelete"}, key):
		case qualified && (strings.HasSuffix(host, ".k8s.io") || strings.HasSuffix(host, ".kubernetes.io")):
		case !slices.Contains([]string{"mountpermissions", "uid", "gid"}, key):
			return nil, invalid("the attribute %q is not known: a volume takes share, server, subDir and mountOptions", key)
		case !provisioned && strings.Trim(all[key], "0") != "":
			return nil, invalid("the attribute %q does not apply to an existing directory: set its owner and mode on the server, and remove the attribute", key)
		}
	}
	return all, nil
}

// decodeInline returns a pod's definition of an inline volume, or nil for other volumes. A pod chooses
// one of the shares that allow inline volumes, and a directory; nothing else.
func decodeInline(context map[string]string, flags []string) (*volume.Inline, error) {
	if context[contextEphemeral] != "true" {
		return nil, nil
	}
	for _, key := range slices.Sorted(maps.Keys(context)) {
		switch {
		case key == contextShare, key == contextSubDir, strings.HasPrefix(key, contextKubernetes):
		case key == contextServer, key == contextMountOptions:
			return nil, volume.Errorf(volume.ErrRefused, "a pod cannot choose the %s: it names a share that is registered with inline: true", key)
		default:
			return nil, invalid("the attribute %q is not known: an inline volume takes share and subDir", key)
		}
	}
	for _, o := range volume.SplitMountOptions(flags) {
		// kubelet adds this option, for the pod's label (CSIDriver's seLinuxMount).
		if !strings.HasPrefix(o, "context=") {
			return nil, volume.Errorf(volume.ErrRefused, "a pod cannot choose mount options (%s): the options of the share apply", o)
		}
	}
	v := &volume.Inline{Share: context[contextShare], Directory: context[contextSubDir], Pod: context[contextPodNamespace] + "/" + context[contextPodName], Context: flags}
	if v.Share == "" {
		return nil, invalid("the volume's attributes name no share")
	}
	return v, nil
}

// checkCapabilities returns ErrInvalid for capabilities that a directory on NFS does not have. It
// returns the mount options of all capabilities.
func checkCapabilities(capabilities []*csi.VolumeCapability) ([]string, error) {
	if len(capabilities) == 0 {
		return nil, invalid("no volume capability is given")
	}
	var options []string
	for _, c := range capabilities {
		m, err := checkCapability(c)
		if err != nil {
			return nil, err
		}
		if fs := m.GetFsType(); !slices.Contains([]string{"", "nfs", "nfs4"}, fs) {
			return nil, invalid("the file system of a volume on NFS is nfs, not %q: leave csi.storage.k8s.io/fstype out of the class", fs)
		}
		options = append(options, m.GetMountFlags()...)
	}
	return options, volume.CheckMountOptions(options)
}

// checkCapability returns ErrInvalid for a capability that a directory on NFS does not have. It ignores
// the type of the file system: some provisioners have written ext4 as a default into PersistentVolumes.
func checkCapability(c *csi.VolumeCapability) (*csi.VolumeCapability_MountVolume, error) {
	switch {
	case c == nil:
		return nil, invalid("no volume capability is given")
	case c.GetBlock() != nil:
		return nil, invalid("NFS has no block volumes: set volumeMode: Filesystem")
	case c.GetMount() == nil:
		return nil, invalid("the volume capability has no access type")
	case c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN:
		return nil, invalid("the volume capability has no access mode")
	}
	return c.GetMount(), nil
}

// readOnly reports whether an access mode allows reading only.
func readOnly(c *csi.VolumeCapability) bool {
	switch c.GetAccessMode().GetMode() {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return true
	}
	return false
}

func decodeCapacity(r *csi.CapacityRange) volume.Capacity {
	return volume.Capacity{Required: r.GetRequiredBytes(), Limit: r.GetLimitBytes()}
}

// checkVolumeID checks an id that can come from elsewhere, for example from a static PV.
func checkVolumeID(id string) error {
	switch {
	case id == "":
		return invalid("no volume id is given")
	case len(id) > volume.MaxHandle:
		return invalid("the volume id is %d bytes long, and CSI allows %d", len(id), volume.MaxHandle)
	}
	return nil
}

// parseVolumeHandle parses the id of a volume of this driver. It returns ErrNotFound for any other id.
func parseVolumeHandle(id string) (volume.Handle, error) { return parseHandle("volume", id) }

// parseHandle is parseVolumeHandle for any kind of object.
func parseHandle(what, id string) (volume.Handle, error) {
	if id == "" {
		return volume.Handle{}, invalid("no %s id is given", what)
	}
	h, err := volume.ParseHandle(id)
	if err != nil {
		return h, volume.Errorf(volume.ErrNotFound, "%w", err)
	}
	return h, nil
}

// decodeSource returns the source of a new volume, or nil if there is none.
func decodeSource(s *csi.VolumeContentSource) (*volume.Source, error) {
	if s == nil {
		return nil, nil
	}
	id, kind := s.GetVolume().GetVolumeId(), volume.ObjectVolume
	switch s.GetType().(type) {
	case *csi.VolumeContentSource_Snapshot:
		id, kind = s.GetSnapshot().GetSnapshotId(), volume.ObjectSnapshot
	case *csi.VolumeContentSource_Volume:
	default:
		return nil, invalid("the volume's content source is neither a snapshot nor a volume")
	}
	h, err := parseHandle(string(kind), id)
	return &volume.Source{Object: volume.Object{Kind: kind, Key: h.Key}, Share: h.Share}, err
}

func encodeSource(s *volume.Source) *csi.VolumeContentSource {
	switch {
	case s == nil:
		return nil
	case s.Kind == volume.ObjectSnapshot:
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.Handle().String()},
		}}
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: s.Handle().String()},
	}}
}
