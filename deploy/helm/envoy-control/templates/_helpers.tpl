{{/* The name that all objects begin with. */}}
{{- define "ec.fullname" -}}
{{- $given := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- .Values.fullnameOverride | default $given | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The name of one object: list ROOT KEY. */}}
{{- define "ec.object" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- get $root.Values.names $key | default (printf "%s-%s" (include "ec.fullname" $root) $key) -}}
{{- end }}

{{- define "ec.secret" -}}
{{- .Values.existingSecret | default (printf "%s-secrets" (include "ec.fullname" .)) -}}
{{- end }}

{{/* Labels that select the pods of a component: list ROOT COMPONENT. */}}
{{- define "ec.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "ec.labels" -}}
app: {{ include "ec.fullname" (index . 0) }}
{{ include "ec.selector" . }}
{{- end }}

{{/* The DNS name of all nodes; with a pod's name before it that of one. */}}
{{- define "ec.domain" -}}
{{ include "ec.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{/* The ids of the nodes that may vote and found the cluster, with commas. */}}
{{- define "ec.initialMembers" -}}
{{- $names := list -}}
{{- range until (int .Values.voters) -}}
{{- $names = append $names (printf "%s-%d" (include "ec.fullname" $) .) -}}
{{- end -}}
{{- join "," $names -}}
{{- end }}

{{/* How many pods the StatefulSet asks for; nothing while the autoscaler says it.
Left out where a release said a number before, or where the StatefulSet is made
anew, Kubernetes makes it 1. So once the autoscaler has taken over, which an
annotation remembers, it is what there is. */}}
{{- define "ec.replicas" -}}
{{- if not .Values.autoscaling.enabled -}}
{{ .Values.replicaCount }}
{{- else -}}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "ec.fullname" .) -}}
{{- $scaler := lookup "autoscaling/v2" "HorizontalPodAutoscaler" .Release.Namespace (include "ec.object" (list . "hpa")) -}}
{{- $marked := hasKey (dig "metadata" "annotations" dict $set) "envoy-control/replicas" -}}
{{- if and $set (or $marked (not $scaler)) -}}
{{ max (int $set.spec.replicas) (int .Values.autoscaling.minReplicas) }}
{{- else if and $scaler (not $set) -}}
{{ max (int (dig "status" "currentReplicas" 0 $scaler)) (int (dig "status" "desiredReplicas" 0 $scaler)) (int .Values.autoscaling.minReplicas) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ec.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Nine tenths of the memory limit, for Go's collector. */}}
{{- define "ec.memoryLimit" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $number := regexFind "^[0-9]+" $limit | int -}}
{{- $mebibytes := hasSuffix "Gi" $limit | ternary (mul $number 1024) $number -}}
{{ div (mul $mebibytes 9) 10 }}MiB
{{- end }}

{{/* What restricted pod security asks of a pod: a numeric user. */}}
{{- define "ec.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "ec.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* URL of the bundled Postgres: list ROOT COMPONENT. The password is in PGPASSWORD. */}}
{{- define "ec.databaseURL" -}}
{{- $root := index . 0 -}}
postgres://envoy_control@{{ include "ec.fullname" $root }}-{{ index . 1 }}.{{ $root.Release.Namespace }}.svc:5432/{{ $root.Values.postgresql.auth.database }}?sslmode=disable
{{- end }}

{{- define "ec.postgresSecret" -}}
{{- .Values.postgresql.auth.existingSecret | default (printf "%s-postgresql" (include "ec.fullname" .)) -}}
{{- end }}
