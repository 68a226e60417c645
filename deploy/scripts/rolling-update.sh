#!/usr/bin/env bash
# Updates a cluster node by node, the leader last, and stops at the first node
# that does not come back healthy.
#
#   rolling-update.sh --update 'COMMAND {}' [--version V] [--backup DIR]
#   rolling-update.sh --kubernetes --image IMAGE [--backup DIR]
#
#   --update CMD    updates and restarts one node, whose id stands for {}:
#                   'ssh {} sudo /usr/local/sbin/update-envoy-control-plane v2.0.0'
#   --version V     nodes of this build already are left alone
#   --kubernetes    has Kubernetes do it, once every pod is available, and goes back
#                   to the image before when it gets stuck
#   --image IMAGE   tag or digest, never latest
#   --namespace NS, --statefulset NAME, --container NAME
#                   default: envoy-control, envoy-control, api
#   --backup DIR    makes a backup there first (backup.sh)
#   --timeout S     time for one node, default 300
#   --dry-run       says what it would do
#
# Before each node its streams are handed over, so that no proxy waits. Run it
# again after a failure: with --version it goes on where it stopped. The
# feature level is not raised: "ecpctl cluster finalize", once you are sure.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

update='' version='' kubernetes=false image='' backup='' timeout=300
namespace=envoy-control statefulset=envoy-control container=api
while [ $# -gt 0 ]; do
  case $1 in
  --update) valued "$@" && update=$2 && shift 2 ;;
  --version) valued "$@" && version=$2 && shift 2 ;;
  --kubernetes) kubernetes=true && shift ;;
  --image) valued "$@" && image=$2 && shift 2 ;;
  --namespace) valued "$@" && namespace=$2 && shift 2 ;;
  --statefulset) valued "$@" && statefulset=$2 && shift 2 ;;
  --container) valued "$@" && container=$2 && shift 2 ;;
  --backup) valued "$@" && backup=$2 && shift 2 ;;
  --timeout) valued "$@" && timeout=$2 && shift 2 ;;
  --dry-run) dry_run=true && shift ;;
  -h | --help) usage && exit 0 ;;
  *) misuse "unknown argument $1" ;;
  esac
done
[[ $timeout =~ ^[0-9]+$ ]] || misuse "--timeout takes seconds"
if $kubernetes; then
  [ -z "$update" ] || misuse "either --update or --kubernetes"
  [[ $image == *[:@]?* && $image != *:latest ]] || misuse "--image needs a tag or a digest, and not latest"
  need kubectl
else
  [[ $update == *'{}'* ]] || misuse "--update needs a command with {}"
  need ecpctl jq
fi

here=$(dirname "${BASH_SOURCE[0]}")
if [ -n "$backup" ]; then
  run "$here/backup.sh" --to "$backup"
fi

target=statefulset/$statefulset
get() { kubectl --namespace "$namespace" get "$target" -o "jsonpath={$1}"; }
available() { [ "$(get .status.availableReplicas)" = "$(get .spec.replicas)" ]; }
replaced() { run kubectl --namespace "$namespace" rollout status "$target" --timeout="$((timeout * replicas))s"; }

by_kubernetes() {
  local before replicas
  replicas=$(get .spec.replicas)
  before=$(get ".spec.template.spec.containers[?(@.name==\"$container\")].image")
  [ -n "$before" ] || die "$target has no container $container"
  if [ "$before" = "$image" ]; then
    say "$target has $image already"
    replaced
    return
  fi
  # Before Kubernetes 1.37 the highest pod is replaced also while a lower one is
  # down: that takes two of three voters.
  within "$timeout" "not every pod of $target is available: mend that first" available
  run kubectl --namespace "$namespace" set image "$target" "$container=$image"
  if ! replaced; then
    say "it is stuck: going back to $before"
    # Not "rollout undo", which says nothing of which revision it goes to.
    run kubectl --namespace "$namespace" set image "$target" "$container=$before"
    replaced
    return 1
  fi
}

if $kubernetes; then
  by_kubernetes
  exit
fi

cluster() { ecpctl cluster -o json; }
healthy() { cluster | jq -e '.leader != "" and all(.nodes[]; .healthy and (.draining | not))' >/dev/null; }
healthy || die "not every node is healthy: mend that first (ecpctl cluster)"

# The followers by name, then the leader: one election.
nodes=$(cluster | jq -r '.leader as $l | (.nodes | map(.id) | sort | map(select(. != $l))) + [$l] | .[]')
for node in $nodes; do
  if [ -n "$version" ] && cluster | jq -e --arg n "$node" --arg v "$version" 'any(.nodes[]; .id == $n and .build == $v)' >/dev/null; then
    say "$node has $version"
    continue
  fi
  say "updating $node"
  run ecpctl cluster drain "$node" --wait --timeout "${timeout}s"
  # The command is the operator's own words, a shell's.
  run bash -c "${update//'{}'/$node}"
  if $dry_run; then continue; fi
  within "$timeout" "$node does not come back healthy" healthy
  if [ -n "$version" ]; then
    cluster | jq -e --arg n "$node" --arg v "$version" 'any(.nodes[]; .id == $n and .build == $v)' >/dev/null ||
      die "$node came back, but not as $version"
  fi
done
say "all nodes are updated"
