{{- define "mooring.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "mooring.selector" -}}
app.kubernetes.io/name: mooring
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mooring.labels" -}}
{{ include "mooring.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "mooring.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* All shares: those of the list, that of share, and that of the server in the cluster. */}}
{{- define "mooring.shares" -}}
{{- $shares := .Values.shares }}
{{- $one := .Values.share }}
{{- if $one.server }}
{{- $path := required "share.server needs a path: what it exports (--set share.path=/export/kubernetes)" $one.path }}
{{- $entry := dict "name" $one.name "servers" (list $one.server) "path" $path }}
{{- with $one.id }}
{{- $entry = set $entry "id" . }}
{{- end }}
{{- $shares = prepend $shares $entry }}
{{- else if $one.path }}
{{- fail "share.path needs a server: who exports it (--set share.server=10.0.0.200)" }}
{{- end }}
{{- if .Values.server.enabled }}
{{- $shares = append $shares (dict "name" .Values.server.shareName "servers" (list (printf "%s-server.%s.svc" (include "mooring.name" .) .Release.Namespace)) "path" "/") }}
{{- end }}
{{- toYaml (dict "shares" $shares) }}
{{- end }}

{{- define "mooring.config" -}}
{{ include "mooring.shares" . }}
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

{{- /* What every container of Kubernetes' own has. */}}
{{- define "mooring.sidecarSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The controller's sidecars. They ask the API server 5 times a second unless told otherwise:
many claims at once would wait for that alone. */}}
{{- define "mooring.sidecarArgs" -}}
- --csi-address=/csi/csi.sock
- --leader-election
- --kube-api-qps=50
- --kube-api-burst=100
{{- end }}

{{- /* The volume of a share that kubelet mounts: another one when the share moves. */}}
{{- define "mooring.shareVolume" -}}
{{ printf "%s-share-%s-%s" .name .share.name (printf "%v%s" .share.servers .share.path | sha256sum | trunc 8) }}
{{- end }}

{{- /* The mount options of a share, with another NFS version than that of pods. */}}
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

{{/* The host's SELinux, without which mount(8) leaves labels out: libselinux looks for both, and wants the first to be writable. */}}
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
