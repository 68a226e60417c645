# shellcheck shell=bash
# Stand-ins for the images that the compose files name, of Debian's programs and
# the pinned Envoy: nothing is pulled. What the originals do for compose is done
# here too: their users, folders, entrypoints. Versions are Debian's: Postgres
# 15 or newer, Prometheus 2, nginx 1.22. To be sourced.
# shellcheck disable=SC2154 # variables of try.sh

# wanted prints the image of the compose files that is called $1, in full.
wanted() {
  local name
  name="$(sed -nE "s#^ *image: ((.*/)?$1:.*)#\1#p" "$here"/docker-compose.*.yml | sort -u)"
  [[ -n "$name" && "$name" != *$'\n'* ]] || fail "not one image is called $1: $name"
  case "$name" in
    *.*/*) printf '%s' "$name" ;;
    */*) printf 'docker.io/%s' "$name" ;;
    *) printf 'docker.io/library/%s' "$name" ;;
  esac
}

# programs copies files, with the libraries of those that have any, to the same places in $1.
programs() {
  local at="$1" file
  shift
  for file; do
    { printf '%s\n' "$file"; ldd "$file" 2>/dev/null | grep -oE '/\S+' || true; }
  done | sort -u | while read -r file; do
    mkdir -p "$at$(dirname "$file")"
    cp -nL "$file" "$at$file"
  done
}

# base mounts a new image with a shell and the users of the originals, in $made and $at.
base() {
  made="$(buildah from scratch)"
  at="$(buildah mount "$made")"
  mkdir -p "$at"/{bin,etc,tmp,root,var/run,usr/local/bin}
  chmod 1777 "$at/tmp"
  cp /bin/busybox "$at/bin/"
  local tool
  for tool in $(busybox --list); do [[ -e "$at/bin/$tool" ]] || ln -s busybox "$at/bin/$tool"; done
  printf '%s\n' root:x:0:0::/root:/bin/sh postgres:x:70:70::/var/lib/postgresql:/bin/sh nginx:x:101:101::/:/bin/false \
    nobody:x:65534:65534::/:/bin/false > "$at/etc/passwd"
  printf '%s\n' root:x:0: postgres:x:70: nginx:x:101: nobody:x:65534: > "$at/etc/group"
}

# finish stores it under the name $1 with the settings that follow.
finish() {
  local name
  name="$(wanted "$1")"
  shift
  buildah config "$@" "$made"
  buildah umount "$made" >/dev/null
  buildah commit --quiet --rm --format docker "$made" "$name" >/dev/null
}

postgres_image() {
  base
  local bin
  bin="$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)"
  [[ -x "$bin/postgres" ]] || fail "no Postgres is here: apt-get install postgresql"
  programs "$at" "$bin"/{postgres,initdb,pg_ctl,psql,pg_isready,pg_basebackup} "${bin%/bin}"/lib/*.so /usr/bin/setpriv
  mkdir -p "$at"/{usr/share/postgresql,usr/lib/locale,var/run/postgresql,var/lib/postgresql/data,docker-entrypoint-initdb.d}
  cp -r "/usr/share/postgresql/$(basename "${bin%/bin}")" "$at/usr/share/postgresql/"
  # As in the original, whose servers listen beyond loopback.
  sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" "$at"/usr/share/postgresql/*/postgresql.conf.sample
  cp -r /usr/share/zoneinfo "$at/usr/share/"
  cp -r /usr/lib/locale/C.utf8 "$at/usr/lib/locale/"
  cp "$here/try/postgres-entrypoint.sh" "$at/usr/local/bin/docker-entrypoint.sh"
  chown -R 70:70 "$at/var/run/postgresql" "$at/var/lib/postgresql"
  chmod 1777 "$at/var/lib/postgresql/data"
  finish postgres --env PATH="/usr/local/bin:$bin:/usr/bin:/bin" --env PGDATA=/var/lib/postgresql/data --env LANG=C.UTF-8 \
    --volume /var/lib/postgresql/data --stop-signal SIGINT --entrypoint '["docker-entrypoint.sh"]' --cmd postgres
}

envoy_image() {
  base
  programs "$at" "$envoy"
  mv "$at$envoy" "$at/usr/local/bin/envoy"
  cp /etc/ssl/certs/ca-certificates.crt "$at/etc/"
  finish envoyproxy/envoy --env PATH=/usr/local/bin:/bin --user 101:101
}

nginx_image() {
  base
  programs "$at" /usr/sbin/nginx
  mkdir -p "$at"/{etc/nginx,var/log/nginx,var/lib/nginx}
  cp /etc/nginx/mime.types "$at/etc/nginx/"
  ln -s /dev/stderr "$at/var/log/nginx/error.log"
  finish nginx --env PATH=/usr/sbin:/bin --stop-signal SIGQUIT
}

# monitoring_image NAME PROGRAM FOLDER [FILE...]: as nobody, who owns the folder.
monitoring_image() {
  base
  programs "$at" "$2" "${@:4}"
  mkdir -p "$at$3"
  chown 65534:65534 "$at$3"
  finish "$1" --env PATH=/bin --user nobody --workingdir "$3" --entrypoint "[\"$2\"]"
}

stand_ins() {
  step "stand-ins for what else the files name"
  postgres_image
  envoy_image
  nginx_image
  monitoring_image prom/prometheus /usr/bin/prometheus /prometheus
  monitoring_image prom/alertmanager /usr/bin/prometheus-alertmanager /alertmanager /usr/share/prometheus/alertmanager/{default,email}.tmpl
  monitoring_image quay.io/prometheuscommunity/postgres-exporter /usr/bin/prometheus-postgres-exporter /
}
