{{- define "serve.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "serve.selector" -}}
app.kubernetes.io/name: serve
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "serve.labels" -}}
app.kubernetes.io/name: serve
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "serve.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "serve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "serve.image" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "serve.check" -}}
{{- if not .Values.model.name }}{{ fail "model.name: which model?" }}{{ end -}}
{{- if not (has .Values.model.source (list "bundle" "hub" "volume")) }}{{ fail "model.source is bundle, hub or volume" }}{{ end -}}
{{- if and (eq .Values.model.source "bundle") (not .Values.model.bundle.volume) }}{{ fail "model.bundle.volume: where is the bundle?" }}{{ end -}}
{{- if and (ne .Values.model.source "bundle") (not .Values.model.claim) }}{{ fail "model.claim: which volume do the pods share?" }}{{ end -}}
{{- if not (has .Values.metricsNames (list "serve" "vllm")) }}{{ fail "metricsNames is serve or vllm" }}{{ end -}}
{{- end -}}
