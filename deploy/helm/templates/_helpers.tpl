{{- define "portside.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "portside.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portside.labels" -}}
{{ include "portside.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* A setting as the environment spells it. */}}
{{- define "portside.value" -}}
{{- if kindIs "slice" . }}{{ join " " . }}
{{- else }}{{ . }}
{{- end }}
{{- end }}

{{- /* Values with which the pods cannot start are refused here. */}}
{{- define "portside.check" -}}
{{- $shared := and (index .Values.settings "database") (index .Values.settings "storage") }}
{{- if and (gt (int .Values.replicas) 1) (not $shared) }}
{{- fail "replicas: more than one pod needs the settings database and storage" }}
{{- end }}
{{- if not (or .Values.persistence.enabled $shared) }}
{{- fail "persistence.enabled: without a volume, the settings database and storage are needed" }}
{{- end }}
{{- range $name := list "listen" "data" }}
{{- if hasKey $.Values.settings $name }}
{{- fail (printf "settings: the chart sets %s itself" $name) }}
{{- end }}
{{- end }}
{{- if hasKey .Values.settings "metrics-listen" }}
{{- fail "settings: set metrics.enabled and metrics.port instead of metrics-listen" }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.podMonitor: metrics.enabled is needed as well" }}
{{- end }}
{{- end }}

{{- /* Whether the pods keep everything in a volume. */}}
{{- define "portside.volume" -}}
{{- if not (and (index .Values.settings "database") (index .Values.settings "storage")) }}yes{{ end }}
{{- end }}

{{- /* What the containers of a pod have in common. */}}
{{- define "portside.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ include "portside.name" . }}
  {{- with .Values.secret }}
  - secretRef:
      name: {{ . }}
  {{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if include "portside.volume" . }}
  - name: data
    mountPath: /var/lib/portside
  {{- end }}
  {{- if .Values.files }}
  - name: files
    mountPath: /etc/portside
    readOnly: true
  {{- end }}
  {{- if .Values.secretFiles }}
  - name: secrets
    mountPath: /etc/portside-secrets
    readOnly: true
  {{- end }}
  {{- if .Values.admin.secret }}
  - name: admin
    mountPath: /etc/portside-admin
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
