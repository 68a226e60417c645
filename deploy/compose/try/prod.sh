# shellcheck shell=bash
# What docker-compose.prod.yml promises. To be sourced by try.sh.
# shellcheck disable=SC2034,SC2154 # variables of try.sh

name=api.envoy-control.example.com

prod() {
  file="$here/docker-compose.prod.yml"
  step "production: three nodes, Postgres with a replica, nginx, Prometheus"
  settings
  local i
  # shellcheck disable=SC2046 # names of services
  up $(sed -n '/^services:/,/^secrets:/s/^  \([a-z0-9-]*\):$/\1/p' "$file" | grep -vx grafana)
  for i in 1 2 3; do eventually ready "api-$i"; done
  token="$(compose exec -T api-1 /ecpctl token create --subject try --role admin)"
  compose exec -T -e ECP_TOKEN="$token" api-1 /ecpctl cluster

  step "nginx: the API over TLS, xDS"
  eventually served
  [[ "$(curl --silent --output /dev/null --write-out '%{http_code} %{redirect_url}' "http://127.0.0.1/ready")" == "301 https://127.0.0.1/ready" ]] || fail "port 80 does not lead to TLS"
  through_nginx
  step "Postgres: the archive is written, the replica streams, WAL is kept"
  eventually archived_prod
  eventually streams
  eventually copied
  sql primary "SELECT pg_switch_wal()" >/dev/null
  eventually kept
  step "Prometheus: all nodes are scraped, the rules are loaded"
  eventually scraped
  prometheus rules | jq -e '[.data.groups[].rules[]] | length > 0 and all(.health != "err")' >/dev/null || fail "no rules, or bad ones"
  [[ "$(prometheus rules | jq '.data.groups | length')" == "$(cat "$root"/deploy/monitoring/rules/*.yaml | grep -c '^ *- name: ')" ]] || fail "not all rules are loaded"
  eventually alerted
  moves
  kill "$proxy"
  proxy=
  down
}

# settings makes the files and variables that prod.env.example asks for.
settings() {
  environment=(--env-file "$work/env")
  secrets="$work/secrets"
  mkdir -p "$secrets/tls"
  head -c 48 /dev/urandom | base64 -w0 > "$secrets/jwt-secret"
  head -c 32 /dev/urandom | base64 -w0 > "$secrets/secrets-key"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
    -keyout "$secrets/tls/tls.key" -out "$secrets/tls/tls.crt" 2>/dev/null
  chmod 600 "$secrets"/*-* "$secrets"/tls/*
  chown 65532:65532 "$secrets"/*-*
  chown 101:101 "$secrets"/tls/*
  chmod 711 "$work"
  sed -e "s#^ECP_IMAGE=.*#ECP_IMAGE=envoy-control-plane:dev#" -e "s#^\(.*PASSWORD\)=.*#\1=$(head -c 24 /dev/urandom | base64 -w0 | tr -d '+/=')#" \
    -e "s#^SECRETS_DIR=.*#SECRETS_DIR=$secrets#" -e "s#^TLS_DIR=.*#TLS_DIR=$secrets/tls#" "$here/prod.env.example" > "$work/env"
}

ctl() { podman exec --env ECP_TOKEN="$token" "$(container api-1)" /ecpctl "$@"; }

# served: nginx answers for the nodes.
served() {
  curl --silent --fail --max-time 5 --cacert "$secrets/tls/tls.crt" --resolve "$name:443:127.0.0.1" \
    --header "Authorization: Bearer $token" "https://$name/api/v1/cluster"
}

# through_nginx starts an Envoy whose only way to the nodes is nginx.
through_nginx() {
  podman exec -i "$(container api-1)" /ecpctl --token "$token" apply --fleet edge -f - < "$here/edge.yaml"
  in_container api-1 /ecpctl bootstrap edge-1 --fleet edge --xds 127.0.0.1:18000 > "$work/bootstrap.yaml"
  "$envoy" -c "$work/bootstrap.yaml" --log-level warn >"$work/envoy.log" 2>&1 &
  proxy=$!
  eventually synced
  ctl proxies
}
synced() { ctl proxies | grep -E '^edge-1 +edge +connected +synced'; }

# sql runs a statement at the primary or the replica.
sql() {
  podman exec "$(container "postgres-$1")" sh -c 'PGPASSWORD=$1 psql -h 127.0.0.1 -U ecp -d envoy_control -qAt -c "$2"' -- \
    "$(sed -n 's/^DB_PASSWORD=//p' "$work/env")" "$2"
}
archived_prod() { ctl archive status | grep -E '^archive [a-z]+, ([0-9]+) of \1 events'; }
streams() { [[ "$(sql primary "SELECT state FROM pg_stat_replication")" == streaming && "$(sql replica "SELECT pg_is_in_recovery()")" == t ]]; }
copied() { [[ "$(sql replica "SELECT count(*) FROM fleet_events")" =~ ^[1-9] ]]; }
kept() { [[ "$(in_container postgres-primary find /var/lib/postgresql/wal-archive -type f -name '0*' | wc -l)" -gt 0 ]]; }

prometheus() { curl --silent --fail "http://127.0.0.1:9090/api/v1/$1"; }

# scraped: all targets are up, but for node_exporters on hosts, which the file does not bring.
scraped() {
  prometheus 'targets?state=active' | jq -e '[.data.activeTargets[] | select(.labels.job != "node") | .health] | length == 4 and all(. == "up")'
}

# alerted: Alertmanager answers where Prometheus looks for it.
alerted() {
  prometheus alertmanagers | jq -e '.data.activeAlertmanagers | length == 1' && in_container prometheus wget -q -O- http://alertmanager:9093/-/ready
}

# moves: nodes that are made anew may get other addresses.
moves() {
  step "a node is killed and comes back; all are restarted, as an update does: nginx finds them"
  local i
  crash api-2
  eventually ready api-2
  for i in 1 2 3; do
    compose restart "api-$i" >"$work/restart.log" 2>&1 || { cat "$work/restart.log" >&2; fail "podman-compose restart"; }
    eventually ready "api-$i"
  done
  eventually served
  eventually synced
  ctl create fleet after-it
}
