// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
)

// PersistentVolume is a PersistentVolume of a driver.
type PersistentVolume struct {
	Name      string
	Handle    string // the CSI volume_id
	Namespace string // of its claim, "" without one
	Claim     string
	Phase     string
}

// PersistentVolumes calls each for every PersistentVolume of the driver.
func (c *Client) PersistentVolumes(ctx context.Context, driver string, each func(PersistentVolume) error) error {
	type object struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			CSI *struct {
				Driver       string `json:"driver"`
				VolumeHandle string `json:"volumeHandle"`
			} `json:"csi"`
			ClaimRef struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"claimRef"`
		} `json:"spec"`
		Status struct {
			Phase string `json:"phase"`
		} `json:"status"`
	}
	return list(ctx, c, "/api/v1/persistentvolumes", func(o object) error {
		if o.Spec.CSI == nil || o.Spec.CSI.Driver != driver {
			return nil
		}
		return each(PersistentVolume{
			Name: o.Metadata.Name, Handle: o.Spec.CSI.VolumeHandle, Phase: o.Status.Phase,
			Namespace: o.Spec.ClaimRef.Namespace, Claim: o.Spec.ClaimRef.Name,
		})
	})
}

// HasClaim reports whether there is a PersistentVolumeClaim of that name.
func (c *Client) HasClaim(ctx context.Context, namespace, name string) (bool, error) {
	var o struct{}
	err := c.get(ctx, fmt.Sprintf("/api/v1/namespaces/%s/persistentvolumeclaims/%s", namespace, name), nil, &o)
	switch {
	case errors.Is(err, errAbsent):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// StorageClass is a StorageClass of a driver.
type StorageClass struct {
	Name         string
	Parameters   map[string]string
	MountOptions []string
}

// StorageClasses returns the StorageClasses of the driver.
func (c *Client) StorageClasses(ctx context.Context, driver string) ([]StorageClass, error) {
	type object struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Provisioner  string            `json:"provisioner"`
		Parameters   map[string]string `json:"parameters"`
		MountOptions []string          `json:"mountOptions"`
	}
	var classes []StorageClass
	err := list(ctx, c, "/apis/storage.k8s.io/v1/storageclasses", func(o object) error {
		if o.Provisioner == driver {
			classes = append(classes, StorageClass{o.Metadata.Name, o.Parameters, o.MountOptions})
		}
		return nil
	})
	return classes, err
}

// SnapshotContent is a VolumeSnapshotContent of a driver.
type SnapshotContent struct {
	Name   string
	Handle string // the CSI snapshot_id; "": there is none yet
}

// SnapshotContents calls each for every VolumeSnapshotContent of the driver. A cluster without that
// resource has none.
func (c *Client) SnapshotContents(ctx context.Context, driver string, each func(SnapshotContent) error) error {
	type object struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			Driver string `json:"driver"`
			Source struct {
				SnapshotHandle string `json:"snapshotHandle"`
			} `json:"source"`
		} `json:"spec"`
		Status struct {
			SnapshotHandle string `json:"snapshotHandle"`
		} `json:"status"`
	}
	err := list(ctx, c, "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents", func(o object) error {
		if o.Spec.Driver != driver {
			return nil
		}
		handle := o.Status.SnapshotHandle
		if handle == "" {
			handle = o.Spec.Source.SnapshotHandle
		}
		return each(SnapshotContent{o.Metadata.Name, handle})
	})
	if errors.Is(err, errAbsent) {
		return nil
	}
	return err
}
