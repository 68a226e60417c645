# shellcheck shell=bash
# What docker-compose.dev.yml promises. To be sourced by try.sh.
# shellcheck disable=SC2034,SC2154 # variables of try.sh

dev() {
  file="$here/docker-compose.dev.yml" environment=()
  step "development: three nodes, Postgres, an Envoy"
  up
  local i
  for i in 1 2 3; do eventually ready "api-$i"; done
  eventually configured
  eventually hello
  in_container api-1 /ecpctl proxies
  eventually archived

  step "a node is killed: the API goes on; one crashes: its policy brings it back"
  podman kill --signal KILL "$(container api-2)" >/dev/null
  in_container api-1 /ecpctl create fleet while-it-was-away
  hello || fail "the proxy no longer answers"
  compose start api-2 >/dev/null 2>&1
  eventually ready api-2
  eventually in_container api-2 /ecpctl get fleet while-it-was-away
  crash api-3
  eventually ready api-3
  eventually archived
  in_container api-1 /ecpctl archive status | sed -n 1,6p
  down
  [[ -z "$(podman ps --all --quiet)$(podman volume ls --quiet | grep envoy-control-plane_)" ]] || fail "something is left"
}

# configured: the service that gives the fleet its configuration has ended well.
configured() { [[ "$(podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$(container configure)")" == "exited 0" ]]; }

hello() { [[ "$(curl --silent --max-time 3 http://127.0.0.1:10000/)" == "hello from the upstream" ]]; }

# archived: all that has happened so far is in Postgres.
archived() {
  in_container api-1 /ecpctl archive status | grep -E '^archive [a-z]+, ([0-9]+) of \1 events' &&
    in_container postgres env PGPASSWORD=dev_password psql -U envoy_user -d envoy_control -qAt -c 'SELECT count(*) FROM fleet_events' | grep -E '^[1-9]'
}
