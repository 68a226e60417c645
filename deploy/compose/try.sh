#!/usr/bin/env bash
# Runs the compose files, unchanged, with podman-compose: on their networks,
# with their published ports, in a network namespace that holds nothing else.
#
#   try.sh [dev] [prod]               default: both
#
# No Docker engine is needed, but root and what Debian has of podman, Postgres,
# nginx and Prometheus, which is installed. The image is built of the unchanged
# Dockerfile; try/images.sh makes the others. Grafana is left out: Debian
# has none. Where the stand-ins differ from Docker: DESIGN.md one folder up.
set -euo pipefail

self="$(realpath "${BASH_SOURCE[0]}")"
here="$(dirname "$self")"
root="$(realpath "$here/../..")"
# shellcheck source-path=SCRIPTDIR source=../image/common.sh
source "$root/deploy/image/common.sh"
# shellcheck source-path=SCRIPTDIR source=try/images.sh
source "$here/try/images.sh"
# shellcheck source-path=SCRIPTDIR source=try/dev.sh
source "$here/try/dev.sh"
# shellcheck source-path=SCRIPTDIR source=try/prod.sh
source "$here/try/prod.sh"

# What docker compose takes before its command; dev and prod say it.
file="" environment=()

main() {
  work="$(mktemp -d)"
  trap cleanup EXIT
  engine "$work"
  network
  envoy="$(cd "$root" && python3 deploy/local/fetch_envoy.py)"
  podman_compose
  golang
  build localhost/envoy-control-plane:dev "$root"
  stand_ins
  local which
  for which; do "$which"; done
}

cleanup() {
  [[ -z "${proxy-}" ]] || kill "$proxy" 2>/dev/null || true
  # Some are in others' networks, and go first.
  for _ in 1 2 3 4 5; do /usr/bin/podman rm --all --force --time 0 >/dev/null 2>&1 || true; done
  buildah rm --all >/dev/null 2>&1 || true
  rm -rf "$work"
}

# network has loopback alone, and no DNS but that of the compose files' networks.
network() {
  ip link set lo up
  echo "nameserver 127.0.0.1" > "$work/resolv.conf"
  mount --bind "$work/resolv.conf" /etc/resolv.conf
}

# podman_compose fetches it once, pinned by version and hash. The first process
# of the script does so: in here there is no network.
podman_compose() {
  local requirements="$here/podman-compose-requirements.txt" version
  version="$(sed -nE 's/^podman-compose==(\S+).*/\1/p' "$requirements")"
  podman_compose="$root/.tools/podman-compose/$version"
  [[ ! -e "$podman_compose/podman_compose.py" ]] || return 0
  rm -rf "$podman_compose.new"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --target "$podman_compose.new" --requirement "$requirements" || fail "pip could not install podman-compose"
  mv "$podman_compose.new" "$podman_compose"
}

# compose is docker compose with the file that $file names.
compose() {
  PYTHONPATH="$podman_compose" timeout 240 python3 "$podman_compose/podman_compose.py" --podman-path "$here/try/podman" \
    "${environment[@]}" --file "$file" "$@"
}

# up starts the services named, or all. Its waits for health are what is tested too.
up() { compose up --detach --no-build "$@" >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; fail "podman-compose up"; }; }

# down removes all that up has made.
down() { compose down --volumes >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; fail "podman-compose down"; }; }

# container prints the name of service $1's.
container() { printf 'envoy-control-plane_%s_1' "$1"; }
in_container() { podman exec "$(container "$1")" "${@:2}"; }

# eventually repeats a command for two minutes until it succeeds.
eventually() {
  local until=$((SECONDS + 120))
  until "$@" >/dev/null 2>&1; do
    if (( SECONDS >= until )); then
      "$@" || true
      podman ps --all --format '{{.Names}} {{.Status}}' >&2
      fail "two minutes later it still fails: $*"
    fi
    sleep 0.5
  done
}

ready() { in_container "$1" /envoy-control-plane health --path /ready; }

# crash kills the process of a service, as nobody who asks podman does, and
# waits until the restart policy has brought another.
crash() {
  local pid
  pid="$(podman inspect --format '{{.State.Pid}}' "$(container "$1")")"
  kill -KILL "$pid"
  eventually replaced "$1" "$pid"
}
replaced() {
  local state
  state="$(podman inspect --format '{{.State.Running}} {{.State.Pid}}' "$(container "$1")")"
  [[ "$state" =~ ^true\ [1-9] && "$state" != "true $2" ]]
}

if [[ "${1-}" != inside ]]; then
  (( $# )) || set -- dev prod
  for which; do [[ "$which" == dev || "$which" == prod ]] || fail "there is no $which"; done
  export ECP_TRY="$*"
  podman_compose
  (cd "$root" && go mod download && python3 deploy/local/fetch_envoy.py >/dev/null)
  inside "$self" --net netavark=/usr/lib/podman/netavark aardvark-dns=/usr/lib/podman/aardvark-dns iptables=iptables iproute2=ip \
    nginx-light=nginx postgresql=/usr/bin/psql prometheus=prometheus prometheus-alertmanager=prometheus-alertmanager \
    prometheus-postgres-exporter=prometheus-postgres-exporter
fi
# shellcheck disable=SC2086 # a list of words
main $ECP_TRY
