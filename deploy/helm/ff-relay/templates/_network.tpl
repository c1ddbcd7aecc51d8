{{/* The port of a URL or of host:port. Takes (url, default). */}}
{{- define "ff-relay.portOf" -}}
{{- $host := regexReplaceAll "^[a-z+]+://" (trim .url) "" -}}
{{- $host = regexReplaceAll "^.*@" $host "" -}}
{{- $host = regexReplaceAll "[/?#].*$" $host "" -}}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default .default -}}
{{- end }}

{{/* Ports of Redis, as JSON: of the address, and those of the values besides. */}}
{{- define "ff-relay.redisPorts" -}}
{{- $more := .Values.networkPolicy.redisPorts -}}
{{- $sentinel := contains "+sentinel://" .Values.redis.address -}}
{{- $ports := list -}}
{{- range splitList "," .Values.redis.address -}}
{{- $ports = append $ports (include "ff-relay.portOf" (dict "url" . "default" (ternary "26379" "6379" $sentinel))) -}}
{{- end -}}
{{- range $more -}}
{{- $ports = append $ports (include "ff-relay.text" .) -}}
{{- end -}}
{{- /* Sentinels tell of a master whose port is nowhere in the values. */ -}}
{{- if and $sentinel (not $more) -}}
{{- $ports = append $ports "6379" -}}
{{- end -}}
{{- uniq $ports | toJson -}}
{{- end }}

{{/* A role's variables that have a value here, as JSON; of another source they are "". Takes (root,
     values of the role). */}}
{{- define "ff-relay.variables" -}}
{{- $found := dict -}}
{{- range concat .root.Values.extraEnv .values.extraEnv -}}
{{- $_ := set $found .name (get . "value" | toString) -}}
{{- end -}}
{{- merge (include "ff-relay.settings" . | fromJson) $found | toJson -}}
{{- end }}

{{/* Ports of SaaS and of a proxy before it, as JSON: those of the values, and those that variables say.
     Takes (root, values of the role). */}}
{{- define "ff-relay.saasPorts" -}}
{{- $variables := include "ff-relay.variables" . | fromJson -}}
{{- $ports := list -}}
{{- range .root.Values.networkPolicy.saasPorts -}}
{{- $ports = append $ports (include "ff-relay.text" .) -}}
{{- end -}}
{{- range list "CLIENT_SERVICE" "METRIC_SERVICE" "HTTPS_PROXY" "https_proxy" "HTTP_PROXY" "http_proxy" "ALL_PROXY" "all_proxy" -}}
{{- with include "ff-relay.portOf" (dict "url" (get $variables .) "default" "") -}}
{{- $ports = append $ports . -}}
{{- end -}}
{{- end -}}
{{- uniq $ports | toJson -}}
{{- end }}

{{/* The port of a role's collector of traces; empty: it has none, or one in the pod. Takes (root,
     values of the role). */}}
{{- define "ff-relay.collectorPort" -}}
{{- $variables := include "ff-relay.variables" . | fromJson -}}
{{- range list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" -}}
{{- if and (hasKey $variables .) (not (get $variables .)) (not $.root.Values.networkPolicy.egress) -}}
{{- fail (printf "networkPolicy: the value of %s comes from elsewhere, so its port is not known here: let relays out to it by networkPolicy.egress" .) -}}
{{- end -}}
{{- end -}}
{{- with get $variables "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" | default (get $variables "OTEL_EXPORTER_OTLP_ENDPOINT") -}}
{{- include "ff-relay.portOf" (dict "url" . "default" (ternary "80" "443" (hasPrefix "http://" .))) -}}
{{- end -}}
{{- end }}

{{/* Rules for what a role reaches besides SaaS, a YAML list. Takes (root, values of the role). */}}
{{- define "ff-relay.egress" -}}
{{- $root := .root -}}
# Names.
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- if $root.Values.redis.address }}
- ports:
    {{- range include "ff-relay.redisPorts" $root | fromJsonArray }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- with include "ff-relay.collectorPort" . }}
# Traces.
- ports:
    - {protocol: TCP, port: {{ . }}}
{{- end }}
{{- if regexMatch "^(?i:true|t|1)$" (get (include "ff-relay.variables" . | fromJson) "GCP_PROFILER_ENABLED") }}
# Cloud Profiler, and the metadata server: of a machine, and of GKE's Workload Identity.
- ports:
    - {protocol: TCP, port: 443}
- to: [{ipBlock: {cidr: 169.254.169.254/32}}, {ipBlock: {cidr: 169.254.169.252/32}}]
  ports:
    - {protocol: TCP, port: 80}
    - {protocol: TCP, port: 988}
{{- end }}
{{- end }}
