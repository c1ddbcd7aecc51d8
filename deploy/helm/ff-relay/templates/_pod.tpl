{{/* A relay's pod. Takes (root, role, values of the role). */}}
{{- define "ff-relay.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $settings := include "ff-relay.settings" . | fromJson -}}
{{- $given := dict "root" $root "role" .role "values" .values "settings" $settings -}}
{{- $env := include "ff-relay.env" $given -}}
{{- $mounts := include "ff-relay.volumeMounts" $given -}}
{{- $volumes := include "ff-relay.volumes" $given -}}
{{- include "ff-relay.unique" (dict "text" $env "key" "name" "what" "variables") -}}
{{- include "ff-relay.unique" (dict "text" $mounts "key" "mountPath" "what" "volume mounts") -}}
{{- include "ff-relay.unique" (dict "text" $volumes "key" "name" "what" "volumes") -}}
metadata:
  labels:
    {{- include "ff-relay.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
    {{- with .values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  {{- with include "ff-relay.serviceAccount" $root }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # Variables that Kubernetes makes of Services could be taken for settings.
  enableServiceLinks: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $preStop := int (include "ff-relay.preStopSeconds" $root) }}
  # Longer than the relay waits and drains.
  terminationGracePeriodSeconds: {{ add 20 (int (get $settings "DRAIN_SECONDS" | default "10")) $preStop }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  containers:
    - name: relay
      image: "{{ $values.image.repository }}:{{ $values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- if $preStop }}
      # So long it serves on as if nothing were: until no node leads connections to it any more.
      lifecycle:
        preStop:
          sleep: {seconds: {{ $preStop }}}
      {{- end }}
      ports:
        - name: http
          containerPort: 8000
        {{- with include "ff-relay.metricsPort" $root }}
        - name: metrics
          containerPort: {{ . }}
        {{- end }}
      env:
        {{- $env | nindent 8 }}
      {{- with concat $values.envFrom .values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # Alive, though there may be nothing to serve yet: no restart helps against a SaaS that is away.
      startupProbe:
        {{- include "ff-relay.probe" (merge (dict "path" "/livez") $given) | nindent 8 }}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        {{- include "ff-relay.probe" (merge (dict "path" "/livez") $given) | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        {{- include "ff-relay.probe" (merge (dict "path" "/readyz") $given) | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 2
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        {{- $mounts | nindent 8 }}
  volumes:
    {{- $volumes | nindent 4 }}
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
  {{- if or (eq .role "replica") $values.offline.enabled }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "ff-relay.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .role }}
  {{- end }}
{{- end }}
