# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run.

dry_run=false
# Where the cluster is, as ecpctl takes it.
export ECP_SERVER="${ECP_SERVER:-http://127.0.0.1:8080}"

# usage prints the comment at the top of the script.
usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
}

say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

# misuse ends with exit code 2.
misuse() {
  printf '%s: %s\nRun it with --help for what there is.\n' "${0##*/}" "$*" >&2
  exit 2
}

# valued checks that the option in $1 has a value behind it.
valued() {
  if [ $# -lt 2 ] || [ -z "$2" ]; then misuse "$1 needs a value"; fi
}

# need fails unless the programs are there.
need() {
  local program
  for program; do
    command -v "$program" >/dev/null || die "$program is needed and not on the PATH"
  done
}

# run runs a command that changes something, or only says it with --dry-run.
run() {
  if $dry_run; then
    printf 'would run:' >&2
    printf ' %q' "$@" >&2
    printf '\n' >&2
  else
    "$@"
  fi
}

# field reads one field of JSON on standard input.
field() { jq -er "$1"; }

# within SECONDS WHAT COMMAND...: repeats the command until it succeeds.
within() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt "$end" ] || die "$what: not within the time"
    sleep 1
  done
}

# s3 METHOD S3_URL [FILE]: puts a file into a bucket, or gets it. Credentials
# from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server from
# AWS_ENDPOINT_URL.
s3() {
  local method=$1 path=${2#s3://} file=$3
  local region=${AWS_REGION:-us-east-1}
  local endpoint=${AWS_ENDPOINT_URL:-https://s3.$region.amazonaws.com}
  local -a request=(--fail --silent --show-error --retry 3 --aws-sigv4 "aws:amz:$region:s3")
  if [ -n "${AWS_SESSION_TOKEN:-}" ]; then
    request+=(--header "x-amz-security-token: $AWS_SESSION_TOKEN")
  fi
  case $method in
  put) request+=(--upload-file "$file" --header "x-amz-content-sha256: $(sha256sum "$file" | cut -d' ' -f1)") ;;
  get) request+=(--output "$file" --header "x-amz-content-sha256: $(sha256sum /dev/null | cut -d' ' -f1)") ;;
  esac
  # The credentials by standard input: arguments are everybody's to read.
  printf 'user = "%s:%s"\n' "${AWS_ACCESS_KEY_ID:?is needed}" "${AWS_SECRET_ACCESS_KEY:?is needed}" |
    curl --config - "${request[@]}" "$endpoint/$path"
}
