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

chart=deploy/helm/envoy-control
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
failed=0

# render VALUES VERSION [FLAG...]
render() {
  "$HELM" template envoy-control "$chart" --namespace envoy-control --values "$1" --kube-version "$2" "${@:3}"
}

for values in deploy/helm/cases/*.yaml deploy/helm/plain.yaml; do
  for version in "${versions[@]}"; do
    "$HELM" lint "$chart" --strict --quiet --kube-version "$version" --values "$values"
    # What is rendered does not depend on the version.
    diff <(render "$values" "${versions[0]}") <(render "$values" "$version")
  done
  # The operator's own kinds have no schema here.
  render "$values" "${versions[0]}" --set monitoring.serviceMonitor.enabled=false,monitoring.prometheusRule.enabled=false \
    > "$work/$(basename "$values")"
done

for values in deploy/helm/refused/*.yaml; do
  want="$(sed -n '1s/^# //p' "$values")"
  if said="$(render "$values" "${versions[0]}" 2>&1)"; then
    echo "$values is not refused" >&2
    failed=1
  elif [[ "$said" != *"$want"* ]]; then
    printf '%s is refused, but not for %s:\n%s\n' "$values" "$want" "$said" >&2
    failed=1
  fi
done

# No cluster is asked, whatever kubectl uses.
env -u KUBERNETES_SERVICE_HOST KUBECONFIG=/dev/null "$KUBECTL_VALIDATE" --version "$schemas" \
  "$work"/*.yaml deploy/k8s/[!k]*.yaml deploy/k8s/example/*.yaml
"$KUBE_SCORE" score --kubernetes-version "v$schemas" --output-format ci "${ignored[@]}" "$work"/*.yaml | { grep -v '^\[\(OK\|SKIPPED\)\]' || true; }
exit "$failed"
