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

{{/* A value as the relay reads it: numbers of a values file are floats, and 1000000 would be 1e+06. */}}
{{- define "ff-relay.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) (float64 .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end -}}
{{- end }}

{{/* The settings of a role, as JSON: its own win, also with false and 0, which `merge` takes for unset.
     Takes (root, values of the role). */}}
{{- define "ff-relay.settings" -}}
{{- $settings := dict -}}
{{- range list .root.Values.settings .values.settings -}}
{{- range $name, $value := . -}}
{{- $_ := set $settings $name (include "ff-relay.text" $value) -}}
{{- end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end }}

{{/* The port of /metrics where it is one of its own; else empty: then it is that of the API. */}}
{{- define "ff-relay.metricsPort" -}}
{{- $port := include "ff-relay.text" (get .Values.settings "PROMETHEUS_PORT") -}}
{{- if ne $port "8000" }}{{ $port }}{{ end -}}
{{- end }}

{{/* Which authorities a role is given, as JSON: the setting of each. Takes (root, role). */}}
{{- define "ff-relay.authorities" -}}
{{- $ca := .root.Values.ca -}}
{{- $found := dict -}}
{{- range $name, $setting := dict "upstream" "UPSTREAM_CA" "redis" "REDIS_TLS_CA" "clients" "TLS_CLIENT_CA" -}}
{{- $source := get $ca $name -}}
{{- /* A replica never talks to SaaS. */ -}}
{{- if and (or $source.configMap $source.secret) (not (and (eq $.role "replica") (eq $name "upstream"))) -}}
{{- $_ := set $found $name $setting -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* "true" where clients must show certificates. Takes (root, settings of the role). */}}
{{- define "ff-relay.clientsShowCertificates" -}}
{{- $clients := .root.Values.ca.clients -}}
{{- if or $clients.configMap $clients.secret (get .settings "TLS_CLIENT_CA") }}true{{ end -}}
{{- end }}

{{/* What limits how many relays of a role are taken away at a time. Takes (root, role, budget). */}}
{{- define "ff-relay.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "ff-relay.fullname" .root }}-{{ .role }}
  labels:
    {{- include "ff-relay.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  maxUnavailable: {{ .budget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "ff-relay.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
{{- end }}

{{/* Seconds between the decision to stop a pod and SIGTERM; 0 where Kubernetes cannot wait by itself. */}}
{{- define "ff-relay.preStopSeconds" -}}
{{- ternary (int .Values.preStopSeconds) 0 (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- end }}

{{/* The account that pods run as; empty: the namespace's default. */}}
{{- define "ff-relay.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "ff-relay.fullname" .) "" .Values.serviceAccount.create) -}}
{{- end }}
