# shellcheck shell=bash
# What image/try.sh and compose/try.sh share: an engine of their own without
# Docker, and the image of the Dockerfile, unchanged. To be sourced; needs root.
#
# golang:1.26 is not pulled: a stand-in of that name is made of this machine's
# Go, modules and what is built already come from its caches.

step() { printf '== %s\n' "$*"; }
fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

# inside runs the script again in mounts that nobody else sees, and with more
# flags of unshare in more of its own. PACKAGE=PROGRAM... are installed where
# the program is missing.
inside() {
  local self="$1" flags="$2" missing=() pair
  shift 2
  for pair in buildah=buildah podman=podman crun=crun busybox-static=busybox "$@"; do
    command -v "${pair#*=}" >/dev/null || missing+=("${pair%=*}")
  done
  if (( ${#missing[@]} )); then
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
      fail "cannot install ${missing[*]}"
  fi
  # shellcheck disable=SC2086 # flags are words
  exec unshare --mount $flags "$self" inside
}

# engine sets podman and buildah up in the folder $1, apart from any other on
# the machine. Containers need a cgroup tree of their own kind, and get none of
# their own in it: there are no controllers.
engine() {
  umount -R /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
  mount -t tmpfs none /run
  mount -t tmpfs none /dev/shm
  # It may be a link into the folder that is empty now.
  local resolv
  resolv="$(realpath --canonicalize-missing /etc/resolv.conf)"
  mkdir -p "$(dirname "$resolv")"
  [[ -e "$resolv" ]] || : > "$resolv"
  export REGISTRIES_CONFIG="$1/registries.conf" CONTAINERS_STORAGE_CONF="$1/storage.conf" CONTAINERS_CONF="$1/containers.conf"
  export CONTAINERS_REGISTRIES_CONF="$REGISTRIES_CONFIG"
  mkdir -p "$1/networks"
  cat > "$REGISTRIES_CONFIG" <<'TOML'
unqualified-search-registries = ["docker.io"]
short-name-mode = "disabled"
TOML
  cat > "$CONTAINERS_STORAGE_CONF" <<TOML
[storage]
driver = "vfs"
graphroot = "$1/graph"
runroot = "/run/containers/storage"
TOML
  cat > "$CONTAINERS_CONF" <<TOML
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=10000:10000", "nproc=10000:10000"]
log_driver = "k8s-file"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$1/networks"
TOML
}

# golang makes golang:1.26 as far as the Dockerfile needs it: a shell, Go, authorities.
golang() {
  step "a stand-in for golang:1.26"
  local made at
  made="$(buildah from scratch)"
  at="$(buildah mount "$made")"
  mkdir -p "$at"/{bin,tmp,root,usr/local,etc/ssl/certs,modules,cache}
  cp /bin/busybox "$at/bin/"
  local tool
  for tool in sh mkdir; do ln -s busybox "$at/bin/$tool"; done
  cp -r "$(go env GOROOT)" "$at/usr/local/go"
  cp /etc/ssl/certs/ca-certificates.crt "$at/etc/ssl/certs/"
  buildah config --env PATH=/usr/local/go/bin:/bin --env HOME=/root --env GOPATH=/go --env GOFLAGS=-buildvcs=false \
    --env GOPROXY=file:///modules --env GOSUMDB=off --env GOTOOLCHAIN=local --env GOCACHE=/cache "$made"
  buildah umount "$made" >/dev/null
  buildah commit --quiet --rm "$made" docker.io/library/golang:1.26 >/dev/null
}

# build makes the image named $1 of the sources in $2.
build() {
  step "the image $1"
  buildah build --quiet --isolation chroot --format docker --pull-never \
    --volume "$(go env GOMODCACHE)/cache/download:/modules:ro" --volume "$(go env GOCACHE):/cache" \
    --build-arg VERSION=v0.0.0-try --build-arg REVISION="$(git -C "$2" rev-parse HEAD)" \
    --tag "$1" "$2" >/dev/null
}
