{{/* A relay's variables, a YAML list. Takes (root, role, values of the role, settings). */}}
{{- define "ff-relay.env" -}}
{{- $values := .root.Values -}}
{{- $settings := .settings -}}
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
{{- if eq .role "replica" }}
- name: READ_REPLICA
  value: "true"
{{- else if $values.offline.enabled }}
- name: OFFLINE
  value: "true"
- name: CONFIG_DIR
  value: /config
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
{{- range $name, $setting := include "ff-relay.authorities" . | fromJson }}
- name: {{ $setting }}
  value: /ca/{{ $name }}.crt
{{- end }}
{{- range $name, $value := $settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- /* Probes ask there, as they have no certificate; it is open to the pod alone. */ -}}
{{- if and (include "ff-relay.clientsShowCertificates" .) (not $settings.ADMIN_PORT) }}
- name: ADMIN_PORT
  value: {{ include "ff-relay.adminPort" . | quote }}
{{- end }}
{{- with concat $values.extraEnv .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes (root, settings). */}}
{{- define "ff-relay.adminPort" -}}
{{- with .settings.ADMIN_PORT }}{{ . }}
{{- else }}{{ ternary "8002" "8001" (eq (include "ff-relay.metricsPort" .root) "8001") }}
{{- end -}}
{{- end }}

{{/* What a probe does to ask for a path. Takes (root, settings, path). */}}
{{- define "ff-relay.probe" -}}
{{- if include "ff-relay.clientsShowCertificates" . -}}
{{- $host := default "127.0.0.1" .settings.ADMIN_ADDRESS -}}
{{- if has $host (list "0.0.0.0" "::") }}{{ $host = "127.0.0.1" }}{{ end -}}
{{- if contains ":" $host }}{{ $host = printf "[%s]" $host }}{{ end -}}
exec:
  command: [/ff-relay, healthcheck, "--url=http://{{ $host }}:{{ include "ff-relay.adminPort" . }}{{ .path }}"]
timeoutSeconds: 6
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ ternary "HTTPS" "HTTP" (ne .root.Values.tls.secretName "") }}}
timeoutSeconds: 3
{{- end }}
{{- end }}
