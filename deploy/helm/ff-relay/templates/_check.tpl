{{/* What cannot work is said before anything is installed. */}}
{{- define "ff-relay.check" -}}
{{- $values := .Values -}}
{{- include "ff-relay.checkOffline" . }}
{{- include "ff-relay.checkObjects" . }}
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
{{- range $key := list "redisPassword" "authSecretPrevious" }}
{{- if get $values.existingSecret $key }}
{{- fail (printf "existingSecret.%s names a key of a Secret of yours: set existingSecret.name as well, as the Secret that the chart makes has no such key" $key) }}
{{- end }}
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

{{/* Objects that Kubernetes would refuse, or that would do nothing. */}}
{{- define "ff-relay.checkObjects" -}}
{{- $values := .Values -}}
{{- $name := include "ff-relay.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "%s cannot be the name of a Service, which begins with a letter, and is of small letters, digits and hyphens: set fullnameOverride" $name) }}
{{- end }}
{{- with $values.replica.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "replica.autoscaling: minReplicas (%d) is above maxReplicas (%d)" (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- if and $values.serviceAccount.annotations (not $values.serviceAccount.create) }}
{{- fail "serviceAccount.annotations need serviceAccount.create: an account of yours is annotated by you" }}
{{- end }}
{{- range $role, $of := dict "primary" $values.primary "replica" $values.replica }}
{{- range $label, $text := $of.podLabels }}
{{- if hasKey (include "ff-relay.labels" $ | fromYaml | merge (dict "app.kubernetes.io/component" "")) $label }}
{{- fail (printf "%s.podLabels: %s is set by the chart itself, as Services find pods by it" $role $label) }}
{{- end }}
{{- end }}
{{- $settings := include "ff-relay.settings" (dict "root" $ "values" $of) | fromJson }}
{{- with get $settings "ADMIN_PORT" }}
{{- if eq . "8000" }}
{{- fail "ADMIN_PORT: 8000 is the port of the API in the pod; take another" }}
{{- end }}
{{- if eq . (include "ff-relay.metricsPort" $) }}
{{- fail (printf "ADMIN_PORT and PROMETHEUS_PORT are both %s: they need a port each" .) }}
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
