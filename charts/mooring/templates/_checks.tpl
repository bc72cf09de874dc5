{{- /* What the driver refuses at its start fails here, at the installation (pkg/config; test/chart compares). */}}
{{- define "mooring.check" -}}
{{- $seen := list }}
{{- range (include "mooring.shares" . | fromJson).shares }}
{{- $share := . }}
{{- range .servers }}
{{- include "mooring.checkServer" (dict "share" $share.name "server" .) }}
{{- end }}
{{- include "mooring.checkPath" . }}
{{- include "mooring.checkMountOptions" (dict "where" (printf "share %s" .name) "options" .mountOptions) }}
{{- range $seen }}
{{- include "mooring.checkApart" (dict "a" . "b" $share) }}
{{- end }}
{{- $seen = append $seen . }}
{{- end }}
{{- include "mooring.checkMountOptions" (dict "where" "defaults" "options" .Values.defaults.mountOptions) }}
{{- include "mooring.checkSubDir" (.Values.defaults.subDir | default "x") }}
{{- /* Only the chart can refuse this: the driver does not know the volumes of its pod. */}}
{{- $kubelet := printf "%s/" (trimSuffix "/" .Values.node.kubeletDir) }}
{{- range .Values.node.volumeMounts }}
{{- if hasPrefix $kubelet (toString .mountPath) }}
{{- fail (printf "node.volumeMounts: %s is inside kubelet's directory, which the host shares: the mount would stay on the host, and each restart of the plugin would double it" .mountPath) }}
{{- end }}
{{- end }}
{{- range .Values.storageClasses }}
{{- include "mooring.checkMountOptions" (dict "where" (printf "storageClass %s" .name) "options" .mountOptions) }}
{{- end }}
{{- end }}

{{- define "mooring.isHost" -}}
{{- if and (le (len .) 253) (regexMatch "^[A-Za-z0-9._][-A-Za-z0-9._]*$" .) }}true{{ end }}
{{- end }}

{{- /* The one spelling of an IP address, as IPv6; nothing for any other text. */}}
{{- define "mooring.address" -}}
{{- $group := "[0-9A-Fa-f]{1,4}" }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- $address := first (splitList "%" .) }}
{{- $zone := trimPrefix $address . }}
{{- $v4 := trimPrefix ":" (regexFind (printf "(^|:)%s(\\.%s){3}$" $octet $octet) $address) }}
{{- if and $v4 (or (contains ":" $address) (not $zone)) }}
{{- $o := splitList "." $v4 }}
{{- $high := add (mul (index $o 0) 256) (index $o 1) }}
{{- $low := add (mul (index $o 2) 256) (index $o 3) }}
{{- $address = printf "%s%x:%x" (trimSuffix $v4 $address | default "::ffff:") $high $low }}
{{- end }}
{{- $side := printf "(%s(:%s)*)?" $group $group }}
{{- if and (regexMatch (printf "^%s(::%s)?$" $side $side) $address) (or (eq $zone "") (include "mooring.isHost" (trimPrefix "%" $zone))) }}
{{- $halves := splitList "::" $address }}
{{- $left := regexFindAll $group (first $halves) -1 }}
{{- $right := regexFindAll $group (rest $halves | first | default "") -1 }}
{{- $missing := sub 8 (add (len $left) (len $right)) | int }}
{{- if ternary (gt $missing 0) (eq $missing 0) (contains "::" $address) }}
{{- range concat $left (repeat $missing "0" | splitList "") $right }}
{{- regexReplaceAll "^0+" (toString . | lower) "" | default "0" | printf "%s:" }}
{{- end }}
{{- $zone }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mooring.checkServer" -}}
{{- if not (or (include "mooring.isHost" .server) (include "mooring.address" .server)) }}
{{- fail (printf "share %s: the server %q is neither a host name nor an IP address: it has no port, path, brackets or blanks" .share .server) }}
{{- end }}
{{- end }}

{{- define "mooring.checkPath" -}}
{{- if not (hasPrefix "/" .path) }}
{{- fail (printf "share %s: the path %q does not begin with /" .name .path) }}
{{- else if ne (clean .path) .path }}
{{- fail (printf "share %s: the path %q should be written %q" .name .path (clean .path)) }}
{{- else if or (gt (len .path) 1024) (regexMatch "[\\x00-\\x1f\\x7f]" .path) }}
{{- fail (printf "share %s: the path %q is longer than 1024 bytes, or has control characters" .name .path) }}
{{- end }}
{{- end }}

{{- /* The one spelling of a server. */}}
{{- define "mooring.canonicalServer" -}}
{{- include "mooring.address" . | default (lower . | trimSuffix ".") }}
{{- end }}

{{- /* Shares must differ in name and id, and a share must not lie in another one. */}}
{{- define "mooring.checkApart" -}}
{{- if eq .a.name .b.name }}
{{- fail (printf "two shares have the name %s" .a.name) }}
{{- end }}
{{- if and .a.id (eq (lower .a.id) (lower (.b.id | default ""))) }}
{{- fail (printf "the shares %s and %s have the same id" .a.name .b.name) }}
{{- end }}
{{- $a := printf "%s/" (trimSuffix "/" .a.path) }}
{{- $b := printf "%s/" (trimSuffix "/" .b.path) }}
{{- if or (hasPrefix $a $b) (hasPrefix $b $a) }}
{{- range $x := .a.servers }}
{{- range $y := $.b.servers }}
{{- if eq (include "mooring.canonicalServer" $x) (include "mooring.canonicalServer" $y) }}
{{- fail (printf "the shares %s (%s:%s) and %s (%s:%s) are the same, or one is in the other: a volume of one would hold the other's" $.a.name $x $.a.path $.b.name $y $.b.path) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Mount options, as volume.CheckMountOptions checks them. A comma in quotation marks does not separate options. */}}
{{- define "mooring.checkMountOptions" -}}
{{- $where := .where }}
{{- $wrong := list }}
{{- range .options }}
{{- $options := regexFindAll "([^,\"]|\"[^\"]*\"?)+" . -1 }}
{{- if regexMatch "(^|,)(,|$)" (regexReplaceAll "\"[^\"]*\"?" . "x") }}
{{- $options = append $options "" }}
{{- end }}
{{- range $options }}
{{- $form := "^[A-Za-z0-9_][A-Za-z0-9_.-]*(=[^\\x00-\\x20\\x7f\\\\\"]*)?$" }}
{{- $context := "^(fs|def|root)?context=\"[^\\x00-\\x1f\\x7f\\\\\"]*\"$" }}
{{- $reserved := "^((mount)?addr|mounthost|r?bind|move|remount|[bf]g|loop|users?|owner|group|noauto|nofail|sloppy|r?(private|shared|slave|unbindable))(=|$)|^[xX]-|^comment" }}
{{- $limited := "^((nfs)?vers|minorversion|sec|xprtsec|(mount)?port)(=|$)" }}
{{- $security := "(sys|none|krb5[ip]?)" }}
{{- $allowed := printf "^((nfs)?vers=(3|4|4\\.[012])|minorversion=[012]|sec=%s(:%s)*|xprtsec=(none|m?tls)|(mount)?port=0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4}))$" $security $security }}
{{- if or (not (or (regexMatch $form .) (regexMatch $context .))) (regexMatch $reserved .) (and (regexMatch $limited .) (not (regexMatch $allowed .))) }}
{{- $wrong = append $wrong (quote .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "%s: mount options that cannot be used (docs/configuration.md, mount options): %s" $where (join ", " $wrong)) }}
{{- end }}
{{- end }}

{{- define "mooring.checkSubDir" -}}
{{- $directory := regexReplaceAll "\\$\\{(pvc\\.metadata\\.(name|namespace)|pv\\.metadata\\.name|\\.PVC\\.(name|namespace))\\}" . "x" }}
{{- if or (contains "${" $directory) (regexMatch "(^|/)(\\.?\\.?|(?i:\\.mooring)[. ]*)(/|$)|[\\x00-\\x1f\\x7f]" $directory) }}
{{- fail (printf "defaults.subDir %q is not a directory beneath the share, or has a variable that does not exist (docs/configuration.md)" .) }}
{{- end }}
{{- end }}
