#!/usr/bin/env bash
# Makes a backup: the cluster's whole state, and the archive when there is one.
#
#   backup.sh --to DIR [--s3 s3://BUCKET/PREFIX] [--keep N] [--dry-run]
#
#   --to DIR      where the set is made, a folder ecp-TIME-INDEX of its own
#   --s3 URL      copies the set there, too
#   --keep N      removes all but the newest N sets of DIR afterwards
#   --no-archive  leaves Postgres out
#   --dry-run     says what it would do
#
# ECP_SERVER, ECP_TOKEN: the cluster, as for ecpctl. DATABASE_URL: the archive,
# dumped when it is set. S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
# AWS_ENDPOINT_URL.
#
# A set has state.snapshot, archive.dump (pg_restore reads it), cluster.json and
# SHA256SUMS. It gets its name when it is complete: one that was cut off leaves a
# folder .partial-*, which the next run removes. Secrets of tenants are in the
# snapshot as they rest, encrypted; those of Kubernetes are not copied: keep the
# key file and the JWT secret in a vault. What a bucket keeps is for its
# lifecycle rules to say.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

to='' bucket='' keep=0 archive=true
while [ $# -gt 0 ]; do
  case $1 in
  --to) valued "$@" && to=$2 && shift 2 ;;
  --s3) valued "$@" && bucket=$2 && shift 2 ;;
  --keep) valued "$@" && keep=$2 && shift 2 ;;
  --no-archive) archive=false && shift ;;
  --dry-run) dry_run=true && shift ;;
  -h | --help) usage && exit 0 ;;
  *) misuse "unknown argument $1" ;;
  esac
done
[ -n "$to" ] || misuse "--to is needed"
[[ $keep =~ ^[0-9]+$ ]] || misuse "--keep takes a number"
[[ -z $bucket || $bucket == s3://?*/?* ]] || misuse "--s3 takes s3://BUCKET/PREFIX"
need ecpctl jq sha256sum
[ -z "$bucket" ] || need curl

if $archive && [ -n "${DATABASE_URL:-}" ]; then need pg_dump; else archive=false; fi

if $dry_run; then
  say "would back up $ECP_SERVER to $to${bucket:+ and $bucket}, archive: $archive"
  ecpctl cluster >&2
  exit 0
fi

umask 077
mkdir -p "$to"
# One at a time: two would remove each other's partial sets.
exec 9>"$to/.lock"
flock --nonblock 9 || die "another backup to $to is under way"
rm -rf "$to"/.partial-*
partial=$(mktemp -d "$to/.partial-XXXXXX")
trap 'rm -rf "$partial"' EXIT

ecpctl cluster -o json >"$partial/cluster.json"
index=$(ecpctl backup "$partial/state.snapshot" --verify -o json | field .index)
if $archive; then
  # Behind the snapshot: it has at least what the snapshot's cluster had archived.
  pg_dump --format=custom --no-owner --no-privileges --file="$partial/archive.dump" "$DATABASE_URL"
fi
(cd "$partial" && sha256sum -- * >.sums && mv .sums SHA256SUMS)
sync -f "$partial"
set="$to/ecp-$(date -u +%Y%m%dT%H%M%SZ)-$index"
mv -T "$partial" "$set" || die "$set is there already"
trap - EXIT
say "made $set"

if [ -n "$bucket" ]; then
  # SHA256SUMS last: with it the set is complete.
  for file in cluster.json state.snapshot archive.dump SHA256SUMS; do
    [ ! -e "$set/$file" ] || s3 put "${bucket%/}/${set##*/}/$file" "$set/$file"
  done
  say "copied to ${bucket%/}/${set##*/}"
fi

if [ "$keep" -gt 0 ]; then
  mapfile -t sets < <(find "$to" -maxdepth 1 -type d -name 'ecp-*Z-*' | sort)
  for old in "${sets[@]:0:$((${#sets[@]} > keep ? ${#sets[@]} - keep : 0))}"; do
    rm -rf "$old"
    say "removed $old"
  done
fi
printf '%s\n' "$set"
