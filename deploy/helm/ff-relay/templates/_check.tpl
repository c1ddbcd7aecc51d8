{{/* What cannot work is said before anything is installed. */}}
{{- define "ff-relay.check" -}}
{{- $values := .Values -}}
{{- include "ff-relay.checkOffline" . }}
{{- if and $values.replica.enabled (not $values.redis.address) }}
{{- fail "replica.enabled needs redis.address" }}
{{- end }}
{{- if not $values.existingSecret.name }}
{{- if $values.offline.enabled }}
{{- if not $values.secret.authSecret }}
{{- fail "set existingSecret.name, or, to try the chart, secret.authSecret" }}
{{- end }}
{{- else if or (not $values.secret.proxyKey) (not $values.secret.authSecret) }}
{{- fail "set existingSecret.name, or, to try the chart, secret.proxyKey and secret.authSecret" }}
{{- end }}
{{- end }}
{{- range $name, $source := $values.ca }}
{{- if and $source.configMap $source.secret }}
{{- fail (printf "ca.%s: set configMap or secret, not both" $name) }}
{{- end }}
{{- end }}
{{- include "ff-relay.checkSettings" . }}
{{- range $role, $of := dict "primary" $values.primary "replica" $values.replica }}
{{- $settings := include "ff-relay.settings" (dict "root" $ "values" $of) | fromJson }}
{{- if include "ff-relay.clientsShowCertificates" (dict "root" $ "settings" $settings) }}
{{- if not $values.tls.secretName }}
{{- fail "ca.clients and TLS_CLIENT_CA need tls.secretName: only HTTPS asks clients for certificates" }}
{{- end }}
{{- if and $values.serviceMonitor.enabled (not (include "ff-relay.metricsPort" $)) }}
{{- fail "where clients must show certificates, serviceMonitor.enabled needs settings.PROMETHEUS_PORT: a scraper has none" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ff-relay.checkOffline" -}}
{{- $values := .Values -}}
{{- if $values.offline.enabled }}
{{- range $name, $set := dict "replica.enabled" $values.replica.enabled "redis.address" $values.redis.address "existingSecret.redisPassword" $values.existingSecret.redisPassword }}
{{- if $set }}
{{- fail (printf "offline.enabled and %s exclude each other: an offline relay uses no Redis; see offline.replicas" $name) }}
{{- end }}
{{- end }}
{{- if and $values.offline.configMaps $values.offline.existingClaim }}
{{- fail "set offline.configMaps or offline.existingClaim, not both" }}
{{- end }}
{{- else if or $values.offline.configMaps $values.offline.existingClaim }}
{{- fail "offline.configMaps and offline.existingClaim need offline.enabled" }}
{{- end }}
{{- end }}

{{/* Variables that the chart sets: what decides them is a value of its own. */}}
{{- define "ff-relay.decided" -}}
PORT: service.port
EXTRA_PORTS: service.port
TLS_ENABLED: tls.secretName
TLS_CERT: tls.secretName
TLS_KEY: tls.secretName
PROXY_KEY: existingSecret.proxyKey
PROXY_KEY_FILE: existingSecret.proxyKey
AUTH_SECRET: existingSecret.authSecret
AUTH_SECRET_FILE: existingSecret.authSecret
AUTH_SECRET_PREVIOUS: existingSecret.authSecretPrevious
AUTH_SECRET_PREVIOUS_FILE: existingSecret.authSecretPrevious
REDIS_ADDRESS: redis.address
REDIS_USERNAME: redis.username
REDIS_PASSWORD: existingSecret.redisPassword
REDIS_PASSWORD_FILE: existingSecret.redisPassword
READ_REPLICA: replica.enabled
DATA_DIR: primary.persistence
OFFLINE: offline.enabled
CONFIG_DIR: offline.configMaps
{{- end }}

{{- define "ff-relay.checkSettings" -}}
{{- $values := .Values -}}
{{- $decided := include "ff-relay.decided" . | fromYaml }}
{{- $given := list }}
{{- range list $values $values.primary $values.replica }}
{{- $given = concat $given (keys .settings) }}
{{- range .extraEnv }}
{{- $given = append $given .name }}
{{- if has .name (list "PROMETHEUS_PORT" "ADMIN_PORT" "ADMIN_ADDRESS" "TLS_CLIENT_CA" "DRAIN_SECONDS") }}
{{- fail (printf "extraEnv: %s goes into settings, as other objects depend on it" .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name := $given }}
{{- with get $decided $name }}
{{- fail (printf "%s is set by the chart itself: see %s in values.yaml for what decides it" $name .) }}
{{- end }}
{{- if eq $name "GENERATE_OFFLINE_CONFIG" }}
{{- fail "GENERATE_OFFLINE_CONFIG writes a directory and exits: run it as a Job or elsewhere; see docs/offline.md" }}
{{- end }}
{{- end }}
{{- range list $values.primary $values.replica }}
{{- if hasKey .settings "PROMETHEUS_PORT" }}
{{- fail "PROMETHEUS_PORT goes into settings, the same for every relay, as one ServiceMonitor scrapes all" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Kubernetes refuses a name twice, or lets the last of them win. Takes (text, a YAML list; key; what). */}}
{{- define "ff-relay.unique" -}}
{{- $seen := dict }}
{{- range fromYamlArray .text }}
{{- $name := get . $.key }}
{{- if hasKey $seen $name }}
{{- fail (printf "%s: there are two of %s; leave one of them out" $.what $name) }}
{{- end }}
{{- $_ := set $seen $name true }}
{{- end }}
{{- end }}
