{{/* Settings that several services have. Each name is one of a service's Settings class; a test holds them together. */}}

{{- define "quantry.env.process" -}}
- name: HOME
  value: /tmp
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
{{- if .Values.caBundle.configMap }}
- name: SSL_CERT_FILE
  value: /etc/quantry/ca/{{ .Values.caBundle.key }}
{{- end }}
{{- end -}}

{{- define "quantry.env.blobs" -}}
- name: QUANTRY_S3_ENDPOINT
  value: {{ include "quantry.s3Endpoint" . | quote }}
- name: QUANTRY_S3_SECURE
  value: {{ include "quantry.s3Secure" . | quote }}
- name: QUANTRY_S3_REGION
  value: {{ .Values.s3.region | quote }}
- name: QUANTRY_S3_VAULT_BUCKET
  value: {{ .Values.s3.vaultBucket | quote }}
- name: QUANTRY_S3_STAGING_BUCKET
  value: {{ .Values.s3.stagingBucket | quote }}
{{- end -}}

{{/* Whether the platform's S3 server is the one that dev.enabled adds. */}}
{{- define "quantry.devS3" -}}
{{- and .Values.dev.enabled (not .Values.s3.endpoint) -}}
{{- end -}}

{{- define "quantry.s3Secure" -}}
{{- ternary "false" (toString .Values.s3.secure) (eq (include "quantry.devS3" .) "true") -}}
{{- end -}}

{{- define "quantry.s3Endpoint" -}}
{{- if eq (include "quantry.devS3" .) "true" -}}
{{- include "quantry.fullname" . }}-dev-s3:9000
{{- else if .Values.s3.endpoint -}}
{{- .Values.s3.endpoint -}}
{{- else -}}
{{- fail "s3.endpoint is not set: it is host:port of the S3 server. To try the platform out with one of its own, set dev.enabled to true." -}}
{{- end -}}
{{- end -}}

{{/* Where imports may read: the same for api and workers. */}}
{{- define "quantry.env.imports" -}}
{{- with .Values.imports.roots }}
- name: QUANTRY_IMPORT_ROOTS
  value: {{ join ":" . | quote }}
{{- end }}
{{- with .Values.imports.buckets }}
- name: QUANTRY_IMPORT_BUCKETS
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/* Where fetches that users ask for may go: of the services that make them. */}}
{{- define "quantry.env.outbound" -}}
{{- with .Values.outbound.private }}
- name: QUANTRY_OUTBOUND_PRIVATE
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/* Where people reach the API, where the chart knows it: of the services that tell them. */}}
{{- define "quantry.env.public" -}}
{{- if ne .Values.expose.mode "none" }}
- name: QUANTRY_PUBLIC_URL
  value: {{ printf "%s://%s" (ternary "https" "http" .Values.expose.tls.enabled) .Values.expose.gateway.host | quote }}
{{- end }}
{{- end -}}

{{/* Who may sign in by a provider: the part of api and dashboard alike. */}}
{{- define "quantry.env.oidc" -}}
{{- with .Values.oidc.issuer }}
- name: QUANTRY_OIDC_ISSUER
  value: {{ . | quote }}
- name: QUANTRY_OIDC_CLIENT_ID
  value: {{ $.Values.oidc.clientId | quote }}
{{- end }}
{{- end -}}

{{/* What services behind the gateway believe of who asks. */}}
{{- define "quantry.env.http" -}}
- name: QUANTRY_HTTP_TRUSTED_PROXIES
  value: {{ join "," .Values.trustedNetworks | quote }}
{{- end -}}

{{/* Traces, and the port for /metrics of services whose own port strangers reach. Of (dict "root" $ "port" true). */}}
{{- define "quantry.env.telemetry" -}}
{{- if .port }}
- name: QUANTRY_METRICS_HOST
  value: "0.0.0.0"
- name: QUANTRY_METRICS_PORT
  value: {{ (include "quantry.ports" .root | fromYaml).metrics | quote }}
{{- end }}
{{- with .root.Values.telemetry.tracesEndpoint }}
- name: QUANTRY_TRACES_ENDPOINT
  value: {{ . | quote }}
- name: QUANTRY_TRACES_SAMPLE_RATIO
  value: {{ $.root.Values.telemetry.tracesSampleRatio | quote }}
{{- end }}
{{- end -}}

{{/* Settings of the reader's choice, and whole variables. Of a service's values. */}}
{{- define "quantry.env.extra" -}}
{{- range $name, $value := .settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The queues as the api reads them: cpu=16GiB,gpu-quad=4x80GiB. */}}
{{- define "quantry.queues" -}}
{{- $parts := list -}}
{{- range .Values.queues -}}
{{- $size := default "" .memory -}}
{{- if gt (int (default 1 .gpus)) 1 }}{{ $size = printf "%dx%s" (int .gpus) $size }}{{ end -}}
{{- $parts = append $parts (ternary (printf "%s=%s" .name $size) .name (ne $size "")) -}}
{{- end -}}
{{- join "," $parts -}}
{{- end -}}
