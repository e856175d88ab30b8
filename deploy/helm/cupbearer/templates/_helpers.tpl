{{- define "cupbearer.chart" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "cupbearer.name" -}}
{{- $chart := include "cupbearer.chart" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains $chart .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $chart | trunc 53 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "cupbearer.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "cupbearer.selector" -}}
app.kubernetes.io/name: {{ include "cupbearer.chart" . | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Name, namespace, labels and annotations of an object: `root`, and where they differ `suffix`,
`namespace`, `labels`, `annotations`, `name`. What selectors use wins over every other label. */ -}}
{{- define "cupbearer.metadata" -}}
{{- $root := .root }}
{{- $own := dict "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/version" ($root.Chart.AppVersion | replace "+" "_" | trunc 63)
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $labels := merge (dict) (include "cupbearer.selector" $root | fromYaml) (.labels | default dict) $root.Values.commonLabels $own }}
{{- $annotations := merge (dict) (.annotations | default dict) $root.Values.commonAnnotations -}}
name: {{ .name | default (printf "%s%s" (include "cupbearer.name" $root) (.suffix | default "")) }}
namespace: {{ .namespace | default (include "cupbearer.namespace" $root) }}
labels: {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "cupbearer.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "cupbearer.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "cupbearer.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end -}}
{{- end }}

{{- /* The Service's names. */ -}}
{{- define "cupbearer.hosts" -}}
{{- $name := include "cupbearer.name" . }}
{{- $namespace := include "cupbearer.namespace" . }}
{{- list $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (printf "%s.%s.svc.%s" $name $namespace .Values.clusterDomain) | toJson }}
{{- end }}

{{- define "cupbearer.configMap" -}}
{{ .Values.existingConfigMap | default (include "cupbearer.name" .) }}
{{- end }}

{{- define "cupbearer.podSecurityContext" -}}
{{- if .Values.openshift }}{{ omit .Values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup" | toYaml }}
{{- else }}{{ toYaml .Values.podSecurityContext }}{{ end }}
{{- end }}

{{- define "cupbearer.securityContext" -}}
{{- if .Values.openshift }}{{ omit .Values.securityContext "runAsUser" "runAsGroup" | toYaml }}
{{- else }}{{ toYaml .Values.securityContext }}{{ end }}
{{- end }}

{{- /* What the chart sets in the configuration; then the variables of the values, which win. */ -}}
{{- define "cupbearer.env" }}
{{- $subjects := .Values.tls.allowedSubjects }}
{{- if not $subjects }}
{{- fail "tls.allowedSubjects is empty: list the names in the client certificates that may use the tokens, or write \"any\" for every certificate that ca.crt vouches for" }}
{{- end }}
{{- $hosts := concat (include "cupbearer.hosts" . | fromJsonArray) .Values.allowedHosts }}
{{- $control := .Values.controlListen }}
{{- if and (not .Values.existingConfigMap) (regexMatch "(?m)^\\s*(\\[\\s*control\\s*\\]|control\\s*[.=])" .Values.config) }}{{ $control = "" }}{{ end }}
{{- $own := dict
  "CUPBEARER__SERVER__LISTEN" (printf "[\"0.0.0.0:%v\", \"[::]:%v\"]" .Values.ports.https .Values.ports.https)
  "CUPBEARER__SERVER__ALLOW_REMOTE" "true"
  "CUPBEARER__SERVER__TLS__CERT_FILE" "/run/tls/tls.crt"
  "CUPBEARER__SERVER__TLS__KEY_FILE" "/run/tls/tls.key"
  "CUPBEARER__SERVER__TLS__CLIENT_CA_FILE" "/run/tls/ca.crt"
  "CUPBEARER__HEALTH__LISTEN" (printf "[::]:%v" .Values.ports.health)
  "CUPBEARER__GUARD__ALLOWED_HOSTS" ($hosts | uniq | toJson)
  "CUPBEARER__GUARD__ALLOWED_SUBJECTS" (eq (toString $subjects) "any" | ternary list $subjects | toJson) }}
{{- with $control }}{{ $_ := set $own "CUPBEARER__CONTROL__LISTEN" . }}{{ end }}
{{- if or .Values.caBundle.configMapName .Values.caBundle.secretName }}
{{- $_ := set $own "SSL_CERT_DIR" "/run/ca" }}
{{- if .Values.caBundle.publicToo }}{{ $_ := set $own "SSL_CERT_FILE" "/etc/ssl/certs/ca-certificates.crt" }}{{ end }}
{{- end }}
{{- range .Values.extraEnv }}{{ $_ := unset $own .name }}{{ end }}
{{- range $name, $value := $own }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "cupbearer.volumeMounts" -}}
- name: config
  mountPath: /etc/cupbearer
  readOnly: true
- name: tls
  mountPath: /run/tls
  readOnly: true
{{- if .Values.secretName }}
- name: secret
  mountPath: /run/secrets/cupbearer
  readOnly: true
{{- end }}
{{- range $at, $secret := .Values.extraSecrets }}
- name: secret-{{ $at }}
  mountPath: {{ $secret.mountPath | default (printf "/run/secrets/%s" $secret.name) }}
  readOnly: true
{{- end }}
{{- if .Values.identityAudience }}
- name: identity
  mountPath: /run/identity/cupbearer
  readOnly: true
{{- end }}
{{- if or .Values.caBundle.configMapName .Values.caBundle.secretName }}
- name: ca
  mountPath: /run/ca
  readOnly: true
{{- end }}
{{- if .Values.store.enabled }}
- name: store
  mountPath: /var/lib/cupbearer
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "cupbearer.volumes" -}}
- name: config
  configMap:
    name: {{ include "cupbearer.configMap" . }}
- name: tls
  secret:
    secretName: {{ .Values.tls.secretName }}
    defaultMode: 0440
{{- with .Values.secretName }}
- name: secret
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- range $at, $secret := .Values.extraSecrets }}
- name: secret-{{ $at }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0440
    {{- with $secret.items }}
    items: {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $secret.optional }}
    optional: true
    {{- end }}
{{- end }}
{{- with .Values.identityAudience }}
- name: identity
  projected:
    sources:
    - serviceAccountToken:
        path: token
        audience: {{ . | quote }}
        expirationSeconds: {{ $.Values.identityExpirationSeconds | int64 }}
{{- end }}
{{- if or .Values.caBundle.configMapName .Values.caBundle.secretName }}
- name: ca
  projected:
    sources:
    {{- with .Values.caBundle.configMapName }}
    - configMap:
        name: {{ . }}
    {{- end }}
    {{- with .Values.caBundle.secretName }}
    - secret:
        name: {{ . }}
    {{- end }}
{{- end }}
{{- if .Values.store.enabled }}
- name: store
  {{- if .Values.store.volume }}
  {{- toYaml .Values.store.volume | nindent 2 }}
  {{- else }}
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
  {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A probe of the values, on `path` where they have no handler. The API server keeps no zero. */ -}}
{{- define "cupbearer.probe" -}}
{{- $probe := dict }}
{{- range $key, $value := omit .probe "enabled" }}
{{- if $value }}{{ $_ := set $probe $key $value }}{{ end }}
{{- end }}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) }}
{{- $probe = merge (dict "httpGet" (dict "path" .path "port" "cb-health")) $probe }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{- /* Rules of a NetworkPolicy as the API server keeps them: ports have a protocol. */ -}}
{{- define "cupbearer.rules" -}}
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
