#!/bin/sh
# Records the traces in this folder again: ./capture.sh [redis] [sqlite]
#
# Debian: apt-get install valgrind redis-server redis-tools sqlite3
# A program runs some thousand times slower than by itself: a quarter of an hour in all. Its
# accesses go through a pipe; nothing large is written.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
pageferry=${PAGEFERRY:-$here/../../.venv/bin/pageferry}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# record OUT COMMAND INSTRUCTIONS_PER_SECOND PROGRAM...: the accesses of PROGRAM as a trace.
record() {
    out=$1 command=$2 speed=$3
    shift 3
    valgrind --tool=lackey --trace-mem=yes --log-fd=9 "$@" 9>&1 >/dev/null 2>&1 |
        "$pageferry" trace import lackey - --out "$here/$out" --force \
            --command "$command" --instructions-per-second "$speed"
}

# 10,000 times a value of 6,000 bytes is set under one of 8,000 keys; then values are read,
# counters counted and lists pushed to. At 100M instructions a second of guest time that is a
# server with some ten thousand requests a second: busy, but waiting most of the time.
redis() {
    socket=$work/redis.sock
    # No snapshots: a forked child would write its accesses among the server's.
    record redis.parquet 'redis-server: redis-benchmark, 10,000 SET of 6,000 bytes, GET, INCR, LPUSH' \
        100M \
        redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no --hz 1 &
    until redis-cli -s "$socket" ping >/dev/null 2>&1; do sleep 1; done
    load() {
        redis-benchmark -s "$socket" -r 8000 -d 6000 -P 16 -c 4 "$@" >/dev/null 2>&1
    }
    load -n 10000 -t set
    load -n 2000 -t get,incr
    redis-benchmark -s "$socket" -n 2000 -d 200 -P 16 -c 4 -t lpush >/dev/null 2>&1
    redis-cli -s "$socket" shutdown nosave || true
    wait $!
}

# 5,000 rows of 2,000 bytes, an index over their names, which come in no order, and then a
# quarter of them written anew by that index; all in a page cache of 32 MB.
sqlite() {
    record sqlite.parquet 'sqlite3: 5,000 rows, an index over them, a quarter updated' 200M \
        sqlite3 "$work/index.db" "
            PRAGMA cache_size = -32000;
            PRAGMA journal_mode = off;
            PRAGMA synchronous = off;
            CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note BLOB);
            BEGIN;
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                INSERT INTO item
                SELECT i, printf('%08x', i * 2654435761 % 4294967296), zeroblob(1700 + i % 300)
                FROM n;
            CREATE INDEX item_by_name ON item (name);
            UPDATE item SET note = zeroblob(1700 + id % 300) WHERE name BETWEEN '2' AND '6';
            COMMIT;"
}

[ $# -gt 0 ] || set -- redis sqlite
for name; do "$name"; done
