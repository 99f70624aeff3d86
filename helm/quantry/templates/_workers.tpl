{{/* The workers of one name. */}}

{{/* What a worker's name and queues must be: fails with a sentence. Of (dict "root" $ "name" "gpu" "worker" merged). */}}
{{- define "quantry.workers.check" -}}
{{- $known := list -}}
{{- range .root.Values.queues }}{{ $known = append $known .name }}{{ end -}}
{{- $gpuQueue := "" -}}
{{- range .worker.queues -}}
{{- if not (has . $known) -}}
{{- fail (printf "workers.%s serves queue %s, which queues does not list: the api would send it no job. There are %s" $.name . (join ", " $known)) -}}
{{- end -}}
{{- if hasPrefix "gpu" . }}{{ $gpuQueue = . }}{{ end -}}
{{- end -}}
{{- if and $gpuQueue (lt (int .worker.gpusPerSlot) 1) -}}
{{- fail (printf "workers.%s serves queue %s but its slots have no GPU: set workers.%s.gpusPerSlot" .name $gpuQueue .name) -}}
{{- end -}}
{{- if and (not $gpuQueue) (gt (int .worker.gpusPerSlot) 0) -}}
{{- fail (printf "workers.%s asks for GPUs and serves no gpu queue: set workers.%s.queues, or gpusPerSlot to 0" .name .name) -}}
{{- end -}}
{{- end -}}

{{- define "quantry.workers.env" -}}
{{- $root := .root -}}
- name: QUANTRY_CONTROL_URL
  value: {{ include "quantry.serviceUrl" (dict "root" $root "component" "gateway" "port" $root.Values.gateway.service.port) }}
- name: QUANTRY_WORK_DIR
  value: /var/lib/quantry
- name: QUANTRY_WORKER_QUEUES
  value: {{ join "," .worker.queues | quote }}
- name: QUANTRY_WORKER_SLOTS
  value: {{ int64 .worker.slots | quote }}
{{- if gt (int .worker.gpusPerSlot) 0 }}
- name: QUANTRY_WORKER_GPUS
  value: auto
- name: QUANTRY_WORKER_GPUS_PER_SLOT
  value: {{ int64 .worker.gpusPerSlot | quote }}
{{- end }}
- name: QUANTRY_WORKER_DRAIN_GRACE_S
  value: {{ int64 .worker.drainGraceSeconds | quote }}
- name: QUANTRY_WORKER_CACHE_BYTES
  value: {{ int64 .worker.cacheBytes | quote }}
{{- if eq .worker.scaling.mode "keda" }}
- name: QUANTRY_WORKER_MAX_IDLE_S
  value: {{ int64 .worker.scaling.maxIdleSeconds | quote }}
{{- end }}
{{- with $root.Values.imports.endpoint }}
- name: QUANTRY_IMPORT_S3_ENDPOINT
  value: {{ . | quote }}
- name: QUANTRY_IMPORT_S3_SECURE
  value: {{ $root.Values.imports.secure | quote }}
- name: QUANTRY_IMPORT_S3_REGION
  value: {{ $root.Values.imports.region | quote }}
{{- end }}
{{ include "quantry.env.blobs" $root }}
{{- include "quantry.env.imports" $root }}
{{- include "quantry.env.outbound" $root }}
{{- end -}}

{{/* Template of a pod. Of (dict "root" $ "name" "gpu" "worker" merged). */}}
{{- define "quantry.workers.pod" -}}
{{- $root := .root -}}
{{- $worker := .worker -}}
{{- $isKeda := eq $worker.scaling.mode "keda" -}}
{{- $secrets := list (printf "- {setting: QUANTRY_WORKER_TOKEN, secret: %s, key: worker_token}" (include "quantry.keysSecret" $root)) (include "quantry.secrets.broker" $root) (include "quantry.secrets.s3" (dict "root" $root "who" "worker")) (include "quantry.secrets.imports" $root) (include "quantry.secrets.proxy" $root) (include "quantry.secrets.metrics" $root) | join "\n" | fromYamlArray -}}
{{- $selector := dict "root" $root "component" "worker" "worker" .name -}}
{{- $annotations := dict -}}
{{- if $isKeda -}}
{{- $annotations = dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" "karpenter.sh/do-not-disrupt" "true" -}}
{{- end -}}
metadata:
  {{- include "quantry.podMetadata" (dict "root" $root "component" "worker" "worker" .name "values" $worker "annotations" $annotations) | nindent 2 }}
spec:
  serviceAccountName: {{ include "quantry.fullname" $root }}-worker
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if $isKeda }}
  restartPolicy: Never
  {{- end }}
  # The drain, the hand-back of what still runs, and some room.
  terminationGracePeriodSeconds: {{ add (int $worker.drainGraceSeconds) 30 }}
  securityContext:
    {{- include "quantry.podSecurity" (dict "root" $root) | nindent 4 }}
  {{- include "quantry.scheduling" (dict "root" $root "values" $worker "selector" $selector "spread" true) | nindent 2 }}
  containers:
    - name: worker
      image: {{ include "quantry.image" (dict "root" $root "image" $worker.image) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [python, -m, quantry_worker]
      env:
        {{- include "quantry.env.process" $root | nindent 8 }}
        {{- include "quantry.workers.env" . | nindent 8 }}
        {{- include "quantry.env.telemetry" (dict "root" $root "port" true) | nindent 8 }}
        {{- include "quantry.secrets.env" $secrets | nindent 8 }}
        {{- include "quantry.env.extra" $worker | nindent 8 }}
      ports:
        - name: metrics
          containerPort: {{ (include "quantry.ports" $root | fromYaml).metrics }}
          protocol: TCP
      # It takes work once the control plane has heard of it: after a first install that may be a while.
      startupProbe:
        {{- include "quantry.workers.probe" (dict "period" 10 "failures" 180) | nindent 8 }}
      readinessProbe:
        {{- include "quantry.workers.probe" (dict "period" 30 "failures" 2) | nindent 8 }}
      livenessProbe:
        {{- include "quantry.workers.probe" (dict "period" 60 "failures" 3) | nindent 8 }}
      {{- $resources := deepCopy $worker.resources }}
      {{- with int $worker.gpusPerSlot }}
      {{- $gpus := dict $worker.gpuResource (mul . $worker.slots | toString) }}
      {{- $resources = merge $resources (dict "limits" $gpus "requests" $gpus) }}
      {{- end }}
      resources:
        {{- toYaml $resources | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext:
        {{- include "quantry.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "quantry.mounts" (dict "root" $root "secrets" $secrets) | nindent 8 }}
        - name: work
          mountPath: /var/lib/quantry
        - name: shm
          mountPath: /dev/shm
        {{- with $worker.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "quantry.volumes" (dict "root" $root "secrets" $secrets "scratch" "8Gi") | nindent 4 }}
    - name: work
      {{- if eq $worker.work.type "ephemeral" }}
      ephemeral:
        volumeClaimTemplate:
          spec:
            accessModes: [ReadWriteOnce]
            {{- with $worker.work.storageClass }}
            storageClassName: {{ . }}
            {{- end }}
            resources:
              requests:
                storage: {{ $worker.work.size }}
      {{- else }}
      emptyDir:
        sizeLimit: {{ $worker.work.size }}
      {{- end }}
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ $worker.sharedMemorySize }}
    {{- with $worker.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Of (dict "period" 30 "failures" 3). A Python process each time: not often. */}}
{{- define "quantry.workers.probe" -}}
exec:
  command: [python, -m, quantry_worker.health]
periodSeconds: {{ .period }}
timeoutSeconds: 10
failureThreshold: {{ .failures }}
{{- end -}}
