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

{{- /* All shares: those of the list, and that of server and path. */}}
{{- define "mooring.shares" -}}
{{- $shares := .Values.shares }}
{{- if .Values.server }}
{{- $path := required "server needs a path: what it exports (--set path=/export/kubernetes)" .Values.path }}
{{- $shares = prepend $shares (dict "name" .Values.shareName "servers" (list .Values.server) "path" $path) }}
{{- else if .Values.path }}
{{- fail "path needs a server: who exports it (--set server=10.0.0.200)" }}
{{- end }}
{{- toYaml (dict "shares" $shares) }}
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

{{- /* The volume of a share that kubelet mounts: another one when the share moves. */}}
{{- define "mooring.shareVolume" -}}
{{ printf "%s-share-%s-%s" .name .share.name (printf "%v%s" .share.servers .share.path | sha256sum | trunc 8) }}
{{- end }}
