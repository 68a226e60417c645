#!/usr/bin/env bash
# Restores what backup.sh made into a running cluster, and the archive into an
# empty database.
#
#   restore.sh SET [--state] [--archive] (--dry-run | --yes)
#
#   SET           a folder of backup.sh, or s3://BUCKET/PREFIX/NAME
#   --state       the cluster's state: all nodes at once, or none. Proxies stay
#                 connected and are sent what differs
#   --archive     history, into DATABASE_URL, which must have no tables yet
#   --safety DIR  keeps a snapshot of the present state there first
#                 (default: beside the present folder's other files)
#   --from-cluster ID
#                 the backup is from another cluster, this one
#   --dry-run     verifies the set, says what it is, changes nothing
#   --yes         does it
#
# ECP_SERVER, ECP_TOKEN, DATABASE_URL, AWS_*: as for backup.sh. Run again after a
# failure: the state is restored once more, the archive is refused when the
# first attempt has filled it. For a new cluster from a backup: serve --restore.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

set='' state=false archive=false yes=false safety=. from=()
while [ $# -gt 0 ]; do
  case $1 in
  --state) state=true && shift ;;
  --archive) archive=true && shift ;;
  --safety) valued "$@" && safety=$2 && shift 2 ;;
  --from-cluster) valued "$@" && from=(--from-cluster "$2") && shift 2 ;;
  --dry-run) dry_run=true && shift ;;
  --yes) yes=true && shift ;;
  -h | --help) usage && exit 0 ;;
  -*) misuse "unknown argument $1" ;;
  *) [ -z "$set" ] || misuse "one SET, not two" && set=$1 && shift ;;
  esac
done
[ -n "$set" ] || misuse "a SET is needed"
$state || $archive || misuse "--state or --archive is needed"
[ "$dry_run" != "$yes" ] || misuse "either --dry-run or --yes"
need ecpctl jq sha256sum
if $archive; then
  need psql pg_restore
  [ -n "${DATABASE_URL:-}" ] || misuse "--archive needs DATABASE_URL"
fi

if [[ $set == s3://* ]]; then
  need curl
  fetched=$(mktemp -d)
  trap 'rm -rf "$fetched"' EXIT
  s3 get "$set/SHA256SUMS" "$fetched/SHA256SUMS"
  while read -r _ file; do
    s3 get "$set/${file##*/}" "$fetched/${file##*/}"
  done < <(sed 's/^\([0-9a-f]*\) [ *]/\1 /' "$fetched/SHA256SUMS")
  set=$fetched
fi
[ -r "$set/SHA256SUMS" ] || die "$set is no set of backup.sh: it has no SHA256SUMS"
(cd "$set" && sha256sum --check --strict --quiet SHA256SUMS) || die "$set is damaged"
say "the set is whole: cluster $(field .id <"$set/cluster.json"), index $(field .index <"$set/cluster.json")"

if $archive; then
  [ -r "$set/archive.dump" ] || die "the set has no archive"
  tables=$(psql "$DATABASE_URL" -qAtc "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
  [ "$tables" = 0 ] || die "the database has $tables tables: give an empty one, nodes must not write to it meanwhile"
fi
if $state; then
  ecpctl restore "$set/state.snapshot" "${from[@]}" --dry-run >&2
fi
if $dry_run; then
  say "nothing was changed"
  exit 0
fi

if $archive; then
  pg_restore --exit-on-error --no-owner --no-privileges --single-transaction --dbname="$DATABASE_URL" "$set/archive.dump"
  say "the archive is restored"
fi
if $state; then
  before="$safety/before-restore-$(date -u +%Y%m%dT%H%M%SZ).snapshot"
  ecpctl backup "$before" --verify >&2
  say "the present state is kept in $before"
  ecpctl restore "$set/state.snapshot" "${from[@]}" --yes >&2
fi
