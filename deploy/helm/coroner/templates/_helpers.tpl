{{- define "coroner.selector" -}}
app.kubernetes.io/name: coroner
{{- end }}

{{- define "coroner.labels" -}}
{{ include "coroner.selector" . }}
app.kubernetes.io/part-of: coroner
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "coroner.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Of each runtime: where the bundles and the exit files are, what is mounted there, and which directories the agent looks in. */}}
{{- define "coroner.places" -}}
{{- $task := "io.containerd.runtime.v2.task" -}}
{{- $cri := "io.containerd.grpc.v1.cri" -}}
containerd: {bundles: /run/containerd/{{ $task }}, exits: /var/lib/containerd/{{ $cri }}, below: [k8s.io, containers]}
k3s: {bundles: /run/k3s/containerd/{{ $task }}, exits: /var/lib/rancher/k3s/agent/containerd/{{ $cri }}, below: [k8s.io, containers]}
rke2: {bundles: /run/k3s/containerd/{{ $task }}, exits: /var/lib/rancher/rke2/agent/containerd/{{ $cri }}, below: [k8s.io, containers]}
microk8s: {bundles: /var/snap/microk8s/common/run/containerd/{{ $task }}, exits: /var/snap/microk8s/common/var/lib/containerd/{{ $cri }}, below: [k8s.io, containers]}
k0s: {bundles: /run/k0s/containerd/{{ $task }}, exits: /var/lib/k0s/containerd/{{ $cri }}, below: [k8s.io, containers]}
crio: {bundles: /run/containers/storage, exits: /run/crio/exits, below: [overlay-containers, ""]}
{{- end }}
