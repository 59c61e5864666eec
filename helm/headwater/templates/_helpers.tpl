{{/* Names: NAME-PART; `headwater` for a release of that name. */}}
{{- define "headwater.name" -}}
{{- if contains "headwater" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-headwater" (.Release.Name | trunc 30) }}{{- end -}}
{{- end }}

{{- define "headwater.selector" -}}
app.kubernetes.io/name: headwater
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "headwater.selectorJson" -}}
{{ include "headwater.selector" . | fromYaml | toJson }}
{{- end }}

{{- define "headwater.labels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "headwater.image" -}}
{{- $tag := .root.Values.images.tag | default .root.Chart.AppVersion -}}
{{ .root.Values.images.registry }}/{{ .image }}:{{ $tag }}
{{- with get .root.Values.images.digests .image }}@{{ . }}{{ end }}
{{- end }}

{{- define "headwater.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "headwater.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Strimzi makes these pods; without it they have what `baseline` asks. Its images run as 1001 of group 0. */}}
{{- define "headwater.strimziPod" -}}
pod:
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 1001
    fsGroup: 0
    seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "headwater.kafka" -}}
{{- $port := .Values.kafka.security | eq "PLAINTEXT" | ternary 9092 9093 -}}
{{- .Values.kafka.bootstrap | default (printf "%s-kafka-bootstrap:%d" .Values.kafka.strimzi.cluster $port) -}}
{{- end }}

{{- define "headwater.postgres" -}}
{{- if .Values.postgres.create -}}{{ include "headwater.name" . }}-postgres:5432
{{- else -}}{{ required "postgres.address: host:port of the catalog, or postgres.create" .Values.postgres.address }}
{{- end -}}
{{- end }}

{{/* Not empty where stores come with the release: tables can only be made after it. */}}
{{- define "headwater.ownStores" -}}
{{- if or .Values.postgres.create .Values.redis.create .Values.kafka.strimzi.createCluster .Values.storage.claim.create }}yes{{ end }}
{{- end }}

{{- define "headwater.nameServer" -}}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}

{{- define "headwater.outside" -}}
{{- with .Values.networkPolicies.egress -}}
- to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
{{- end -}}
{{- end }}

{{/* Where the captured tables are: in this release's own server, unless another one is named. */}}
{{- define "headwater.sourceHost" -}}
{{- if .Values.source.host -}}{{ .Values.source.host }}
{{- else if .Values.postgres.create -}}{{ include "headwater.name" . }}-postgres
{{- else -}}{{ required "source.host: where the captured tables are" .Values.source.host }}
{{- end -}}
{{- end }}

{{- define "headwater.sourceDatabase" -}}
{{ .Values.source.database | default .Values.repository.name }}
{{- end }}

{{/* A secret's password goes into the address when the pod starts; it must be safe in a URL. */}}
{{- define "headwater.redis" -}}
{{- if and .Values.redis.user (or .Values.redis.create (not .Values.secrets.redis)) -}}
{{- fail "redis.user: comes with the password in secrets.redis, and not with redis.create" -}}
{{- end -}}
{{- if .Values.redis.create -}}redis://{{ include "headwater.name" . }}-redis:6379
{{- else -}}
{{- $url := required "redis.url: redis://host:port, or redis.create" .Values.redis.url -}}
{{- if .Values.secrets.redis -}}
{{ regexReplaceAll "^(rediss?://)" $url (printf "${1}%s:$(REDIS_PASSWORD)@" .Values.redis.user) }}
{{- else -}}{{ $url }}{{- end -}}
{{- end -}}
{{- end }}

{{- define "headwater.redisEnv" -}}
{{- if .Values.secrets.redis }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.redis }}, key: password}}
{{- end }}
- name: HEADWATER_REDIS_URL
  value: {{ include "headwater.redis" . | quote }}
- name: HEADWATER_REDIS_REPLICAS
  value: {{ int .Values.redis.replicas | quote }}
- name: HEADWATER_REDIS_BEHIND_SECONDS
  value: {{ int .Values.redis.behindSeconds | quote }}
{{- end }}

{{- define "headwater.kafkaEnv" }}
- name: HEADWATER_KAFKA
  value: {{ include "headwater.kafka" . | quote }}
- name: HEADWATER_KAFKA_SECURITY
  value: {{ .Values.kafka.security }}
{{- if hasPrefix "SASL" .Values.kafka.security }}
- name: HEADWATER_KAFKA_USER
  value: {{ .Values.kafka.user }}
- name: HEADWATER_KAFKA_PASSWORD_FILE
  value: /secrets/kafka/password
{{- end }}
{{- if .Values.kafka.caSecret }}
- name: HEADWATER_KAFKA_CA_FILE
  value: /secrets/kafka-ca/ca.crt
{{- end }}
{{- end }}

{{/* What the command and the jobs read: flink_jobs/place.py and headwater/settings.py. */}}
{{- define "headwater.env" -}}
{{ include "headwater.tablesEnv" . }}
{{- include "headwater.kafkaEnv" . }}
- name: HEADWATER_OUTAGE_SECONDS
  value: {{ int64 .Values.kafka.outageSeconds | quote }}
{{- include "headwater.redisEnv" . }}
{{- end }}

{{/* The part of it that those read who only look into Iceberg. */}}
{{- define "headwater.tablesEnv" -}}
- name: HEADWATER_REPOSITORY
  value: {{ required "repository.module: comes from the plan, -f feature_repo/NAME/plan/helm/values.yaml" .Values.repository.module | quote }}
- name: HEADWATER_POSTGRES
  value: {{ include "headwater.postgres" . | quote }}
- name: HEADWATER_POSTGRES_PASSWORD_FILE
  value: /secrets/postgres/password
- name: HEADWATER_WAREHOUSE
  value: {{ required "iceberg.warehouse: such as s3://bucket/iceberg" .Values.iceberg.warehouse | quote }}
{{- if eq .Values.iceberg.catalog "rest" }}
- name: HEADWATER_CATALOG_URI
  value: {{ required "iceberg.restUri: the REST catalog's address" .Values.iceberg.restUri | quote }}
{{- if .Values.iceberg.restTokenSecret }}
- name: HEADWATER_CATALOG_TOKEN_FILE
  value: /secrets/catalog/token
- name: PYICEBERG_CATALOG__HEADWATER__TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.iceberg.restTokenSecret }}, key: token}}
{{- end }}
{{- end }}
{{- if .Values.storage.region }}
- name: AWS_REGION
  value: {{ .Values.storage.region }}
- name: PYICEBERG_CATALOG__HEADWATER__S3__REGION
  value: {{ .Values.storage.region }}
{{- end }}
{{- if .Values.storage.endpoint }}
- name: HEADWATER_S3_ENDPOINT
  value: {{ .Values.storage.endpoint }}
- name: PYICEBERG_CATALOG__HEADWATER__S3__ENDPOINT
  value: {{ .Values.storage.endpoint }}
{{- end }}
{{- range $name, $key := dict "AWS_ACCESS_KEY_ID" "accessKey" "AWS_SECRET_ACCESS_KEY" "secretKey" }}
{{- if $.Values.storage.keysSecret }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.storage.keysSecret }}, key: {{ $key }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "headwater.kafkaMounts" }}
{{- if hasPrefix "SASL" .Values.kafka.security }}
- {name: kafka, mountPath: /secrets/kafka, readOnly: true}
{{- end }}
{{- if .Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /secrets/kafka-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "headwater.kafkaVolumes" }}
{{- if hasPrefix "SASL" .Values.kafka.security }}
- {name: kafka, secret: {secretName: {{ .Values.kafka.passwordSecret }}, defaultMode: 0440}}
{{- end }}
{{- if .Values.kafka.caSecret }}
- {name: kafka-ca, secret: {secretName: {{ .Values.kafka.caSecret }}, defaultMode: 0440}}
{{- end }}
{{- end }}

{{- define "headwater.mounts" -}}
{{ include "headwater.tablesMounts" . }}
{{- include "headwater.kafkaMounts" . }}
{{- end }}

{{- define "headwater.tablesMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: postgres, mountPath: /secrets/postgres, readOnly: true}
{{- if .Values.iceberg.restTokenSecret }}
- {name: catalog, mountPath: /secrets/catalog, readOnly: true}
{{- end }}
{{- if .Values.storage.claim.create }}
- {name: warehouse, mountPath: /warehouse}
{{- end }}
{{- end }}

{{- define "headwater.volumes" -}}
{{ include "headwater.tablesVolumes" . }}
{{- include "headwater.kafkaVolumes" . }}
{{- end }}

{{- define "headwater.tablesVolumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 2Gi}}
- {name: postgres, secret: {secretName: {{ .Values.secrets.postgres }}, defaultMode: 0440}}
{{- if .Values.iceberg.restTokenSecret }}
- {name: catalog, secret: {secretName: {{ .Values.iceberg.restTokenSecret }}, defaultMode: 0440}}
{{- end }}
{{- if .Values.storage.claim.create }}
- {name: warehouse, persistentVolumeClaim: {claimName: {{ include "headwater.name" . }}-warehouse}}
{{- end }}
{{- end }}

{{/* Where the captured tables are, for who makes their database ready or asks for a snapshot. */}}
{{- define "headwater.sourceEnv" }}
- name: HEADWATER_SOURCE
  value: {{ printf "%s:%d" (include "headwater.sourceHost" .) (int .Values.source.port) | quote }}
- name: HEADWATER_SOURCE_DATABASE
  value: {{ include "headwater.sourceDatabase" . | quote }}
- name: HEADWATER_SOURCE_USER
  value: {{ .Values.source.user | quote }}
- name: HEADWATER_SOURCE_PASSWORD_FILE
  value: /secrets/source/password
{{- end }}

{{/* One run of the `headwater` command: {root, part, args, check, source, resources, tables}; `tables`: it only looks into Iceberg. */}}
{{- define "headwater.commandPod" -}}
{{- $source := and .source .root.Values.connectors (ne .root.Values.source.preparedBy "nobody") -}}
restartPolicy: Never
serviceAccountName: {{ include "headwater.name" .root }}-command
automountServiceAccountToken: false
# Of Service headwater-api they would make HEADWATER_API_PORT=tcp://..., which is a setting of ours.
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext: {{- include "headwater.podSecurity" . | nindent 2 }}
{{- if .check }}
initContainers:
  - name: plan
    image: {{ include "headwater.image" (dict "root" .root "image" "serving") }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    # Of the scripts that the jobs are to have, so that none is stopped for an image of another version.
    args:
      - plan
      - --check
      {{- range $job, $spec := .root.Values.jobs }}
      - --sql={{ $job }}={{ $spec.sql }}
      {{- end }}
    env: {{- include "headwater.env" .root | nindent 6 }}
    securityContext: {{- include "headwater.containerSecurity" . | nindent 6 }}
    resources: {{- toYaml .root.Values.apply.resources | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
{{- end }}
containers:
  - name: headwater
    image: {{ include "headwater.image" (dict "root" .root "image" "serving") }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    args: {{ toJson .args }}
    env:
      {{- include (.tables | default false | ternary "headwater.tablesEnv" "headwater.env") .root | nindent 6 }}
      {{- if $source }}{{ include "headwater.sourceEnv" .root | nindent 6 }}{{ end }}
    securityContext: {{- include "headwater.containerSecurity" . | nindent 6 }}
    resources: {{- .resources | default .root.Values.apply.resources | toYaml | nindent 6 }}
    volumeMounts:
      {{- include (.tables | default false | ternary "headwater.tablesMounts" "headwater.mounts") .root | nindent 6 }}
      {{- if $source }}
      - {name: source, mountPath: /secrets/source, readOnly: true}
      {{- end }}
volumes:
  {{- include (.tables | default false | ternary "headwater.tablesVolumes" "headwater.volumes") .root | nindent 2 }}
  {{- if $source }}
  - {name: source, secret: {secretName: {{ .root.Values.secrets.source }}, defaultMode: 0440}}
  {{- end }}
{{- end }}
