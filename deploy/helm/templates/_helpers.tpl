{{/* Beginning of every name. */}}
{{- define "registry-indexer.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "registry-indexer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "registry-indexer.labels" -}}
{{ include "registry-indexer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "registry-indexer.image" -}}
{{- $repository := required "image.repository is required: the image that you built from deploy/Dockerfile" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" $repository .Values.image.digest | quote }}
{{- else -}}
{{ printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end -}}
{{- end -}}

{{- define "registry-indexer.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "registry-indexer.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* The secrets as settings → {secret, key, only}, those that the chart makes included. As YAML. */}}
{{- define "registry-indexer.secrets" -}}
{{- $made := dict -}}
{{- if .Values.generateTokens -}}
{{- $name := printf "%s-tokens" (include "registry-indexer.name" .) -}}
{{- $made = dict
      "INDEXER_NOTIFICATIONS_TOKEN" (dict "secret" $name "key" "notifications-token" "only" "serve")
      "INDEXER_API_TOKENS" (dict "secret" $name "key" "api-token" "only" "serve") -}}
{{- end -}}
{{- $all := mergeOverwrite $made (deepCopy .Values.secrets) -}}
{{- if not (hasKey $all "INDEXER_DATABASE_URL") -}}
{{- fail "secrets.INDEXER_DATABASE_URL is required: {secret: …, key: …} of an existing Secret with the URL of the database" -}}
{{- end -}}
{{- if not (hasKey $all "INDEXER_NOTIFICATIONS_TOKEN") -}}
{{- fail "secrets.INDEXER_NOTIFICATIONS_TOKEN is required, or generateTokens: true" -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Of a list (root, program): the settings of its container, as environment. */}}
{{- define "registry-indexer.environment" -}}
{{- $root := index . 0 -}}
{{- $program := index . 1 -}}
{{- range $name, $value := $root.Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $from := include "registry-indexer.secrets" $root | fromYaml }}
{{- if or (not $from.only) (has $program (list $from.only "doctor")) }}
- name: {{ $name }}_FILE
  value: /run/secrets/registry-indexer/{{ $name }}
{{- end }}
{{- end }}
{{- if or $root.Values.policies $root.Values.policiesConfigMap }}
- name: INDEXER_POLICIES_FILE
  value: /etc/registry-indexer/policies/policies.yaml
{{- end }}
{{- end -}}

{{/* Of a list (root, program): the volume of its secrets. */}}
{{- define "registry-indexer.secretVolume" -}}
{{- $root := index . 0 -}}
{{- $program := index . 1 -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $name, $from := include "registry-indexer.secrets" $root | fromYaml }}
      {{- if or (not $from.only) (has $program (list $from.only "doctor")) }}
      - secret:
          name: {{ $from.secret | quote }}
          items:
            - {key: {{ $from.key | quote }}, path: {{ $name }}}
      {{- end }}
      {{- end }}
{{- end -}}

{{/* Of a list (root, program): the volumes that both programs have. */}}
{{- define "registry-indexer.volumes" -}}
{{- $root := index . 0 -}}
{{ include "registry-indexer.secretVolume" . }}
- name: tmp
  emptyDir: {}
{{- if or $root.Values.policies $root.Values.policiesConfigMap }}
- name: policies
  configMap:
    name: {{ $root.Values.policiesConfigMap | default (printf "%s-policies" (include "registry-indexer.name" $root)) }}
{{- end }}
{{- end -}}

{{- define "registry-indexer.mounts" -}}
- {name: secrets, mountPath: /run/secrets/registry-indexer, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if or .Values.policies .Values.policiesConfigMap }}
- {name: policies, mountPath: /etc/registry-indexer/policies, readOnly: true}
{{- end }}
{{- end -}}

{{/* The reconciler's: where the registry's storage is, and how it is reached. */}}
{{- define "registry-indexer.storageEnvironment" -}}
{{- with .Values.storage }}
{{- if and .url .registryConfig.secret }}
{{- fail "storage.url and storage.registryConfig: set one of the two" }}
{{- end }}
{{- if .url }}
- {name: RECONCILER_STORAGE_URL, value: {{ .url | quote }}}
{{- end }}
{{- if .registryConfig.secret }}
- {name: RECONCILER_REGISTRY_CONFIG, value: /run/secrets/registry-config/config.yml}
{{- end }}
{{- with .env }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "registry-indexer.storageMounts" -}}
{{- with .Values.storage }}
{{- if .registryConfig.secret }}
- {name: registry-config, mountPath: /run/secrets/registry-config, readOnly: true}
{{- end }}
{{- if .claim }}
- {name: registry-storage, mountPath: {{ .mountPath | quote }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* The claim itself is read-only, too: of a volume that may be written Kubernetes changes the owner of every file (fsGroup). */}}
{{- define "registry-indexer.storageVolumes" -}}
{{- with .Values.storage }}
{{- if .registryConfig.secret }}
- name: registry-config
  secret:
    secretName: {{ .registryConfig.secret | quote }}
    defaultMode: 0440
    items:
      - {key: {{ .registryConfig.key | quote }}, path: config.yml}
{{- end }}
{{- if .claim }}
- name: registry-storage
  persistentVolumeClaim: {claimName: {{ .claim | quote }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* Nobody's rights: not root, nothing to write but volumes, no way to more. */}}
{{- define "registry-indexer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "registry-indexer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What every pod has. Without enableServiceLinks: false a service called "indexer" would set variables that look like settings. */}}
{{- define "registry-indexer.pod" -}}
serviceAccountName: {{ include "registry-indexer.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "registry-indexer.podSecurity" . | nindent 2 }}
{{- end -}}

{{/* Where the pods of a part may run. */}}
{{- define "registry-indexer.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
