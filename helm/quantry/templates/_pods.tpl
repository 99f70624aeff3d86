{{/* What every pod has: Pod Security "restricted", a read-only root, /tmp of its own, no token. */}}

{{/* The pod's part. Of (dict "root" $ "userId" 10001), the user being the platform's where not given. */}}
{{- define "quantry.podSecurity" -}}
runAsNonRoot: true
{{- $user := int (default .root.Values.podSecurity.userId .userId) }}
runAsUser: {{ $user }}
runAsGroup: {{ $user }}
fsGroup: {{ $user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "quantry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a pod may run. Of (dict "root" $ "values" ... "selector" (dict ...), "spread" true). */}}
{{- define "quantry.scheduling" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else if .spread }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "quantry.selectorLabels" $.selector | nindent 8 }}
    {{- if $.byRevision }}
    # Pods of one revision among themselves: else the old ones of a rolling upgrade push the new ones together.
    matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Metadata of a pod. Of (dict "root" $ "component" "api" "values" ...). */}}
{{- define "quantry.podMetadata" -}}
labels:
  {{- include "quantry.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (default (dict) .annotations) (default (dict) .values.podAnnotations) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Volumes that every pod of the platform has. Of (dict "root" $ "secrets" [...] "scratch" "1Gi"). */}}
{{- define "quantry.volumes" -}}
{{- with .secrets }}
{{ include "quantry.secrets.volume" . }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ default "1Gi" .scratch }}
{{- if .root.Values.caBundle.configMap }}
- name: ca
  configMap:
    name: {{ .root.Values.caBundle.configMap }}
{{- end }}
{{- end -}}

{{- define "quantry.mounts" -}}
{{- with .secrets }}
{{ include "quantry.secrets.mount" . }}
{{- end }}
- name: tmp
  mountPath: /tmp
{{- if .root.Values.caBundle.configMap }}
- name: ca
  mountPath: /etc/quantry/ca
  readOnly: true
{{- end }}
{{- end -}}

{{/* One look at a path. Of (dict "path" "/healthz" "period" 10 "failures" 3 "timeout" 5). */}}
{{- define "quantry.httpProbe" -}}
httpGet:
  path: {{ .path }}
  port: http
periodSeconds: {{ .period }}
timeoutSeconds: {{ default 5 .timeout }}
failureThreshold: {{ .failures }}
{{- end -}}

{{- define "quantry.migrationMode" -}}
{{- ternary "init" .Values.migration.mode .Values.dev.enabled -}}
{{- end -}}

{{/* The init container that brings the schema up to date, where no hook does. Two at once are safe: the second waits for the first. */}}
{{- define "quantry.migrateContainer" -}}
- name: migrate
  image: {{ include "quantry.image" (dict "root" . "image" .Values.api.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, -m, quantry_store.migrate]
  env:
    {{- include "quantry.env.process" . | nindent 4 }}
    {{- include "quantry.secrets.env" (include "quantry.secrets.database" . | fromYamlArray) | nindent 4 }}
  resources:
    {{- toYaml .Values.migration.resources | nindent 4 }}
  securityContext:
    {{- include "quantry.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "quantry.mounts" (dict "root" . "secrets" (include "quantry.secrets.database" . | fromYamlArray)) | nindent 4 }}
{{- end -}}
