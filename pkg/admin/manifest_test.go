// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"testing"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestManifests(t *testing.T) {
	m := Manifests{
		Driver: "nfs.csi.mooring.dev", Share: "nas1", Claim: volume.PVC{Namespace: "shop", Name: "db"},
		Record: &volume.Record{Key: "pvc-1", Directory: "team/db", Capacity: 5 << 30},
		Class:  kube.StorageClass{Name: "managed-nfs-storage", MountOptions: []string{"nfsvers=4.1"}},
	}
	const want = `---
apiVersion: v1
kind: PersistentVolume
metadata:
  annotations:
    pv.kubernetes.io/provisioned-by: nfs.csi.mooring.dev
  name: pvc-1
spec:
  accessModes:
  - ReadWriteMany
  capacity:
    storage: 5Gi
  claimRef:
    apiVersion: v1
    kind: PersistentVolumeClaim
    name: db
    namespace: shop
  csi:
    driver: nfs.csi.mooring.dev
    volumeAttributes:
      share: nas1
      subDir: team/db
    volumeHandle: nas1/pvc-1
  mountOptions:
  - nfsvers=4.1
  persistentVolumeReclaimPolicy: Delete
  storageClassName: managed-nfs-storage
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: db
  namespace: shop
spec:
  accessModes:
  - ReadWriteMany
  resources:
    requests:
      storage: 5Gi
  storageClassName: managed-nfs-storage
  volumeName: pvc-1
`
	text, err := m.YAML()
	if err != nil || string(text) != want {
		t.Errorf("the manifests are %v\n%s", err, text)
	}
	m.Share = "10.0.0.1:/export"
	if a := m.attributes(); a["server"] != "10.0.0.1" || a["share"] != "/export" || a["subDir"] != "team/db" {
		t.Errorf("of an export that is not registered the attributes are %v", a)
	}
}

func TestQuantity(t *testing.T) {
	for bytes, want := range map[int64]string{0: "1", 1: "1", 1024: "1Ki", 1500: "1500", 5 << 30: "5Gi", 3 << 29: "1536Mi", 1 << 60: "1Ei"} {
		if got := quantity(bytes); got != want {
			t.Errorf("%d bytes are %s, not %s", bytes, got, want)
		}
	}
}

func TestClassOf(t *testing.T) {
	class := func(name string, pairs ...string) kube.StorageClass {
		p := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			p[pairs[i]] = pairs[i+1]
		}
		return kube.StorageClass{Name: name, Parameters: p}
	}
	for what, c := range map[string]struct {
		classes []kube.StorageClass
		share   string
		want    string
	}{
		"none":                             {nil, "nas1", ""},
		"another's":                        {[]kube.StorageClass{class("a", "share", "nas2")}, "nas1", ""},
		"one":                              {[]kube.StorageClass{class("a", "share", "nas2"), class("b", "Share", "nas3, nas1")}, "nas1", "b"},
		"any":                              {[]kube.StorageClass{class("a", "share", "*")}, "nas1", "a"},
		"two":                              {[]kube.StorageClass{class("a", "share", "*"), class("b", "share", "nas1")}, "nas1", ""},
		"an export":                        {[]kube.StorageClass{class("a", "server", "10.0.0.1", "share", "/export/")}, "10.0.0.1:/export", "a"},
		"no export":                        {[]kube.StorageClass{class("a", "server", "10.0.0.2", "share", "/export")}, "nas1", ""},
		"its own export, registered since": {[]kube.StorageClass{class("a", "server", "[::ffff:10.0.0.1]", "share", "//export/")}, "nas1", "a"},
	} {
		share := volume.Share{Name: c.share, Servers: []string{"10.0.0.1"}, Path: "/export"}
		if got := classOf(c.classes, share); got.Name != c.want {
			t.Errorf("%s: the class is %q, not %q", what, got.Name, c.want)
		}
	}
}
