#!/bin/sh
# archive_command: copies one WAL segment into the archive, whole or not at all.
#
#   archive-wal.sh PATH NAME          as Postgres calls it ("%p" "%f")
#
# WAL_ARCHIVE is the folder, /var/lib/postgresql/wal-archive when unset: on
# another disk, better another machine. A segment that is there already with
# other content is an error, never overwritten: two servers share a folder.
set -eu

case ${1-} in
-h | --help | '')
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac

archive=${WAL_ARCHIVE:-/var/lib/postgresql/wal-archive}
to=$archive/$2
if [ -e "$to" ]; then
  cmp -s "$1" "$to" && exit 0 # a repetition, after a crash
  echo "archive-wal: $to exists and differs" >&2
  exit 1
fi
new=$archive/.$2.new
cp "$1" "$new"
sync "$new"
mv "$new" "$to"
sync "$archive"
