{{- define "cupbearer-webhook.chart" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "cupbearer-webhook.name" -}}
{{- $chart := include "cupbearer-webhook.chart" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains $chart .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $chart | trunc 53 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "cupbearer-webhook.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "cupbearer-webhook.selector" -}}
app.kubernetes.io/name: {{ include "cupbearer-webhook.chart" . | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Name, namespace, labels and annotations of an object: `root`, and where they differ `suffix`,
`namespace`, `labels`, `annotations`, `name`. What selectors use wins over every other label. */ -}}
{{- define "cupbearer-webhook.metadata" -}}
{{- $root := .root }}
{{- $own := dict "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/version" ($root.Chart.AppVersion | replace "+" "_" | trunc 63)
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $labels := merge (dict) (include "cupbearer-webhook.selector" $root | fromYaml) (.labels | default dict) $root.Values.commonLabels $own }}
{{- $annotations := merge (dict) (.annotations | default dict) $root.Values.commonAnnotations -}}
name: {{ .name | default (printf "%s%s" (include "cupbearer-webhook.name" $root) (.suffix | default "")) }}
namespace: {{ .namespace | default (include "cupbearer-webhook.namespace" $root) }}
labels: {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "cupbearer-webhook.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "cupbearer-webhook.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "cupbearer-webhook.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end -}}
{{- end }}

{{- define "cupbearer-webhook.podSecurityContext" -}}
{{- if .Values.openshift }}{{ omit .Values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup" | toYaml }}
{{- else }}{{ toYaml .Values.podSecurityContext }}{{ end }}
{{- end }}

{{- define "cupbearer-webhook.securityContext" -}}
{{- if .Values.openshift }}{{ omit .Values.securityContext "runAsUser" "runAsGroup" | toYaml }}
{{- else }}{{ toYaml .Values.securityContext }}{{ end }}
{{- end }}

{{- /* A probe of the values, on `path` where they have no handler. The API server keeps no zero. */ -}}
{{- define "cupbearer-webhook.probe" -}}
{{- $probe := dict }}
{{- range $key, $value := omit .probe "enabled" }}
{{- if $value }}{{ $_ := set $probe $key $value }}{{ end }}
{{- end }}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) }}
{{- $probe = merge (dict "httpGet" (dict "path" .path "port" "https" "scheme" "HTTPS")) $probe }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{- /* Rules of a NetworkPolicy as the API server keeps them: ports have a protocol. */ -}}
{{- define "cupbearer-webhook.rules" -}}
{{- $rules := list }}
{{- range . }}
{{- $rule := deepCopy . }}
{{- if $rule.ports }}
{{- $ports := list }}
{{- range $rule.ports }}{{ $ports = append $ports (merge (dict) . (dict "protocol" "TCP")) }}{{ end }}
{{- $_ := set $rule "ports" $ports }}
{{- end }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- toYaml $rules }}
{{- end }}

{{- define "cupbearer-webhook.tlsSecret" -}}
{{ .Values.certificate.secretName | default (printf "%s-tls" (include "cupbearer-webhook.name" .)) }}
{{- end }}

{{- define "cupbearer-webhook.host" -}}
{{ include "cupbearer-webhook.name" . }}.{{ include "cupbearer-webhook.namespace" . }}.svc
{{- end }}

{{- /* The selector of an opt-in: `selector` of the values, and `expressions`. */ -}}
{{- define "cupbearer-webhook.match" -}}
{{- $selector := deepCopy .selector }}
{{- $_ := set $selector "matchExpressions" (concat .expressions (.selector.matchExpressions | default list)) }}
{{- toYaml $selector }}
{{- end }}

{{- define "cupbearer-webhook.args" -}}
- webhook
- --listen=[::]:{{ .Values.ports.https }}
- --cert-file=/run/tls/tls.crt
- --key-file=/run/tls/tls.key
- --fail={{ .Values.fail }}
{{- range $option, $value := .Values.sidecar }}
{{- if eq $option "no-secret" }}
{{- if $value }}
- --{{ $option }}
{{- end }}
{{- else if kindIs "map" $value }}
- {{ printf "--%s=%s" $option (toJson $value) | quote }}
{{- else }}
- {{ printf "--%s=%s" $option (toString $value) | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}
