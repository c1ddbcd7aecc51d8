{{/* Where a relay's volumes are mounted, a YAML list. Takes (root, role, values of the role). */}}
{{- define "ff-relay.volumeMounts" -}}
{{- $values := .root.Values -}}
- {name: secrets, mountPath: /secrets, readOnly: true}
{{- if $values.tls.secretName }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- if include "ff-relay.authorities" . | fromJson }}
- {name: ca, mountPath: /ca, readOnly: true}
{{- end }}
{{- if $values.offline.enabled }}
{{- range $index, $id := keys $values.offline.configMaps | sortAlpha }}
- {name: config-{{ $index }}, mountPath: {{ printf "/config/env-%s" $id | quote }}, readOnly: true}
{{- end }}
{{- if $values.offline.existingClaim }}
- {name: config, mountPath: /config, readOnly: true}
{{- end }}
{{- else if eq .role "primary" }}
- {name: data, mountPath: /data}
{{- end }}
{{- with concat $values.extraVolumeMounts .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A relay's volumes, a YAML list. Takes (root, role, values of the role). */}}
{{- define "ff-relay.volumes" -}}
{{- $values := .root.Values -}}
{{- $secret := $values.existingSecret -}}
{{- $keys := list $secret.authSecret -}}
{{- range list $secret.authSecretPrevious $secret.redisPassword -}}
{{- if . }}{{ $keys = append $keys . }}{{ end -}}
{{- end -}}
{{- if and (eq .role "primary") (not $values.offline.enabled) -}}
{{- $keys = append $keys $secret.proxyKey -}}
{{- end -}}
# Only the keys that the role uses: a replica holds no proxy key.
- name: secrets
  secret:
    secretName: {{ include "ff-relay.secretName" .root }}
    defaultMode: 0440
    items:
      {{- range uniq $keys }}
      - {key: {{ . | quote }}, path: {{ . | quote }}}
      {{- end }}
{{- if $values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ $values.tls.secretName }}
    defaultMode: 0440
{{- end }}
{{- with include "ff-relay.authorities" . | fromJson }}
- name: ca
  projected:
    sources:
      {{- range $name, $setting := . }}
      {{- $source := get $values.ca $name }}
      - {{ ternary "secret" "configMap" (empty $source.configMap) }}:
          name: {{ $source.configMap | default $source.secret }}
          items: [{key: {{ $source.key | quote }}, path: {{ $name }}.crt}]
      {{- end }}
{{- end }}
{{- if $values.offline.enabled }}
{{- range $index, $id := keys $values.offline.configMaps | sortAlpha }}
- name: config-{{ $index }}
  configMap: {name: {{ get $values.offline.configMaps $id }}}
{{- end }}
{{- with $values.offline.existingClaim }}
- name: config
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- else if and (eq .role "primary") (not $values.primary.persistence.enabled) }}
- name: data
  emptyDir: {}
{{- end }}
{{- with concat $values.extraVolumes .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
