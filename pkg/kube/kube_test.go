// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cluster returns a Client of an API server with these answers, by path and query.
func cluster(t *testing.T, answers map[string]string) *Client {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.Path+"?"+r.URL.Query().Get("continue")]
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(text, "forbidden"):
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"kind": "Status", "message": %q}`, text)
		default:
			fmt.Fprint(w, text)
		}
	}))
	t.Cleanup(server.Close)
	return newClient(t, server)
}

// newClient returns a Client of an API server, by a kubeconfig.
func newClient(t *testing.T, server *httptest.Server) *Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"clusters": [{"name": "c", "cluster": {"server": %q, "insecure-skip-tls-verify": true}}], "users": [{"name": "u", "user": {"token": "secret"}}],
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}`, server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open("", "/nowhere:"+file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, ""); err != nil {
		t.Errorf("by --kubeconfig: %v", err)
	}
	return c
}

const driver = "nfs.csi.mooring.dev"

func TestObjects(t *testing.T) {
	ctx := t.Context()
	c := cluster(t, map[string]string{
		"/api/v1/persistentvolumes?": `{"metadata": {"continue": "more"}, "items": [
			{"metadata": {"name": "pvc-1"}, "spec": {"csi": {"driver": "nfs.csi.mooring.dev", "volumeHandle": "nas1/pvc-1"}, "claimRef": {"namespace": "shop", "name": "db"}}, "status": {"phase": "Bound"}},
			{"metadata": {"name": "local"}, "spec": {"local": {"path": "/x"}}}]}`,
		"/api/v1/persistentvolumes?more": `{"metadata": {}, "items": [
			{"metadata": {"name": "other"}, "spec": {"csi": {"driver": "other", "volumeHandle": "x"}}},
			{"metadata": {"name": "pvc-2"}, "spec": {"csi": {"driver": "nfs.csi.mooring.dev", "volumeHandle": "nas1/pvc-2"}}}]}`,
		"/apis/storage.k8s.io/v1/storageclasses?": `{"items": [
			{"metadata": {"name": "a"}, "provisioner": "nfs.csi.mooring.dev", "parameters": {"share": "nas1"}, "mountOptions": ["nfsvers=4.1"]},
			{"metadata": {"name": "b"}, "provisioner": "other"}]}`,
		"/api/v1/namespaces/shop/persistentvolumeclaims/db?": `{"kind": "PersistentVolumeClaim"}`,
	})
	var volumes []PersistentVolume
	err := c.PersistentVolumes(ctx, driver, func(v PersistentVolume) error { volumes = append(volumes, v); return nil })
	want := []PersistentVolume{{"pvc-1", "nas1/pvc-1", "shop", "db", "Bound"}, {Name: "pvc-2", Handle: "nas1/pvc-2"}}
	if err != nil || !slices.Equal(volumes, want) {
		t.Errorf("PersistentVolumes = %+v, %v", volumes, err)
	}
	classes, err := c.StorageClasses(ctx, driver)
	if err != nil || len(classes) != 1 || classes[0].Name != "a" || classes[0].Parameters["share"] != "nas1" || classes[0].MountOptions[0] != "nfsvers=4.1" {
		t.Errorf("classes = %+v, %v", classes, err)
	}
	for name, want := range map[string]bool{"db": true, "none": false} {
		if has, err := c.HasClaim(ctx, "shop", name); err != nil || has != want {
			t.Errorf("HasClaim(%s) = %v, %v", name, has, err)
		}
	}
	// A cluster without snapshots.
	if err := c.SnapshotContents(ctx, driver, func(SnapshotContent) error { t.Error("there is a content"); return nil }); err != nil {
		t.Error(err)
	}
}

func TestSnapshotContents(t *testing.T) {
	c := cluster(t, map[string]string{"/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents?": `{"items": [
		{"metadata": {"name": "made"}, "spec": {"driver": "nfs.csi.mooring.dev", "source": {"volumeHandle": "nas1/pvc-1"}}, "status": {"snapshotHandle": "nas1/snap-1"}},
		{"metadata": {"name": "static"}, "spec": {"driver": "nfs.csi.mooring.dev", "source": {"snapshotHandle": "nas1/snap-2"}}},
		{"metadata": {"name": "other"}, "spec": {"driver": "other"}}]}`})
	var got []SnapshotContent
	err := c.SnapshotContents(t.Context(), driver, func(s SnapshotContent) error { got = append(got, s); return nil })
	if want := []SnapshotContent{{"made", "nas1/snap-1"}, {"static", "nas1/snap-2"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("contents = %+v, %v", got, err)
	}
}

func TestFails(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := Open("", ""); !errors.Is(err, ErrNoCluster) {
		t.Errorf("without a cluster: %v", err)
	}
	if _, err := Open("/nowhere", ""); err == nil || errors.Is(err, ErrNoCluster) {
		t.Errorf("with a file that does not exist: %v", err)
	}
	c := cluster(t, map[string]string{"/api/v1/persistentvolumes?": "forbidden: mooring cannot list persistentvolumes", "/apis/storage.k8s.io/v1/storageclasses?": "nonsense"})
	err := c.PersistentVolumes(t.Context(), driver, func(PersistentVolume) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "persistentvolumes: forbidden: mooring cannot list") {
		t.Errorf("error without the right to list = %v", err)
	}
	if _, err := c.StorageClasses(t.Context(), driver); err == nil || !strings.Contains(err.Error(), "storageclasses") {
		t.Errorf("error of an invalid answer = %v", err)
	}
}

// TestEvent records an event of a pod.
func TestEvent(t *testing.T) {
	var got map[string]any
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/mooring/events" {
			t.Errorf("request = %s %s", r.Method, r.URL)
		}
		if got != nil {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message": "no"}`)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	c := newClient(t, server)
	pod, err := ParsePod("mooring/controller-1/uid-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Event(t.Context(), pod, driver, "ShareLaidOut", "it is"); err != nil {
		t.Fatal(err)
	}
	object, _ := got["involvedObject"].(map[string]any)
	if got["reason"] != "ShareLaidOut" || got["message"] != "it is" || object["name"] != "controller-1" || object["uid"] != "uid-1" || object["kind"] != "Pod" {
		t.Errorf("event = %v", got)
	}
	if err := c.Event(t.Context(), pod, driver, "ShareLaidOut", "it is"); err == nil || !strings.Contains(err.Error(), "/api/v1/namespaces/mooring/events: no") {
		t.Errorf("error of a forbidden request = %v", err)
	}
	for _, text := range []string{"", "a", "a/b", "a//c", "/b/c", "a/b/", "a/b/c/d"} {
		if _, err := ParsePod(text); err == nil {
			t.Errorf("%q is parsed as a pod", text)
		}
	}
}
