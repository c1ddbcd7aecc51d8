{{- define "ff-relay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "ff-relay.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "ff-relay.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ff-relay.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "ff-relay.selector" -}}
app.kubernetes.io/name: {{ include "ff-relay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ff-relay.labels" -}}
{{ include "ff-relay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "ff-relay.secretName" -}}
{{- .Values.existingSecret.name | default (include "ff-relay.fullname" .) -}}
{{- end }}

{{/* What cannot work is said before anything is installed. */}}
{{- define "ff-relay.check" -}}
{{- if and .Values.replica.enabled (not .Values.redis.address) }}
{{- fail "replica.enabled needs redis.address" }}
{{- end }}
{{- if not .Values.existingSecret.name }}
{{- if or (not .Values.secret.proxyKey) (not .Values.secret.authSecret) }}
{{- fail "set existingSecret.name, or, to try the chart, secret.proxyKey and secret.authSecret" }}
{{- end }}
{{- end }}
{{- range $name := list "PORT" "EXTRA_PORTS" "TLS_ENABLED" "TLS_CERT" "TLS_KEY" "PROXY_KEY" "AUTH_SECRET" "REDIS_PASSWORD" "REDIS_ADDRESS" "READ_REPLICA" "DATA_DIR" }}
{{- range list $.Values.settings $.Values.primary.settings $.Values.replica.settings }}
{{- if hasKey . $name }}
{{- fail (printf "%s is set by the chart itself; see values.yaml for what decides it" $name) }}
{{- end }}
{{- if hasKey . "TLS_CLIENT_CA" }}
{{- fail "with TLS_CLIENT_CA Kubernetes' probes are refused, as they show no certificate" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A relay's pod. Takes (root, role, values of the role). */}}
{{- define "ff-relay.pod" -}}
{{- $root := .root -}}
{{- $isReplica := eq .role "replica" -}}
{{- $values := $root.Values -}}
{{- $scheme := ternary "HTTPS" "HTTP" (ne $values.tls.secretName "") -}}
{{- $settings := merge (dict) .values.settings $values.settings -}}
metadata:
  labels:
    {{- include "ff-relay.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  {{- with .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  # Variables that Kubernetes makes of Services could be taken for settings.
  enableServiceLinks: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Longer than the relay drains.
  terminationGracePeriodSeconds: {{ add 20 (int (get $settings "DRAIN_SECONDS" | default 10)) }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: relay
      image: "{{ $values.image.repository }}:{{ $values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      ports:
        - name: http
          containerPort: 8000
      env:
        - name: PORT
          value: "8000"
        - name: EXTRA_PORTS
          value: ""
        - name: AUTH_SECRET_FILE
          value: /secrets/{{ $values.existingSecret.authSecret }}
        {{- with $values.existingSecret.authSecretPrevious }}
        - name: AUTH_SECRET_PREVIOUS_FILE
          value: /secrets/{{ . }}
        {{- end }}
        {{- if $isReplica }}
        - name: READ_REPLICA
          value: "true"
        {{- else }}
        - name: PROXY_KEY_FILE
          value: /secrets/{{ $values.existingSecret.proxyKey }}
        - name: DATA_DIR
          value: /data
        {{- end }}
        {{- with $values.redis.address }}
        - name: REDIS_ADDRESS
          value: {{ . | quote }}
        {{- end }}
        {{- with $values.redis.username }}
        - name: REDIS_USERNAME
          value: {{ . | quote }}
        {{- end }}
        {{- with $values.existingSecret.redisPassword }}
        - name: REDIS_PASSWORD_FILE
          value: /secrets/{{ . }}
        {{- end }}
        {{- if $values.tls.secretName }}
        - name: TLS_ENABLED
          value: "true"
        - name: TLS_CERT
          value: /tls/tls.crt
        - name: TLS_KEY
          value: /tls/tls.key
        {{- end }}
        {{- range $name, $value := $settings }}
        - name: {{ $name }}
          value: {{ $value | toString | quote }}
        {{- end }}
      # Alive, though there may be nothing to serve yet: no restart helps against a SaaS that is away.
      startupProbe:
        httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 2
        failureThreshold: 2
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: secrets, mountPath: /secrets, readOnly: true}
        {{- if $values.tls.secretName }}
        - {name: tls, mountPath: /tls, readOnly: true}
        {{- end }}
        {{- if not $isReplica }}
        - {name: data, mountPath: /data}
        {{- end }}
  volumes:
    - name: secrets
      secret:
        secretName: {{ include "ff-relay.secretName" $root }}
        defaultMode: 0440
    {{- if $values.tls.secretName }}
    - name: tls
      secret:
        secretName: {{ $values.tls.secretName }}
        defaultMode: 0440
    {{- end }}
    {{- if and (not $isReplica) (not $values.primary.persistence.enabled) }}
    - name: data
      emptyDir: {}
    {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $isReplica }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "ff-relay.selector" $root | nindent 10 }}
          app.kubernetes.io/component: replica
  {{- end }}
{{- end }}
