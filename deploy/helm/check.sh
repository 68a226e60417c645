#!/usr/bin/env bash
# Checks the chart over the values of cases/, what refused/ holds, and deploy/k8s:
#   HELM=... KUBECTL_VALIDATE=... KUBE_SCORE=... deploy/helm/check.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The oldest that the chart supports, and those after it that its schemas must
# not have left behind.
versions=(1.30 1.33 1.36)
# The only schemas of these that kubectl-validate comes with; deploy's tests
# decode strictly into the types of the newest.
schemas=1.30
# What kube-score finds that is meant so: a throttled leader misses heartbeats;
# topologySpreadConstraints keep pods apart; a version that is pinned starts
# without its registry too; 70 is the user of Postgres' image.
ignored=(
  --ignore-container-cpu-limit
  --ignore-test statefulset-has-host-podantiaffinity
  --ignore-test container-image-pull-policy
  --ignore-test container-security-context-user-group-id
)

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
chart=deploy/helm/envoy-control
failed=0

for values in deploy/helm/cases/*.yaml deploy/helm/plain.yaml; do
  name="$(basename "$values" .yaml)"
  for version in "${versions[@]}"; do
    "$HELM" lint "$chart" --strict --quiet --kube-version "$version" --values "$values"
    "$HELM" template envoy-control "$chart" --namespace envoy-control --kube-version "$version" \
      --values "$values" > "$work/$name-$version.yaml"
  done
  # What it renders does not depend on the version of Kubernetes.
  for version in "${versions[@]:1}"; do
    diff "$work/$name-${versions[0]}.yaml" "$work/$name-$version.yaml"
    rm "$work/$name-$version.yaml"
  done
done

for values in deploy/helm/refused/*.yaml; do
  want="$(sed -n '1s/^# //p' "$values")"
  if said="$("$HELM" template envoy-control "$chart" --kube-version "${versions[0]}" --values "$values" 2>&1)"; then
    echo "$values is not refused" >&2
    failed=1
  elif [[ "$said" != *"$want"* ]]; then
    printf '%s is refused, but not for %s:\n%s\n' "$values" "$want" "$said" >&2
    failed=1
  fi
done

# The operator's own kinds have no schema here.
for values in deploy/helm/cases/*.yaml; do
  "$HELM" template envoy-control "$chart" --namespace envoy-control --kube-version "${versions[0]}" --values "$values" \
    --set monitoring.serviceMonitor.enabled=false,monitoring.prometheusRule.enabled=false > "$work/$(basename "$values" .yaml).yaml"
done
rm "$work"/*-"${versions[0]}.yaml"
# No cluster is asked, whatever kubectl uses.
env -u KUBERNETES_SERVICE_HOST KUBECONFIG=/dev/null "$KUBECTL_VALIDATE" --version "$schemas" \
  "$work"/*.yaml $(ls deploy/k8s/*.yaml deploy/k8s/example/*.yaml | grep -v kustomization)
"$KUBE_SCORE" score --kubernetes-version "v$schemas" --output-format ci "${ignored[@]}" "$work"/*.yaml
exit "$failed"
