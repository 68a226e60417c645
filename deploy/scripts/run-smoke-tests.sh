#!/usr/bin/env bash
# Tries a cluster out: each node is ready, knows the leader and has caught up; a
# change goes in at one and is seen at all; it is gone again afterwards.
#
#   run-smoke-tests.sh [--server URL,URL,...] [--read-only] [--dry-run]
#
#   --server URLS  the nodes, each tried alone (default: ECP_SERVER)
#   --read-only    writes nothing
#   --dry-run      says what it would try
#
# It writes into a tenant of its own, smoke-..., that no proxy belongs to, and
# deletes it. Exit code 0: all passed. ECP_TOKEN: as for ecpctl, an administrator's.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

writes=true
while [ $# -gt 0 ]; do
  case $1 in
  --server) valued "$@" && ECP_SERVER=$2 && shift 2 ;;
  --read-only) writes=false && shift ;;
  --dry-run) dry_run=true && shift ;;
  -h | --help) usage && exit 0 ;;
  *) misuse "unknown argument $1" ;;
  esac
done
need ecpctl curl jq
IFS=, read -ra servers <<<"$ECP_SERVER"

passed=0 second=0
# check NAME COMMAND...: its standard error is shown when it fails.
check() {
  local name=$1 output
  shift
  if $dry_run; then
    say "would try: $name"
    return
  fi
  output=$("$@" 2>&1) || die "FAILED: $name"$'\n'"$output"
  passed=$((passed + 1))
  say "ok: $name"
}

ready() { curl --fail --silent --show-error --max-time 5 "$1/ready" | jq -e .ready; }

# Every member healthy, one leader, as this node sees it.
whole() {
  ecpctl --server "$1" cluster -o json |
    jq -e '.leader != "" and (.nodes | length > 0) and all(.nodes[]; .healthy)'
}

for server in "${servers[@]}"; do
  check "$server is ready" ready "$server"
  check "$server sees a leader, and every node healthy" whole "$server"
  check "$server answers a strong read" ecpctl --server "$server" --strong get tenants
done

if $writes; then
  tenant="smoke-$(date +%s)-$$"
  export ECP_TENANT=$tenant
  clean() {
    ecpctl delete fleet smoke --force >/dev/null 2>&1 || true
    ecpctl delete tenant "$tenant" >/dev/null 2>&1 || true
  }
  $dry_run || trap clean EXIT
  check "a tenant is made" ecpctl create tenant "$tenant"
  check "a fleet is made" ecpctl create fleet smoke
  for server in "${servers[@]}"; do
    resource='{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "smoke", "connect_timeout": "'$((++second))'s"}'
    apply() { ecpctl --server "$server" apply --fleet smoke -m "smoke test" -f - <<<"$resource"; }
    check "a change at $server" apply
    for other in "${servers[@]}"; do
      seen() { ecpctl --server "$other" --strong get resources --fleet smoke -o json | jq -e "tostring | contains(\"\\\"${second}s\\\"\")"; }
      check "it is seen at $other" seen
    done
  done
  check "the fleet is deleted" ecpctl delete fleet smoke --force
  check "the tenant is deleted" ecpctl delete tenant "$tenant"
  trap - EXIT
fi
say "$passed checks passed"
