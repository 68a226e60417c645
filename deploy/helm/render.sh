#!/usr/bin/env bash
# Renders the plain manifests of deploy/k8s from the chart, one file for each
# template, and the list of them for kustomize:
#   HELM=... deploy/helm/render.sh DIRECTORY
set -euo pipefail

chart="$(dirname "${BASH_SOURCE[0]}")/envoy-control"
into="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"$HELM" template envoy-control "$chart" --namespace envoy-control --kube-version 1.30 \
  --values "$chart/../plain.yaml" --no-hooks --skip-tests --output-dir "$work" >/dev/null

mkdir -p "$into"
rm -f "$into"/*.yaml
{
  echo "# Rendered from deploy/helm by \`make manifests\`, as are the files that it lists:"
  echo "#   kubectl apply -k deploy/k8s"
  echo "# The pods wait for the secret, which you make then (example/secret.yaml). Needs"
  echo "# Kubernetes 1.30 or later."
  echo "apiVersion: kustomize.config.k8s.io/v1beta1"
  echo "kind: Kustomization"
  echo "resources:"
} > "$into/kustomization.yaml"
for file in "$work"/envoy-control/templates/*.yaml; do
  name="$(basename "$file")"
  sed -e '/^# Source: /d' -e '1{/^---$/d}' "$file" > "$into/$name"
  echo "  - $name" >> "$into/kustomization.yaml"
done
