#!/usr/bin/env bash
# Moves everything from one cluster, blue, to a new one, green, without losing a
# write, and back as long as nothing was written to green.
#
#   blue-green-deploy.sh deploy   --blue URLS --green URLS --state DIR
#                                 --start 'COMMAND' --switch 'COMMAND'
#   blue-green-deploy.sh rollback (same arguments)
#
#   --blue, --green URLS  the nodes' REST addresses, as for ecpctl --server
#   --state DIR           where the snapshot and the steps done are kept: run
#                         again after a failure, it goes on where it stopped
#   --start CMD           starts green. SNAPSHOT and FROM_CLUSTER are set: one of its
#                         initial members takes them as --restore and --from-cluster
#   --switch CMD          moves proxies and API to $TO, which is "green" or "blue":
#                         a service's selector, a load balancer, DNS
#   --settle S            how long the proxies may take to come to green, default 300
#   --watch S             how long green is watched, default 300
#   --prometheus URL      asks it, too, that no more than 1 % of the requests fail
#   --dry-run             says what it would do
#
# deploy: blue turns read-only at a known index; a backup of at least that index
# seeds green (an id and an epoch of its own, the same archive); green is tried
# and turned read-only; the switch; once all proxies that blue had are with green
# and settled, and have been for the time, green takes writes. Proxies have what
# they had: nothing is sent to them again. Writers are refused (503, Retry-After)
# from the first step to the last, a few minutes.
#
# A failure on the way, or rollback before the last step: the switch back, and
# blue takes writes again. Green was read-only: nothing is lost. After the last
# step the way back is the same way: deploy with blue and green exchanged, and
# new data directories for the old blue.
#
# Kubernetes, for example: two releases in one namespace, and before them a
# service of yours that selects app.kubernetes.io/instance. A secret takes 1 MiB;
# a bigger snapshot needs a volume.
#   --start 'kubectl -n envoy-control create secret generic seed --from-file="$SNAPSHOT" &&
#            helm -n envoy-control install green deploy/helm/envoy-control --set existingSecret=envoy-control-secrets \
#              --set-string "config.RESTORE=/seed/${SNAPSHOT##*/},config.FROM_CLUSTER=$FROM_CLUSTER" \
#              --set "extraVolumes[0].name=seed,extraVolumes[0].secret.secretName=seed" \
#              --set "extraVolumeMounts[0].name=seed,extraVolumeMounts[0].mountPath=/seed"'
#   --switch 'kubectl -n envoy-control patch service front \
#              -p "{\"spec\":{\"selector\":{\"app.kubernetes.io/instance\":\"$TO\"}}}"'
# ECP_TOKEN: as for ecpctl, an administrator's of both.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
here=$(dirname "${BASH_SOURCE[0]}")

action=${1-} blue='' green='' state='' start='' switch='' settle=300 watch=300 prometheus=''
case $action in
deploy | rollback) shift ;;
-h | --help) usage && exit 0 ;;
*) misuse "deploy or rollback?" ;;
esac
while [ $# -gt 0 ]; do
  case $1 in
  --blue) valued "$@" && blue=$2 && shift 2 ;;
  --green) valued "$@" && green=$2 && shift 2 ;;
  --state) valued "$@" && state=$2 && shift 2 ;;
  --start) valued "$@" && start=$2 && shift 2 ;;
  --switch) valued "$@" && switch=$2 && shift 2 ;;
  --settle) valued "$@" && settle=$2 && shift 2 ;;
  --watch) valued "$@" && watch=$2 && shift 2 ;;
  --prometheus) valued "$@" && prometheus=$2 && shift 2 ;;
  --dry-run) dry_run=true && shift ;;
  -h | --help) usage && exit 0 ;;
  *) misuse "unknown argument $1" ;;
  esac
done
for needed in blue green state start switch; do
  [ -n "${!needed}" ] || misuse "--$needed is needed"
done
[[ $watch =~ ^[0-9]+$ && $settle =~ ^[0-9]+$ ]] || misuse "--watch and --settle take seconds"
need ecpctl jq curl

on_blue() { ecpctl --server "$blue" "$@"; }
on_green() { ecpctl --server "$green" "$@"; }
did() { [ -e "$state/$1" ]; }
note() { $dry_run || touch "$state/$1"; }

go_to() { TO=$1 run bash -c "$switch"; }

# tenants SERVERS prints their names.
tenants() { ecpctl --server "$1" get tenants -o json | jq -r '.items[].name'; }

# connected SERVERS prints how many proxies of all tenants are connected.
connected() {
  local tenant all sum=0 n
  all=$(tenants "$1") || return 1
  for tenant in $all; do
    n=$(ecpctl --server "$1" --tenant "$tenant" proxies --status connected -o json | jq '.items | length') || return 1
    sum=$((sum + n))
  done
  echo "$sum"
}

# settled: green has all that blue had, and each of them is synced.
settled() {
  local tenant all have
  have=$(connected "$green") && [ "$have" -ge "$(cat "$state/proxies")" ] || return 1
  all=$(tenants "$green") || return 1
  for tenant in $all; do
    on_green --tenant "$tenant" proxies --status connected -o json | jq -e 'all(.items[]; .sync == "synced")' >/dev/null || return 1
  done
}

green_answers() { on_green cluster -o json | jq -e '.leader != "" and all(.nodes[]; .healthy)' >/dev/null 2>&1; }

# fine: what is watched after the switch.
fine() {
  settled || { say "proxies are missing, or not synced" && return 1; }
  green_answers || { say "green is not healthy" && return 1; }
  if [ -n "$prometheus" ]; then
    local query='max(job:http_requests_failed:ratio_rate5m{job=~".*green.*"})' ratio
    ratio=$(curl --fail --silent --get --data-urlencode "query=$query" "$prometheus/api/v1/query" | jq -r '.data.result[0].value[1] // "0"')
    jq -en --arg r "$ratio" '($r | tonumber) < 0.01' >/dev/null || { say "$ratio of the requests fail" && return 1; }
  fi
}

back() {
  did finished && die "green takes writes: the way back is deploy, with blue and green exchanged"
  if did switched; then go_to blue; fi
  if did read-only; then run on_blue cluster read-only off >&2; fi
  $dry_run || rm -f "$state/switched" "$state/read-only"
  say "all is with blue, as before. Stop green, and remove its data and $state before the next try"
}

if [ "$action" = rollback ]; then
  back
  exit 0
fi

if did finished; then
  say "it is done already"
  exit 0
fi
$dry_run || mkdir -p "$state"
if did green-started && ! did read-only; then
  die "$state is of a deployment that went back: remove it, and green's data, to begin anew"
fi

# Whatever ends this from here on: back to blue.
ended() {
  local code=$?
  trap - EXIT
  if [ $code -ne 0 ]; then
    say "it failed: going back"
    back
  fi
  exit $code
}
$dry_run || trap ended EXIT
trap 'exit 130' INT TERM

if ! did read-only; then
  note read-only # before it is done: going back undoes what may have begun
  run on_blue cluster read-only on -m "moving to green" >&2
fi

snapshot=$state/blue.snapshot
if ! did blue.snapshot; then
  index=$(on_blue cluster read-only -o json | jq .index)
  say "blue is read-only since index $index"
  $dry_run || connected "$blue" >"$state/proxies"
  run on_blue backup "$snapshot" --min-index "$index" --verify >&2
fi
if ! did green-started; then
  from=$(on_blue cluster -o json | jq -r .id)
  SNAPSHOT=$snapshot FROM_CLUSTER=$from run bash -c "$start"
  note green-started
fi
if ! did green-tried; then
  $dry_run || within 300 "green does not come up" green_answers
  run "$here/run-smoke-tests.sh" --server "$green"
  run on_green cluster read-only on -m "moving from blue" >&2
  note green-tried
fi
if ! did switched; then
  note switched # before it is done: going back undoes what may have begun
  go_to green
fi
if ! $dry_run; then
  within "$settle" "the proxies do not all come to green, or do not settle" settled
  say "all proxies are with green and settled; watching for $watch s"
  for ((end = SECONDS + watch; SECONDS < end; )); do
    fine
    sleep 2
  done
fi
trap - EXIT # green may take writes from here on: no way back that loses nothing
run on_green cluster read-only off >&2
note finished
say "green takes writes. Blue stays read-only: stop it when you no longer need to look at it"
