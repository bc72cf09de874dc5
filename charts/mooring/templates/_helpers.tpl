{{- define "mooring.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "mooring.selector" -}}
app.kubernetes.io/name: mooring
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* The labels of an object of root: those of the chart, and of component and extra, if they are given. */}}
{{- define "mooring.labels" -}}
{{- $labels := include "mooring.selector" .root | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
{{- with .component }}
{{- $_ := set $labels "app.kubernetes.io/component" (kebabcase .) }}
{{- end }}
{{- merge $labels (.extra | default dict) (.root.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{- /* The annotations of a class: own, and the one of key that makes it the default. */}}
{{- define "mooring.classAnnotations" -}}
{{- $annotations := merge (dict) (.own | default dict) }}
{{- if .default }}
{{- $_ := set $annotations .key "true" }}
{{- end }}
{{- with $annotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* An image reference, with the registry of these values in place of its own. */}}
{{- define "mooring.imageReference" -}}
{{- $registry := .root.Values.image.registry | default (.root.Values.global).imageRegistry }}
{{- if $registry }}
{{- printf "%s/%s" (trimSuffix "/" $registry) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" .image "") }}
{{- else }}
{{- .image }}
{{- end }}
{{- end }}

{{- /* An image of the project: image is its values, tag the one to take if neither tag nor digest is set. */}}
{{- define "mooring.image" -}}
{{- $tag := .image.tag }}
{{- if not (or $tag .image.digest) }}
{{- $tag = .tag }}
{{- end }}
{{- $reference := .image.repository }}
{{- with $tag }}
{{- $reference = printf "%s:%s" $reference . }}
{{- end }}
{{- with .image.digest }}
{{- $reference = printf "%s@%s" $reference . }}
{{- end }}
{{- include "mooring.imageReference" (dict "root" .root "image" $reference) }}
{{- end }}

{{- /* The service account of a component. */}}
{{- define "mooring.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount }}
{{- if $account.create }}
{{- $account.name | default (printf "%s-%s" (include "mooring.name" .root) (kebabcase .component)) }}
{{- else }}
{{- required (printf "%s.serviceAccount.create: false needs the name of an existing service account: set %s.serviceAccount.name" .component .component) $account.name }}
{{- end }}
{{- end }}

{{- /* The service account object of a component, if the chart makes it. */}}
{{- define "mooring.serviceAccountObject" -}}
{{- $account := (index .root.Values .component).serviceAccount }}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "mooring.serviceAccount" . | quote }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "mooring.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* The node labels that a pod needs. */}}
{{- define "mooring.nodeSelector" -}}
{{- merge (dict) (. | default dict) (dict "kubernetes.io/os" "linux") | toYaml }}
{{- end }}

{{- /* All shares, in JSON: that of share, those of the list, and that of the server in the cluster. */}}
{{- define "mooring.shares" -}}
{{- $shares := .Values.shares | default list }}
{{- $one := .Values.share }}
{{- if $one.server }}
{{- $path := required "share.server needs a path that it exports (--set share.path=/export/kubernetes)" $one.path }}
{{- $entry := dict "name" $one.name "servers" (list $one.server) "path" $path }}
{{- with $one.id }}
{{- $entry = set $entry "id" . }}
{{- end }}
{{- $shares = prepend $shares $entry }}
{{- else if $one.path }}
{{- fail "share.path needs a server that exports it (--set share.server=10.0.0.200)" }}
{{- end }}
{{- if .Values.server.enabled }}
{{- $shares = append $shares (dict "name" .Values.server.shareName "servers" (list (printf "%s-server.%s.svc" (include "mooring.name" .) .Release.Namespace)) "path" "/") }}
{{- end }}
{{- toJson (dict "shares" $shares) }}
{{- end }}

{{- define "mooring.config" -}}
{{ include "mooring.shares" . | fromJson | toYaml }}
{{- with .Values.defaults }}
defaults: {{- toYaml . | nindent 2 }}
{{- end }}
unregistered: {{ .Values.unregistered }}
{{- end }}

{{- define "mooring.snapshots" -}}
{{- if eq (toString .Values.snapshots.enabled) "auto" }}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1" }}true{{ end }}
{{- else if .Values.snapshots.enabled }}true{{ end }}
{{- end }}

{{- /* The security context of every sidecar. */}}
{{- define "mooring.sidecarSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Programs that watch the API server. By default they send it 5 requests a second: many claims at once would
wait for that alone. */}}
{{- define "mooring.apiArgs" -}}
- --leader-election
- --kube-api-qps=50
- --kube-api-burst=100
{{- end }}

{{- define "mooring.sidecarArgs" -}}
- --csi-address=/csi/csi.sock
{{ include "mooring.apiArgs" . }}
{{- end }}

{{- /* The affinity of a component's pods: own, or the preference for a node for each replica. */}}
{{- define "mooring.affinity" -}}
{{- with .own }}
{{- toYaml . }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "mooring.selector" .root | nindent 12 }}
            app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end }}

{{- /* The PersistentVolume of a share that kubelet mounts: another one when what is mounted changes. */}}
{{- define "mooring.shareVolume" -}}
{{ printf "%s-share-%s-%s" .name .share.name (printf "%v%s%s" .share.servers .share.path (include "mooring.otherOptions" .) | sha256sum | trunc 8) }}
{{- end }}

{{- /* Its name in the pod, which cannot have dots: the shares nas.1 and nas-1 need two. */}}
{{- define "mooring.podVolume" -}}
{{ printf "share-%s-%s" (replace "." "-" .) (sha256sum . | trunc 8) }}
{{- end }}

{{- /* The mount options of a share, with an NFS version that differs from that of pods. */}}
{{- define "mooring.otherOptions" -}}
{{- $pods := "" }}
{{- $options := list }}
{{- range concat ((.defaults).mountOptions | default list) (.share.mountOptions | default list) }}
{{- if regexMatch "^((nfs)?vers=|v)[34]" . }}
{{- $pods = regexReplaceAll "^((nfs)?vers=|v)" . "" }}
{{- else if hasPrefix "minorversion=" . }}
{{- $pods = printf "4.%s" (trimPrefix "minorversion=" .) }}
{{- end }}
{{- end }}
{{- range .share.mountOptions | default list }}
{{- if not (regexMatch "^((nfs)?vers=|v)[34]|^minorversion=" .) }}
{{- $options = append $options . }}
{{- end }}
{{- end }}
{{- $version := "4.1" }}
{{- if eq $pods "3" }}
{{- $version = "3" }}
{{- else if eq $pods "4.1" }}
{{- $version = "4.0" }}
{{- end }}
{{- append $options (printf "nfsvers=%s" $version) | toJson }}
{{- end }}

{{- /* The host's SELinux. Without it mount(8) leaves labels out: libselinux checks for both, and needs the first to be writable. */}}
{{- define "mooring.selinuxMounts" -}}
{{- if .Values.selinux.enabled -}}
- {name: selinuxfs, mountPath: /sys/fs/selinux}
- {name: etc-selinux, mountPath: /etc/selinux, readOnly: true}
{{- end }}
{{- end }}
{{- define "mooring.selinuxVolumes" -}}
{{- if .Values.selinux.enabled -}}
- name: selinuxfs
  hostPath: {path: /sys/fs/selinux, type: Directory}
- name: etc-selinux
  hostPath: {path: /etc/selinux, type: Directory}
{{- end }}
{{- end }}
