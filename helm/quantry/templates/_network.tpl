{{/* Parts of NetworkPolicies. */}}

{{/* Labels of the engines' pods, which the controller makes: quantry_deploy's drivers/kubernetes/names.py. */}}
{{- define "quantry.engineLabels" -}}
app.kubernetes.io/name: quantry-engine
quantry.dev/owner: {{ include "quantry.fullname" . }}
{{- end -}}

{{/* Pods of this release. Of (dict "root" $ "components" (list "gateway")). */}}
{{- define "quantry.net.pods" -}}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "quantry.selectorLabels" (dict "root" $.root "component" .) | nindent 6 }}
{{- end }}
{{- end -}}

{{/* A rule of egress to a place of the values: its peers, or anywhere, on its ports. Of a place. */}}
{{- define "quantry.net.to" -}}
- ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A rule of egress to pods of this release. Of (dict "root" $ "components" (list "api") "ports" (list 8001)). */}}
{{- define "quantry.net.toPods" -}}
- to:
    {{- include "quantry.net.pods" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end -}}

{{/* A rule of ingress from pods of this release. Of (dict "root" $ "components" (list "gateway") "port" 8001). */}}
{{- define "quantry.net.fromPods" -}}
- from:
    {{- include "quantry.net.pods" . | nindent 4 }}
  ports:
    - port: {{ .port }}
      protocol: TCP
{{- end -}}

{{/* A rule of ingress from peers of the values; none where the list is empty. Of (dict "peers" [...] "port" 8001). */}}
{{- define "quantry.net.fromPeers" -}}
{{- with .peers }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - port: {{ $.port }}
      protocol: TCP
{{- end }}
{{- end -}}

{{- define "quantry.net.dns" -}}
- ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .Values.networkPolicy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Where databases are: the places of the values, or the pods that dev.enabled adds. Of (dict "root" $ "what" "postgres"). */}}
{{- define "quantry.net.server" -}}
{{- $given := ternary .root.Values.s3.endpoint (index .root.Values .what).existingSecret (eq .what "s3") -}}
{{- if and .root.Values.dev.enabled (not $given) -}}
{{- $port := index (dict "postgres" 5432 "redis" 6379 "s3" 9000) .what -}}
{{- include "quantry.net.toPods" (dict "root" .root "components" (list (printf "dev-%s" .what)) "ports" (list $port)) -}}
{{- else -}}
{{- include "quantry.net.to" (index .root.Values.networkPolicy .what) -}}
{{- end -}}
{{- end -}}

{{- define "quantry.net.traces" -}}
{{- if .Values.telemetry.tracesEndpoint -}}
{{- include "quantry.net.to" .Values.networkPolicy.traces -}}
{{- end -}}
{{- end -}}

{{/* Where people's sign-ins are checked. */}}
{{- define "quantry.net.oidc" -}}
{{- if .Values.oidc.issuer -}}
{{- include "quantry.net.to" .Values.networkPolicy.oidc -}}
{{- end -}}
{{- end -}}

{{- define "quantry.net.internet" -}}
{{- if .Values.networkPolicy.internet.enabled -}}
{{- include "quantry.net.to" .Values.networkPolicy.internet -}}
{{- end -}}
{{- end -}}

{{/*
One component's policy. Of (dict "root" $ "component" "api" "ingress" [yaml, ...] "egress" [yaml, ...]), with "rules" where its values
have further ones, and "worker" where it is one of workers.
*/}}
{{- define "quantry.net.policy" -}}
{{- $rules := default (dict) .rules -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "quantry.metadata" (dict "root" .root "component" .component "worker" .worker "name" (printf "%s-%s" (include "quantry.fullname" .root) (default .component .name))) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "quantry.selectorLabels" (dict "root" .root "component" .component "worker" .worker) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- $ingress := without (default (list) .ingress) "" }}
  {{- with $rules.extraIngress }}{{ $ingress = append $ingress (toYaml .) }}{{ end }}
  {{- if $ingress }}
  ingress:
    {{- range $ingress }}
    {{- . | trim | nindent 4 }}
    {{- end }}
  {{- else }}
  ingress: []
  {{- end }}
  {{- $egress := without (default (list) .egress) "" }}
  {{- with $rules.extraEgress }}{{ $egress = append $egress (toYaml .) }}{{ end }}
  {{- if $egress }}
  egress:
    {{- range $egress }}
    {{- . | trim | nindent 4 }}
    {{- end }}
  {{- else }}
  egress: []
  {{- end }}
{{- end -}}
