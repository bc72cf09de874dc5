// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Manifests are the manifests of a restored volume.
type Manifests struct {
	Driver string
	Share  string
	Record *volume.Record
	Claim  volume.PVC
	Class  kube.StorageClass // "": none
}

type object map[string]any

// YAML returns a PersistentVolume and the PersistentVolumeClaim that is bound to it. The
// annotation makes external-provisioner delete the volume with its claim, as before.
func (m Manifests) YAML() ([]byte, error) {
	size := quantity(m.Record.Capacity)
	modes := []string{"ReadWriteMany"}
	if m.Record.Shallow {
		modes = []string{"ReadOnlyMany"}
	}
	spec := object{
		"capacity":                      object{"storage": size},
		"accessModes":                   modes,
		"persistentVolumeReclaimPolicy": "Delete",
		"storageClassName":              m.Class.Name,
		"claimRef":                      object{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": m.Claim.Namespace, "name": m.Claim.Name},
		"csi": object{
			"driver": m.Driver, "volumeHandle": m.Share + "/" + m.Record.Key, "volumeAttributes": m.attributes(),
		},
	}
	if len(m.Class.MountOptions) > 0 {
		spec["mountOptions"] = m.Class.MountOptions
	}
	var b bytes.Buffer
	for _, o := range []object{
		{
			"apiVersion": "v1", "kind": "PersistentVolume", "spec": spec,
			"metadata": object{"name": m.name(), "annotations": object{"pv.kubernetes.io/provisioned-by": m.Driver}},
		}, {
			"apiVersion": "v1", "kind": "PersistentVolumeClaim",
			"metadata": object{"namespace": m.Claim.Namespace, "name": m.Claim.Name},
			"spec": object{
				"storageClassName": m.Class.Name, "volumeName": m.name(), "accessModes": modes,
				"resources": object{"requests": object{"storage": size}},
			},
		},
	} {
		text, err := YAML(o)
		if err != nil {
			return nil, fmt.Errorf("write the manifests of volume %s: %w", m.Record.Key, err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.Bytes(), nil
}

// attributes returns the volume attributes, as CreateVolume does.
func (m Manifests) attributes() object {
	if server, path, ok := volume.SplitExport(m.Share); ok {
		return object{"server": server, "share": path, "subDir": m.Record.Directory}
	}
	return object{"share": m.Share, "subDir": m.Record.Directory}
}

// name returns the former name of the PersistentVolume, changed to a valid one if necessary.
func (m Manifests) name() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimRight(m.Record.Key, "-_."), "_", "-"))
}

// quantity writes bytes as Kubernetes does: 5Gi, or the number. Kubernetes has no volumes of 0.
func quantity(bytes int64) string {
	bytes = max(bytes, 1)
	for i, unit := range []string{"Ei", "Pi", "Ti", "Gi", "Mi", "Ki"} {
		if size := int64(1) << (60 - 10*i); bytes%size == 0 {
			return strconv.FormatInt(bytes/size, 10) + unit
		}
	}
	return strconv.FormatInt(bytes, 10)
}

// ClassOf returns the class that created the volumes of a share, if exactly one of classes names the share.
func ClassOf(s *Service, classes []kube.StorageClass, name string) kube.StorageClass {
	share, err := s.pool.Registry().Resolve(name)
	if err != nil {
		return kube.StorageClass{}
	}
	return classOf(classes, share)
}

func classOf(classes []kube.StorageClass, share volume.Share) kube.StorageClass {
	var found []kube.StorageClass
	for _, c := range classes {
		p := map[string]string{}
		for key, value := range c.Parameters {
			p[strings.ToLower(key)] = value
		}
		names := strings.Split(p["share"], ",")
		if server := p["server"]; server != "" {
			names = []string{volume.ExportName(strings.Trim(server, "[]"), "/"+strings.Trim(p["share"], "/"))}
		}
		if slices.ContainsFunc(names, func(name string) bool {
			name = strings.TrimSpace(name)
			return name == "*" || share.Matches(name)
		}) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b kube.StorageClass) int { return cmp.Compare(a.Name, b.Name) })
	if len(found) != 1 {
		return kube.StorageClass{}
	}
	return found[0]
}
