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

// Keys of the volume context (a PV's volumeAttributes), which the controller writes and the
// node reads. They are csi-driver-nfs's, so that its PVs read the same.
const (
	contextShare  = "share"  // a registered share's name; with a server, the path of its export
	contextServer = "server" // only of an export that is not registered
	contextSubDir = "subDir" // the volume's directory beneath it

	contextMountOptions = "mountOptions" // of a static PV, joined by commas
)

// Keys that kubelet adds where the CSIDriver has podInfoOnMount.
const (
	contextEphemeral    = "csi.storage.k8s.io/ephemeral"
	contextPodName      = "csi.storage.k8s.io/pod.name"
	contextPodNamespace = "csi.storage.k8s.io/pod.namespace"
	contextKubernetes   = "csi.storage.k8s.io/"
)

// inlineID is what kubelet makes up for a volume that is part of a pod's definition. It cannot be a PV's:
// a pod's attributes are not to be read as an administrator's.
var inlineID = regexp.MustCompile(`^csi-[0-9a-f]{64}$`)

// secretMountOptions is the key of csi-driver-nfs's secret by which DeleteVolume, whose
// request has no capability, gets mount options.
const secretMountOptions = "mountOptions"

func encodeLocation(l volume.Location) map[string]string {
	if server, path, ok := volume.SplitExport(l.Share); ok {
		return map[string]string{contextServer: server, contextShare: path, contextSubDir: l.Directory}
	}
	return map[string]string{contextShare: l.Share, contextSubDir: l.Directory}
}

// located is what a PV's attributes say.
type located struct {
	volume.Location
	options []string // before those of the PV itself
}

// decodeLocation reads a PV's attributes as csi-driver-nfs does: keys in any case, and templates in
// subDir. One that is not known is refused: it could be one of those, misspelt, without which the pod
// would get all of an export.
func decodeLocation(context map[string]string) (located, error) {
	attributes, err := lowered(context)
	if err != nil {
		return located{}, err
	}
	l := located{Location: volume.Location{Share: attributes["share"], Directory: attributes["subdir"]}}
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

// lowered returns a PV's attributes by their keys in lower case, if all are known. Those by which a class
// of csi-driver-nfs has a directory made are of no interest on a node; to a directory that nobody has
// provisioned, that driver does at each mount what they say, and Mooring does not.
func lowered(context map[string]string) (map[string]string, error) {
	all := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(context)) {
		lower := strings.ToLower(key)
		if _, twice := all[lower]; twice {
			return nil, invalid("the attribute %q is given twice, in upper and lower case", key)
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
			return nil, invalid("the attribute %q cannot be had of a directory that is there: set its owner and mode on the server, and leave the attribute out", key)
		}
	}
	return all, nil
}

// decodeInline returns what a pod says of a volume of its own, nil where the volume is none.
// A pod chooses among the shares that allow it, and a directory; nothing else.
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
		// kubelet gives this one, for the pod's label (CSIDriver's seLinuxMount).
		if !strings.HasPrefix(o, "context=") {
			return nil, volume.Errorf(volume.ErrRefused, "a pod cannot choose mount options (%s): those of the share are taken", o)
		}
	}
	v := &volume.Inline{Share: context[contextShare], Directory: context[contextSubDir], Pod: context[contextPodNamespace] + "/" + context[contextPodName], Context: flags}
	if v.Share == "" {
		return nil, invalid("the volume's attributes name no share")
	}
	return v, nil
}

// checkCapabilities says what of the capabilities cannot be had of a directory on NFS, and
// returns the mount options that they ask for.
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

// checkCapability says what of a capability cannot be had. The type of file system is not looked at: some
// provisioners have written ext4 into each PersistentVolume that did not say it.
func checkCapability(c *csi.VolumeCapability) (*csi.VolumeCapability_MountVolume, error) {
	switch {
	case c == nil:
		return nil, invalid("no volume capability is given")
	case c.GetBlock() != nil:
		return nil, invalid("a block volume cannot be had on NFS: set volumeMode: Filesystem")
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

func capacity(r *csi.CapacityRange) volume.Capacity {
	return volume.Capacity{Required: r.GetRequiredBytes(), Limit: r.GetLimitBytes()}
}

// volumeID checks an id that the orchestrator has from elsewhere, a static PV for one.
func volumeID(id string) error {
	switch {
	case id == "":
		return invalid("no volume id is given")
	case len(id) > volume.MaxHandle:
		return invalid("the volume id is %d bytes long, and CSI allows %d", len(id), volume.MaxHandle)
	}
	return nil
}

// handle parses the id of a volume that has to be one of ours: another is not found.
func handle(id string) (volume.Handle, error) { return handleOf("volume", id) }

// handleOf does that for any kind of thing.
func handleOf(what, id string) (volume.Handle, error) {
	if id == "" {
		return volume.Handle{}, invalid("no %s id is given", what)
	}
	h, err := volume.ParseHandle(id)
	if err != nil {
		return h, volume.Errorf(volume.ErrNotFound, "%w", err)
	}
	return h, nil
}

// decodeSource returns what a volume is to be made from, nil for nothing.
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
	h, err := handleOf(string(kind), id)
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
