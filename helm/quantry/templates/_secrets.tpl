{{/*
Secrets. None is in an environment: each lies in a file below /run/secrets/quantry, which a QUANTRY_..._FILE variable names. A list of
secrets is YAML: of each the setting that it is, the Secret and its entry.
*/}}

{{- define "quantry.secretsPath" -}}/run/secrets/quantry{{- end -}}

{{- define "quantry.devSecret" -}}{{ include "quantry.fullname" . }}-dev{{- end -}}

{{- define "quantry.keysSecret" -}}
{{- default (printf "%s-keys" (include "quantry.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}

{{/* The Secret of a server. Of (dict "root" $ "given" name "what" "postgres.existingSecret"). */}}
{{- define "quantry.serverSecret" -}}
{{- if .given -}}
{{- .given -}}
{{- else if .root.Values.dev.enabled -}}
{{- include "quantry.devSecret" .root -}}
{{- else -}}
{{- fail (printf "%s is not set: it names the Secret, made before the chart is installed, that holds how to reach this server. To try the platform out with servers of its own, set dev.enabled to true." .what) -}}
{{- end -}}
{{- end -}}

{{- define "quantry.secrets.database" -}}
- setting: QUANTRY_DATABASE_URL
  secret: {{ include "quantry.serverSecret" (dict "root" . "given" .Values.postgres.existingSecret "what" "postgres.existingSecret") }}
  key: {{ ternary .Values.postgres.key "database-url" (ne .Values.postgres.existingSecret "") }}
{{- end -}}

{{- define "quantry.secrets.broker" -}}
- setting: QUANTRY_BROKER_URL
  secret: {{ include "quantry.serverSecret" (dict "root" . "given" .Values.redis.existingSecret "what" "redis.existingSecret") }}
  key: {{ ternary .Values.redis.key "broker-url" (ne .Values.redis.existingSecret "") }}
{{- end -}}

{{/* A key of the S3 server. Of (dict "root" $ "who" "registry"); the reader without one of its own has the workers'. */}}
{{- define "quantry.secrets.s3" -}}
{{- $who := .who -}}
{{- if and (eq $who "reader") (not .root.Values.s3.reader.existingSecret) }}{{ $who = "worker" }}{{ end -}}
{{- $given := index .root.Values.s3 $who -}}
{{- $secret := include "quantry.serverSecret" (dict "root" .root "given" $given.existingSecret "what" (printf "s3.%s.existingSecret" $who)) -}}
- setting: QUANTRY_S3_ACCESS_KEY
  secret: {{ $secret }}
  key: {{ ternary $given.accessKeyKey "s3-access-key" (ne $given.existingSecret "") }}
- setting: QUANTRY_S3_SECRET_KEY
  secret: {{ $secret }}
  key: {{ ternary $given.secretKeyKey "s3-secret-key" (ne $given.existingSecret "") }}
{{- end -}}

{{/* Keys of captured prompts and of webhooks: of their own Secrets, or those that dev.enabled makes; without any there are none. */}}
{{- define "quantry.secrets.captures" -}}
{{- if or .Values.captures.existingSecret .Values.dev.enabled }}
- setting: QUANTRY_CAPTURE_KEYS
  secret: {{ default (include "quantry.devSecret" .) .Values.captures.existingSecret }}
  key: {{ ternary .Values.captures.key "capture-keys" (ne .Values.captures.existingSecret "") }}
{{- end }}
{{- end -}}

{{- define "quantry.secrets.webhooks" -}}
{{- if or .Values.webhooks.existingSecret .Values.dev.enabled }}
- setting: QUANTRY_WEBHOOK_KEYS
  secret: {{ default (include "quantry.devSecret" .) .Values.webhooks.existingSecret }}
  key: {{ ternary .Values.webhooks.key "webhook-keys" (ne .Values.webhooks.existingSecret "") }}
{{- end }}
{{- end -}}

{{- define "quantry.secrets.proxy" -}}
{{- with .Values.outbound.proxySecret }}
- setting: QUANTRY_OUTBOUND_PROXY
  secret: {{ . }}
  key: proxy
{{- end }}
{{- end -}}

{{- define "quantry.secrets.metrics" -}}
{{- with .Values.telemetry.metricsTokenSecret }}
- setting: QUANTRY_METRICS_TOKEN
  secret: {{ . }}
  key: token
{{- end }}
{{- end -}}

{{- define "quantry.secrets.imports" -}}
{{- with .Values.imports.existingSecret }}
- setting: QUANTRY_IMPORT_S3_ACCESS_KEY
  secret: {{ . }}
  key: access-key
- setting: QUANTRY_IMPORT_S3_SECRET_KEY
  secret: {{ . }}
  key: secret-key
{{- end }}
{{- with .Values.imports.hubTokenSecret }}
- setting: QUANTRY_HF_TOKEN
  secret: {{ . }}
  key: token
{{- end }}
{{- end -}}

{{/* A list of secrets as variables that name files. */}}
{{- define "quantry.secrets.env" -}}
{{- range . }}
- name: {{ .setting }}_FILE
  value: {{ include "quantry.secretsPath" $ }}/{{ .setting | trimPrefix "QUANTRY_" | lower }}
{{- end }}
{{- end -}}

{{/* A list of secrets as one volume. */}}
{{- define "quantry.secrets.volume" -}}
- name: secrets
  projected:
    # Read by the process's group, which is the pod's fsGroup.
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .secret }}
          items:
            - key: {{ .key }}
              path: {{ .setting | trimPrefix "QUANTRY_" | lower }}
      {{- end }}
{{- end -}}

{{- define "quantry.secrets.mount" -}}
- name: secrets
  mountPath: {{ include "quantry.secretsPath" . }}
  readOnly: true
{{- end -}}
