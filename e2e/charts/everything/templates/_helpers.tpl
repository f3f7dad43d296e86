{{- define "everything.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "everything.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "everything.pod" -}}
metadata:
  labels:
    {{- include "everything.selector" . | nindent 4 }}
    part: {{ .part }}
spec:
  serviceAccountName: {{ .Release.Name }}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: "{{ if eq .part "deployment" }}{{ .Values.web | default .Values.image }}{{ else }}{{ .Values.image }}{{ end }}:{{ .Values.version }}"
    ports: [{name: http, containerPort: 8080}]
    envFrom:
    - configMapRef: {name: {{ .Release.Name }}}
    - secretRef: {name: {{ .Release.Name }}}
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {memory: 64Mi}
    readinessProbe:
      httpGet: {path: /, port: http}
      periodSeconds: 1
{{- end }}
