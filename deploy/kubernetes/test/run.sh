#!/usr/bin/env bash
# Installs the chart in a kube-apiserver on loopback, with helm: every object is checked as in a cluster, and the pods by
# the profile "restricted" of the Pod Security Standards. Nothing schedules or runs them. The programs are built from their
# Go modules in the folder that is named; etcd is the system's (Debian: etcd-server).
# usage: run.sh FOLDER
set -euo pipefail

cd "$(dirname "$0")/.."
bin=$(realpath -m "$1")
kubernetes=1.37.2
helm=3.19.5
mkdir -p "$bin"

# Both are main modules of their own, so that nothing of them is a dependency of serve.
build_apiserver() {
	local module=$bin/apiserver mod name
	mkdir -p "$module"
	printf 'module apiserver\n\ngo 1.26\n\nrequire k8s.io/kubernetes v%s\n' "$kubernetes" >"$module/go.mod"
	mod=$(cd "$module" && go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
	# Kubernetes names its parts without a version, since they are in its own tree.
	for name in $(awk '$1 ~ /^k8s.io\// && $2 == "v0.0.0" { print $1 }' "$mod" | sort -u); do
		echo "replace $name => $name v0.${kubernetes#1.}" >>"$module/go.mod"
	done
	# helm asks for the version, which its own build sets.
	(cd "$module" && GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o "$bin/kube-apiserver" \
		-ldflags "-X k8s.io/component-base/version.gitVersion=v$kubernetes" k8s.io/kubernetes/cmd/kube-apiserver)
}

[ -x "$bin/kube-apiserver" ] || build_apiserver
[ -x "$bin/helm" ] || GOFLAGS='' CGO_ENABLED=0 GOBIN=$bin go install "helm.sh/helm/v3/cmd/helm@v$helm"

work=$(mktemp -d)
pids=()
cleanup() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
	wait
	rm -rf "$work"
}
trap cleanup EXIT

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
store=http://127.0.0.1:$(free_port)
peer=http://127.0.0.1:$(free_port)
port=$(free_port)
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
echo "$token,admin,admin,system:masters" >"$work/tokens"
openssl genrsa -out "$work/accounts.pem" 2048 2>/dev/null

etcd --data-dir "$work/etcd" --listen-client-urls "$store" --advertise-client-urls "$store" \
	--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" >"$work/etcd.log" 2>&1 &
pids+=($!)
"$bin/kube-apiserver" --etcd-servers "$store" --bind-address 127.0.0.1 --secure-port "$port" --cert-dir "$work/certs" \
	--token-auth-file "$work/tokens" --authorization-mode AlwaysAllow --service-cluster-ip-range 10.96.0.0/16 \
	--service-account-issuer https://kubernetes --service-account-key-file "$work/accounts.pem" \
	--service-account-signing-key-file "$work/accounts.pem" --disable-admission-plugins ServiceAccount >"$work/api.log" 2>&1 &
pids+=($!)

api=https://127.0.0.1:$port
ask() { curl --silent --show-error --insecure --header "Authorization: Bearer $token" "$@"; }
for _ in $(seq 300); do
	[ "$(ask "$api/readyz" 2>/dev/null)" = ok ] && break
	sleep 0.2
done
[ "$(ask "$api/readyz")" = ok ] || { tail "$work/api.log"; exit 1; }

# create URL FILE makes an object, and fails for any field that the server does not know, and any warning.
create() {
	ask --fail-with-body --dump-header "$work/headers" --header 'Content-Type: application/yaml' \
		--data-binary "@$2" --output "$work/answer" "$1?fieldValidation=Strict" || { cat "$work/answer"; return 1; }
	! grep -i '^warning:' "$work/headers"
}
create "$api/apis/apiextensions.k8s.io/v1/customresourcedefinitions" test/inferencepool-crd.yaml
for _ in $(seq 100); do
	ask --fail --output "$work/answer" "$api/apis/inference.networking.k8s.io/v1/inferencepools" 2>/dev/null && break
	sleep 0.2
done

cat >"$work/kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{ name: test, cluster: { server: "$api", insecure-skip-tls-verify: true } }]
users: [{ name: admin, user: { token: "$token" } }]
contexts: [{ name: test, context: { cluster: test, user: admin } }]
current-context: test
EOF
export KUBECONFIG=$work/kubeconfig HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm

"$bin/helm" lint --quiet . --set model.name=m --set model.source=volume --set model.claim=models

# try NAME VALUES... installs the chart with values in a namespace of its own, which admits only pods of "restricted".
try() {
	local name=$1 file
	shift
	cat >"$work/namespace" <<-EOF
		apiVersion: v1
		kind: Namespace
		metadata:
		  name: $name
		  labels: { pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted }
	EOF
	create "$api/api/v1/namespaces" "$work/namespace"
	"$bin/helm" install "$name" . --namespace "$name" --no-hooks "$@" >/dev/null
	"$bin/helm" template "$name" . --namespace "$name" --kube-version "$kubernetes" "$@" --output-dir "$work/$name" >/dev/null

	# Once more without helm, which is silent about warnings.
	file=$work/$name/serve/templates
	create "$api/apis/apps/v1/namespaces/$name/deployments" <(sed "0,/name: $name/s//name: again/" "$file/deployment.yaml")
	if [ -e "$file/fetch.yaml" ]; then
		create "$api/apis/batch/v1/namespaces/$name/jobs" "$file/fetch.yaml"
	fi
	echo "$name: $("$bin/helm" get manifest "$name" --namespace "$name" | grep -c '^kind:') objects"
}
try bundle --set model.name=mistral-7b --set model.bundle.volume.persistentVolumeClaim.claimName=bundles
try hub --set model.name=mistral-7b --set model.source=hub --set model.claim=models --set model.hub.tokenSecret=hub \
	--set metricsNames=vllm --set autoscaling.enabled=true --set 'clients.trustedProxies={10.0.0.0/8}'
try volume --set model.name=/var/lib/serve/model.gguf --set model.source=volume --set model.claim=models \
	--set inferencePool.enabled=false

# Values that would make pods that cannot start are refused.
for bad in model.name= model.source=elsewhere model.bundle.volume=null metricsNames=other; do
	if "$bin/helm" template t . --kube-version "$kubernetes" --set model.name=m \
		--set model.bundle.volume.emptyDir.sizeLimit=1Gi --set "$bad" >/dev/null 2>&1; then
		echo "the chart takes $bad"
		exit 1
	fi
done
echo "the chart is as a kube-apiserver $kubernetes wants it"
