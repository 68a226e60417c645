#!/usr/bin/env bash
# Builds the image of the Dockerfile, unchanged, and runs a cluster of it:
# read-only, without capabilities, as the user that it names.
#
# No Docker engine is needed, but root and Debian's buildah, podman, crun,
# busybox-static and util-linux, which are installed.
set -euo pipefail

self="$(realpath "${BASH_SOURCE[0]}")"
root="$(realpath "$(dirname "$self")/../..")"
max_mb=60
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$self")/common.sh"

main() {
  work="$(mktemp -d)"
  trap cleanup EXIT
  engine "$work"
  golang
  build envoy-control-plane:try "$root"
  inspect
  cluster
}

cleanup() {
  podman rm --all --force --time 0 >/dev/null 2>&1 || true
  buildah rm --all >/dev/null 2>&1 || true
  rm -rf "$work"
}

# of prints a part of the image's configuration.
of() { podman image inspect --format "$1" envoy-control-plane:try; }

inspect() {
  step "what it is"
  local bytes at
  bytes="$(of '{{.Size}}')"
  (( bytes < max_mb * 1000 * 1000 )) || fail "the image has $bytes bytes, more than $max_mb MB"
  [[ "$(of '{{.Config.User}}')" == 65532:65532 ]] || fail "it runs as $(of '{{.Config.User}}')"
  [[ "$(of '{{index .Labels "org.opencontainers.image.version"}}')" == v0.0.0-try ]] || fail "no label has the version"
  [[ "$(of '{{index .Labels "org.opencontainers.image.revision"}}')" =~ ^[0-9a-f]{40}$ ]] || fail "no label has the commit"
  [[ "$(of '{{.Config.StopSignal}}')" == SIGTERM ]] || fail "it is stopped by $(of '{{.Config.StopSignal}}')"
  at="$(podman image mount envoy-control-plane:try)"
  local files
  files="$(cd "$at" && find . -type f | sort | tr '\n' ' ')"
  [[ "$files" == "./LICENSE ./ecpctl ./envoy-control-plane ./etc/ssl/certs/ca-certificates.crt " ]] || fail "it has $files"
  podman image umount envoy-control-plane:try >/dev/null
  printf '%d bytes: %s\n' "$bytes" "$files"
}

# node starts node $1 of three on loopback.
node() {
  podman run --detach --name "cp-$1" --network host --read-only --cap-drop ALL --security-opt no-new-privileges \
    --health-interval disable --volume "cp-$1:/data" \
    --env NODE_ID="cp-$1" --env BIND_ADDR=127.0.0.1 --env ADVERTISE_ADDR=127.0.0.1 --env JWT_SECRET="$secret" \
    --env SERVER_PORT=$((18080 + $1)) --env METRICS_PORT=$((19090 + $1)) --env GRPC_PORT=$((28000 + $1)) \
    --env RAFT_PORT=$((17000 + $1)) --env GOSSIP_PORT=$((17946 + $1)) \
    --env JOIN=127.0.0.1:17946,127.0.0.1:17947,127.0.0.1:17948 --env BOOTSTRAP_EXPECT=3 --env INITIAL_MEMBERS=cp-0,cp-1,cp-2 --env VOTER=initial \
    envoy-control-plane:try >/dev/null
}

# eventually repeats a command for a minute until it succeeds.
eventually() {
  local until=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    (( SECONDS < until )) || { "$@" || true; podman logs cp-0 | tail -20; fail "a minute later it still fails: $*"; }
    sleep 0.5
  done
}

cluster() {
  step "a cluster of it"
  secret="$(head -c 48 /dev/urandom | base64 -w0)"
  local i token
  for i in 0 1 2; do node "$i"; done
  for i in 0 1 2; do
    eventually podman exec "cp-$i" /envoy-control-plane health --path /ready
    eventually podman healthcheck run "cp-$i"
  done
  token="$(podman exec cp-0 /ecpctl token create --subject try --role admin)"
  ecpctl() { podman exec --env ECP_TOKEN="$token" --env ECP_SERVER=http://127.0.0.1:18081 cp-1 /ecpctl "$@"; }
  ecpctl create fleet edge
  ecpctl cluster

  step "a node stops cleanly and comes back with its data"
  podman stop --time 60 cp-0 >/dev/null
  [[ "$(podman inspect --format '{{.State.ExitCode}}' cp-0)" == 0 ]] || fail "after SIGTERM it ended with $(podman inspect --format '{{.State.ExitCode}}' cp-0)"
  eventually ecpctl create fleet mesh
  podman start cp-0 >/dev/null
  eventually podman exec cp-0 /envoy-control-plane health --path /ready
  podman exec --env ECP_TOKEN="$token" --env ECP_SERVER=http://127.0.0.1:18080 cp-0 /ecpctl get fleets
}

[[ "${1-}" == inside ]] || inside "$self" ""
main
