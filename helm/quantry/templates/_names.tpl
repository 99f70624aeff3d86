{{/* Names, labels and images. */}}

{{- define "quantry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of every object's name: short enough for what follows it, the name of a worker included. */}}
{{- define "quantry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else if contains (include "quantry.name" .) .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "quantry.name" .) | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which pods are found. Of (dict "root" $ "component" "api"). */}}
{{- define "quantry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "quantry.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .worker }}
quantry.dev/workers: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object or a pod. Of (dict "root" $ "component" "api"). */}}
{{- define "quantry.labels" -}}
{{ include "quantry.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: quantry
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object of this release. Of (dict "root" $ "component" "api" "name" ...), with annotations and labels where given. */}}
{{- define "quantry.metadata" -}}
name: {{ .name }}
namespace: {{ default .root.Release.Namespace .namespace }}
labels:
  {{- include "quantry.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image: by its digest, else by its tag, else by image.tag, else by the chart's appVersion. Of (dict "root" $ "image" ...). */}}
{{- define "quantry.image" -}}
{{- $name := .image.repository -}}
{{- with .root.Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "quantry.poolsNamespace" -}}
{{- default .Release.Namespace .Values.pools.namespace -}}
{{- end -}}

{{- define "quantry.cacheClaim" -}}
{{- default (printf "%s-engine-cache" (include "quantry.fullname" .)) .Values.deploy.cache.existingClaim -}}
{{- end -}}

{{- define "quantry.serviceUrl" -}}
{{- printf "http://%s-%s.%s.svc.%s:%v" (include "quantry.fullname" .root) .component .root.Release.Namespace .root.Values.clusterDomain .port -}}
{{- end -}}

{{/* Ports that processes listen on: 8000 and above, because none of them is root. */}}
{{- define "quantry.ports" -}}
gateway: 8000
api: 8001
registry: 8002
deploy: 8003
dashboard: 8080
metrics: 9090
engine: 8000
{{- end -}}

{{/* A worker as it is: what it says over what all have. Of (dict "root" $ "worker" ...). */}}
{{- define "quantry.worker" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.workerDefaults) (deepCopy (default (dict) .worker))) -}}
{{- end -}}
