#!/bin/sh
# Copies the primary into an empty replica, again until it works. A copy that was
# broken off is made anew.
set -eu

if [ -s "$PGDATA/PG_VERSION" ]; then
  exit 0
fi
until
  rm -rf "$PGDATA.copy"
  pg_basebackup --pgdata "$PGDATA.copy" --host "$PRIMARY" --username replicator --wal-method stream \
    --checkpoint fast --write-recovery-conf
do
  sleep 2
done
mv "$PGDATA.copy" "$PGDATA"
