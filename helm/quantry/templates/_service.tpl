{{/*
A service that answers HTTP: its Deployment. Of
(dict "root" $ "component" "api" "values" .Values.api "env" yaml "secrets" yaml "store" true "metrics" false "live" "/livez"
 "extra" (dict "volumes" yaml "mounts" yaml "spec" yaml), "replicas" 2, "strategy" yaml, "scratch" "1Gi", "annotations" (dict)).
*/}}
{{- define "quantry.httpDeployment" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $port := index (include "quantry.ports" $root | fromYaml) .component -}}
{{- $secrets := .secrets | fromYamlArray -}}
{{- $selector := dict "root" $root "component" .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "quantry.metadata" (dict "root" $root "component" .component "name" (printf "%s-%s" (include "quantry.fullname" $root) .component)) | nindent 2 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    {{- .strategy | default "type: RollingUpdate\nrollingUpdate:\n  maxUnavailable: 0\n  maxSurge: 1" | nindent 4 }}
  selector:
    matchLabels:
      {{- include "quantry.selectorLabels" $selector | nindent 6 }}
  template:
    metadata:
      {{- include "quantry.podMetadata" (dict "root" $root "component" .component "values" $values "annotations" .annotations) | nindent 6 }}
    spec:
      serviceAccountName: {{ include "quantry.fullname" $root }}-{{ .component }}
      automountServiceAccountToken: {{ default false .token }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      securityContext:
        {{- include "quantry.podSecurity" (dict "root" $root) | nindent 8 }}
      {{- include "quantry.scheduling" (dict "root" $root "values" $values "selector" $selector "spread" (not .alone) "byRevision" true) | nindent 6 }}
      {{- if and .store (eq (include "quantry.migrationMode" $root) "init") }}
      initContainers:
        {{- include "quantry.migrateContainer" $root | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "quantry.image" (dict "root" $root "image" $values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [python, -m, quantry_{{ .component }}]
          env:
            {{- include "quantry.env.process" $root | nindent 12 }}
            {{- .env | nindent 12 }}
            {{- include "quantry.env.telemetry" (dict "root" $root "port" .metrics) | nindent 12 }}
            {{- include "quantry.secrets.env" $secrets | nindent 12 }}
            {{- include "quantry.env.extra" $values | nindent 12 }}
          ports:
            - name: http
              containerPort: {{ $port }}
              protocol: TCP
            {{- if .metrics }}
            - name: metrics
              containerPort: {{ (include "quantry.ports" $root | fromYaml).metrics }}
              protocol: TCP
            {{- end }}
          startupProbe:
            {{- include "quantry.httpProbe" (dict "path" (.live | default "/livez") "period" 2 "failures" 90) | nindent 12 }}
          readinessProbe:
            {{- include "quantry.httpProbe" (dict "path" "/healthz" "period" 5 "failures" 3) | nindent 12 }}
          livenessProbe:
            {{- if .liveByHealth }}
            {{- include "quantry.httpProbe" (dict "path" "/healthz" "period" 30 "failures" 20) | nindent 12 }}
            {{- else }}
            {{- include "quantry.httpProbe" (dict "path" (.live | default "/livez") "period" 10 "failures" 6) | nindent 12 }}
            {{- end }}
          {{- with $values.preStopSeconds }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ . }}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          terminationMessagePolicy: FallbackToLogsOnError
          securityContext:
            {{- include "quantry.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "quantry.mounts" (dict "root" $root "secrets" $secrets) | nindent 12 }}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        {{- include "quantry.volumes" (dict "root" $root "secrets" $secrets "scratch" .scratch) | nindent 8 }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{/* A Service. Of (dict "root" $ "component" "api" "port" 8001 "type" "ClusterIP" "annotations" (dict) "metrics" false "spec" yaml). */}}
{{- define "quantry.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "quantry.metadata" (dict "root" .root "component" .component "name" (printf "%s-%s" (include "quantry.fullname" .root) .component) "annotations" .annotations) | nindent 2 }}
spec:
  type: {{ default "ClusterIP" .type }}
  selector:
    {{- include "quantry.selectorLabels" (dict "root" .root "component" .component) | nindent 4 }}
  ports:
    - name: http
      port: {{ .port }}
      targetPort: http
      protocol: TCP
      appProtocol: http
    {{- if .metrics }}
    - name: metrics
      port: {{ (include "quantry.ports" .root | fromYaml).metrics }}
      targetPort: metrics
      protocol: TCP
    {{- end }}
  {{- with .spec }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A PodDisruptionBudget. Of (dict "root" $ "component" "api" "pdb" ... "name" "api"), with "worker" where it is one of workers. */}}
{{- define "quantry.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "quantry.metadata" (dict "root" .root "component" .component "worker" .worker "name" (printf "%s-%s" (include "quantry.fullname" .root) .name)) | nindent 2 }}
spec:
  maxUnavailable: {{ .pdb.maxUnavailable }}
  # A pod that is broken never holds up the drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "quantry.selectorLabels" (dict "root" .root "component" .component "worker" .worker) | nindent 6 }}
{{- end -}}

{{/* A ServiceAccount whose token no pod gets unasked. Of (dict "root" $ "component" "api" "name" "api"). */}}
{{- define "quantry.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "quantry.metadata" (dict "root" .root "component" .component "name" (printf "%s-%s" (include "quantry.fullname" .root) .component)) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}
