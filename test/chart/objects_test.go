// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/volume"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// custom is an object of a custom resource, whose schema is not here.
type custom struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              map[string]any `json:"spec"`
}

// snapshotClass is a VolumeSnapshotClass (external-snapshotter, client/v8).
type snapshotClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Driver            string `json:"driver"`
	DeletionPolicy    string `json:"deletionPolicy"`
}

// kinds are the kinds that the chart may render, each with the type for strict decoding.
var kinds = map[string]any{
	"v1 Namespace": corev1.Namespace{}, "v1 ConfigMap": corev1.ConfigMap{}, "v1 Service": corev1.Service{}, "v1 ServiceAccount": corev1.ServiceAccount{}, "v1 Pod": corev1.Pod{},
	"v1 PersistentVolume": corev1.PersistentVolume{}, "v1 PersistentVolumeClaim": corev1.PersistentVolumeClaim{},
	"apps/v1 Deployment": appsv1.Deployment{}, "apps/v1 DaemonSet": appsv1.DaemonSet{}, "apps/v1 StatefulSet": appsv1.StatefulSet{},
	"policy/v1 PodDisruptionBudget": policyv1.PodDisruptionBudget{}, "networking.k8s.io/v1 NetworkPolicy": networkingv1.NetworkPolicy{},
	"rbac.authorization.k8s.io/v1 ClusterRole": rbacv1.ClusterRole{}, "rbac.authorization.k8s.io/v1 ClusterRoleBinding": rbacv1.ClusterRoleBinding{},
	"rbac.authorization.k8s.io/v1 Role": rbacv1.Role{}, "rbac.authorization.k8s.io/v1 RoleBinding": rbacv1.RoleBinding{},
	"storage.k8s.io/v1 CSIDriver": storagev1.CSIDriver{}, "storage.k8s.io/v1 StorageClass": storagev1.StorageClass{},
	"storage.k8s.io/v1 VolumeAttributesClass":        storagev1.VolumeAttributesClass{},
	"snapshot.storage.k8s.io/v1 VolumeSnapshotClass": snapshotClass{}, "snapshot.storage.k8s.io/v1 VolumeSnapshot": custom{},
	"monitoring.coreos.com/v1 ServiceMonitor": custom{}, "monitoring.coreos.com/v1 PrometheusRule": custom{},
}

// objects decodes documents strictly: a field that the kind does not have is an error.
func objects(t *testing.T, text string) []any {
	t.Helper()
	var all []any
	for _, d := range documents(text) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(d), &kind); err != nil {
			t.Fatalf("%v in\n%s", err, d)
		}
		if kind.Kind == "" {
			continue // comments
		}
		zero, ok := kinds[kind.APIVersion+" "+kind.Kind]
		if !ok {
			t.Errorf("unknown kind: %s of %s", kind.Kind, kind.APIVersion)
			continue
		}
		o := reflect.New(reflect.TypeOf(zero)).Interface()
		if err := yaml.UnmarshalStrict([]byte(d), o); err != nil {
			t.Errorf("%v in\n%s", err, d)
		}
		all = append(all, o)
	}
	return all
}

// find returns the object of a type whose name has a suffix.
func find[T any](t *testing.T, all []any, name string) *T {
	t.Helper()
	for _, o := range all {
		if found, ok := o.(*T); ok && strings.HasSuffix(any(found).(metav1.Object).GetName(), name) {
			return found
		}
	}
	t.Fatalf("there is no %T %s", *new(T), name)
	return nil
}

func TestStrict(t *testing.T) {
	for name, values := range sets(t) {
		t.Run(name, func(t *testing.T) { objects(t, render(t, "mooring", values)) })
	}
	files, err := filepath.Glob(root + "/deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, root+"/deploy/kubernetes.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, o := range objects(t, read(t, file)) {
				switch o := o.(type) {
				case *storagev1.StorageClass:
					if _, err := volume.ParseParams(o.Parameters); err != nil {
						t.Errorf("class %s: %v", o.Name, err)
					}
				case *storagev1.VolumeAttributesClass:
					if _, err := volume.ParseMutable(o.Parameters); err != nil {
						t.Errorf("class %s: %v", o.Name, err)
					}
				}
			}
		})
	}
}

// configMap returns the ConfigMap with the configuration.
func configMap(t *testing.T, all []any) *corev1.ConfigMap {
	t.Helper()
	for _, o := range all {
		if m, ok := o.(*corev1.ConfigMap); ok && m.Data["config.yaml"] != "" {
			return m
		}
	}
	t.Fatal("there is no configuration")
	return nil
}

// TestConfig parses the configuration that the chart renders as the driver does.
func TestConfig(t *testing.T) {
	for name, values := range sets(t) {
		m := configMap(t, objects(t, render(t, "mooring", values)))
		r, err := config.Parse([]byte(m.Data["config.yaml"]))
		if err != nil {
			t.Errorf("%s: %v in\n%s", name, err, m.Data["config.yaml"])
			continue
		}
		if name == "one" && (len(r.Shares) != 1 || r.Shares[0].Name != "nas1" || r.Shares[0].Path != "/export/kubernetes") {
			t.Errorf("the shares are %+v", r.Shares)
		}
	}
}

// TestScaleOut proves that the values of docs/scale-out.md give two shares, each with another head first, and a
// class for each.
func TestScaleOut(t *testing.T) {
	all := objects(t, render(t, "mooring", read(t, root+"/deploy/examples/scale-out/values.yaml")))
	r, err := config.Parse([]byte(configMap(t, all).Data["config.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range r.Shares {
		class := find[storagev1.StorageClass](t, all, s.Name)
		got = append(got, fmt.Sprint(s.Name, s.Servers, s.Path, class.Parameters["share"]))
	}
	want := []string{"ceph-a[10.0.0.11 10.0.0.12]/kubernetes/aceph-a", "ceph-b[10.0.0.12 10.0.0.11]/kubernetes/bceph-b"}
	if !slices.Equal(got, want) {
		t.Errorf("shares and classes are %q, and not %q", got, want)
	}
}

// rights are what each sidecar may do: what its release grants (deploy/kubernetes/rbac.yaml of
// external-provisioner 6.4, external-resizer 2.3 and external-snapshotter 8.7), without the rules
// for options that are off.
var rights = map[string][]string{
	"mooring-provisioner": {
		"persistentvolumes: create delete get list patch watch", "persistentvolumeclaims: get list update watch", "events: create list patch update watch",
		"storage.k8s.io/csinodes: get list watch", "storage.k8s.io/storageclasses: get list watch", "storage.k8s.io/volumeattachments: get list watch",
		"storage.k8s.io/volumeattributesclasses: get list watch", "nodes: get list watch",
		"snapshot.storage.k8s.io/volumesnapshotcontents: get list", "snapshot.storage.k8s.io/volumesnapshots: get list update watch",
	},
	"mooring-resizer": {
		"persistentvolumes: get list patch watch", "persistentvolumeclaims: get list watch", "persistentvolumeclaims/status: patch",
		"pods: get list watch", "events: create list patch update watch", "storage.k8s.io/volumeattributesclasses: get list watch",
	},
	"mooring-snapshotter": {
		"events: create list patch update watch", "snapshot.storage.k8s.io/volumesnapshotclasses: get list watch",
		"snapshot.storage.k8s.io/volumesnapshotcontents: get list patch update watch", "snapshot.storage.k8s.io/volumesnapshotcontents/status: patch update",
	},
	"mooring-controller": {"coordination.k8s.io/leases: create delete get list patch update watch"},
}

// snapshotControllerRights are the same for the snapshot-controller (rbac-snapshot-controller.yaml of
// external-snapshotter 8.7, in deploy/kubernetes/snapshot-controller).
var snapshotControllerRights = []string{
	"persistentvolumes: get list watch", "persistentvolumeclaims: get list update watch", "events: create list patch update watch",
	"snapshot.storage.k8s.io/volumesnapshotclasses: get list watch",
	"snapshot.storage.k8s.io/volumesnapshotcontents: create delete get list patch update watch", "snapshot.storage.k8s.io/volumesnapshotcontents/status: patch",
	"snapshot.storage.k8s.io/volumesnapshots: create delete get list patch update watch", "snapshot.storage.k8s.io/volumesnapshots/status: patch update",
	"groupsnapshot.storage.k8s.io/volumegroupsnapshotclasses: get list watch",
	"groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents: create delete get list patch update watch", "groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents/status: patch",
	"groupsnapshot.storage.k8s.io/volumegroupsnapshots: get list patch update watch", "groupsnapshot.storage.k8s.io/volumegroupsnapshots/status: patch update",
}

// TestSnapshotController has the chart install the snapshot-controller: only if the values want it, with its own
// account and rights, and only where the custom resources are.
func TestSnapshotController(t *testing.T) {
	const enabled = one + "snapshotController: {enabled: true}\n"
	if strings.Contains(render(t, "mooring", one), "snapshot-controller") {
		t.Error("it is there by default: a cluster may have it already")
	}
	for _, values := range []string{enabled, enabled + "snapshots: {groups: true}\n"} {
		all := objects(t, render(t, "mooring", values))
		want := slices.Sorted(slices.Values(snapshotControllerRights))
		if got := spell(find[rbacv1.ClusterRole](t, all, "-snapshot-controller").Rules); !slices.Equal(got, want) {
			t.Errorf("%s: it may\n\t%s\nand should be able to\n\t%s", values, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
		for _, subject := range append(find[rbacv1.ClusterRoleBinding](t, all, "-snapshot-controller").Subjects, find[rbacv1.RoleBinding](t, all, "-snapshot-controller").Subjects...) {
			if subject.Name != "mooring-snapshot-controller" {
				t.Errorf("%s: its rights are those of %s", values, subject.Name)
			}
		}
		if account := pods(all)["snapshot-controller"].Spec.ServiceAccountName; account != "mooring-snapshot-controller" {
			t.Errorf("%s: its account is %s", values, account)
		}
		find[corev1.ServiceAccount](t, all, "mooring-snapshot-controller")
		role := find[rbacv1.Role](t, all, "-snapshot-controller")
		if got := spell(role.Rules); role.Namespace != "kube-system" || !slices.Equal(got, []string{"coordination.k8s.io/leases: create delete get list update watch"}) {
			t.Errorf("%s: in %s it may %q", values, role.Namespace, got)
		}
	}
	if _, err := tryRender(t, "mooring", enabled+"snapshots: {enabled: false}\n"); err == nil || !strings.Contains(err.Error(), "snapshots.enabled: false") {
		t.Errorf("without the custom resources: %v", err)
	}
}

func spell(rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, rule := range rules {
		verbs := slices.Clone(rule.Verbs)
		slices.Sort(verbs)
		for _, resource := range rule.Resources {
			all = append(all, strings.TrimPrefix(rule.APIGroups[0]+"/", "/")+resource+": "+strings.Join(verbs, " "))
		}
	}
	slices.Sort(all)
	return all
}

func TestRights(t *testing.T) {
	found := map[string][]string{}
	for _, o := range objects(t, render(t, "mooring", one)) {
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			found[o.Name] = spell(o.Rules)
		case *rbacv1.Role:
			found[o.Name] = spell(o.Rules)
		case *rbacv1.ClusterRoleBinding:
			if o.RoleRef.Name != o.Name || len(o.Subjects) != 1 || o.Subjects[0].Name != "mooring-controller" {
				t.Errorf("the binding %s is of %v to %v", o.Name, o.RoleRef, o.Subjects)
			}
		}
	}
	for name, want := range rights {
		want = slices.Clone(want)
		slices.Sort(want)
		if !slices.Equal(found[name], want) {
			t.Errorf("%s may\n\t%s\nand should be able to\n\t%s", name, strings.Join(found[name], "\n\t"), strings.Join(want, "\n\t"))
		}
		delete(found, name)
	}
	if len(found) > 0 {
		t.Errorf("there are more roles: %v", found)
	}
}

// privileges returns the privileges of each container, as in docs/security.md.
func privileges(all []any) map[string]string {
	found := map[string]string{}
	add := func(name string, pod corev1.PodSpec) {
		for _, c := range pod.Containers {
			s := c.SecurityContext
			switch {
			case s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
				found[name+" "+c.Name] = "too much"
			case s.Privileged != nil && *s.Privileged:
				found[name+" "+c.Name] = "privileged"
			case *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}):
				found[name+" "+c.Name] = "too much"
			default:
				var added []string
				for _, capability := range s.Capabilities.Add {
					added = append(added, string(capability))
				}
				found[name+" "+c.Name] = strings.Join(added, " ")
			}
		}
	}
	for name, pod := range pods(all) {
		add(name, pod.Spec)
	}
	return found
}

func TestPrivileges(t *testing.T) {
	page := read(t, root+"/docs/security.md")
	const files = "CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD"
	for values, want := range map[string]map[string]string{
		one: {
			"controller mooring": "SYS_ADMIN " + files, "controller csi-provisioner": "", "controller csi-resizer": "", "controller csi-snapshotter": "",
			"node mooring": "privileged",
		},
		one + "controller: {mountShares: kubelet}\nnode: {registrar: sidecar}": {
			"controller mooring": files, "controller csi-provisioner": "", "controller csi-resizer": "", "controller csi-snapshotter": "",
			"node mooring": "privileged", "node node-driver-registrar": "", "node liveness-probe": "",
		},
		"server: {enabled: true}": {
			"controller mooring": "SYS_ADMIN " + files, "controller csi-provisioner": "", "controller csi-resizer": "", "controller csi-snapshotter": "",
			"node mooring": "privileged", "server server": "privileged",
		},
		one + "snapshotController: {enabled: true}": {
			"controller mooring": "SYS_ADMIN " + files, "controller csi-provisioner": "", "controller csi-resizer": "", "controller csi-snapshotter": "",
			"node mooring": "privileged", "snapshot-controller snapshot-controller": "",
		},
	} {
		got := privileges(objects(t, render(t, "mooring", values)))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the containers may %q, and should be able to %q", got, want)
		}
		for _, may := range got {
			for word := range strings.FieldsSeq(may) {
				if !strings.Contains(page, "`"+word+"`") && !strings.Contains(page, "`"+word+":") {
					t.Errorf("docs/security.md does not justify %s", word)
				}
			}
		}
	}
	if node := find[appsv1.DaemonSet](t, objects(t, render(t, "mooring", one)), "-node"); *node.Spec.Template.Spec.AutomountServiceAccountToken {
		t.Error("the node plugin has a token for the API server")
	}
}

// TestSELinux proves that the containers that mount, and no others, see the host's SELinux if the values want it.
func TestSELinux(t *testing.T) {
	sees := func(spec corev1.PodSpec) (all []string) {
		for _, c := range spec.Containers {
			for _, m := range c.VolumeMounts {
				i := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
				if i < 0 {
					t.Fatalf("there is no volume %s", m.Name)
				}
				// libselinux ignores a selinuxfs that is read-only.
				if from := spec.Volumes[i].HostPath; from != nil && from.Path == m.MountPath && m.ReadOnly == (m.MountPath == "/etc/selinux") && strings.Contains(m.MountPath, "selinux") {
					all = append(all, c.Name+" "+m.MountPath)
				}
			}
		}
		return all
	}
	both := []string{"mooring /sys/fs/selinux", "mooring /etc/selinux"}
	for values, want := range map[string]struct{ node, controller []string }{
		one:                              {},
		one + "selinux: {enabled: true}": {both, both},
		one + "selinux: {enabled: true}\ncontroller: {mountShares: kubelet}": {both, nil},
	} {
		all := objects(t, render(t, "mooring", values))
		node, controller := find[appsv1.DaemonSet](t, all, "-node"), find[appsv1.Deployment](t, all, "-controller")
		if got := sees(node.Spec.Template.Spec); !slices.Equal(got, want.node) {
			t.Errorf("%s: the node has %q", values, got)
		}
		if got := sees(controller.Spec.Template.Spec); !slices.Equal(got, want.controller) {
			t.Errorf("%s: the controller has %q", values, got)
		}
	}
}

// TestNoMountReachesTheHost checks that no volume is mounted inside one that is mounted with Bidirectional
// propagation: the mount would appear on the host, stay there when the container ends, and each restart would
// double it.
func TestNoMountReachesTheHost(t *testing.T) {
	shared := 0
	check := func(values string, spec corev1.PodSpec) {
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			for _, outer := range c.VolumeMounts {
				if outer.MountPropagation == nil || *outer.MountPropagation != corev1.MountPropagationBidirectional {
					continue
				}
				shared++
				for _, inner := range c.VolumeMounts {
					if strings.HasPrefix(inner.MountPath, strings.TrimSuffix(outer.MountPath, "/")+"/") {
						t.Errorf("%s: container %s mounts %s inside %s, which the host shares", values, c.Name, inner.MountPath, outer.MountPath)
					}
				}
			}
		}
	}
	for name, values := range sets(t) {
		for _, pod := range pods(objects(t, render(t, "mooring", values))) {
			check(name, pod.Spec)
		}
	}
	if shared == 0 {
		t.Error("no volume has Bidirectional propagation")
	}
}

// TestMetrics proves that every metric of dashboard and alerts exists.
func TestMetrics(t *testing.T) {
	page := read(t, root+"/docs/metrics.md")
	text := read(t, where+"/files/dashboard.json") + read(t, where+"/templates/monitoring.yaml")
	names := regexp.MustCompile(`\b(mooring|csi_plugin)_[a-z_]+`).FindAllString(text, -1)
	if len(names) < 15 {
		t.Fatalf("only %q were found", names)
	}
	for _, name := range names {
		base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		if !strings.Contains(page, "| `"+base+"` |") {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// TestValues compares the table in the chart's README with values.yaml.
func TestValues(t *testing.T) {
	text := read(t, where+"/values.yaml")
	var rows, documented []string
	var path []string
	help := ""
	key := regexp.MustCompile(`^( *)(- )?([A-Za-z]+):(.*)$`)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if after, ok := strings.CutPrefix(strings.TrimSpace(line), "# -- "); ok {
			help = after
			continue
		}
		m := key.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		depth := (len(m[1]) + len(m[2])) / 2
		if len(path) > depth {
			path = path[:depth]
		}
		for len(path) < depth {
			path = append(path, "[]")
		}
		path = append(path, m[3])
		if help == "" {
			continue
		}
		name := strings.ReplaceAll(strings.Join(path, "."), ".[]", "[]")
		value := strings.TrimSpace(m[4])
		if value == "" {
			value = "see values.yaml"
		} else {
			value = "`" + value + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", name, value, strings.ReplaceAll(help, "|", "\\|")))
		documented = append(documented, name)
		help = ""
	}
	if len(documented) < 60 {
		t.Fatalf("only %d values are documented", len(documented))
	}
	file := where + "/README.md"
	before, rest, ok := strings.Cut(read(t, file), "<!-- values -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatal("the chart's README has no place for the table of values")
	}
	same(t, file, before+"<!-- values -->\n\n| Value | Default | Meaning |\n|---|---|---|\n"+strings.Join(rows, "\n")+"\n\n<!-- end -->"+after)
}
