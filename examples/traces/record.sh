#!/bin/bash
# Records the traces of written pages in this folder again: ./record.sh [LOAD…], as root.
#
# Debian: apt-get install redis-server memcached postgresql postgresql-contrib nginx-light sqlite3 \
#     gcc golang-go default-jdk-headless qemu-system-x86 cpio python3-numpy
# The virtual machines take Debian's cloud kernel and busybox, downloaded and unpacked, not installed.
#
# Each program runs warm before the first window, at a rate that is given to it. A recording takes the
# place of the one that is shipped only if the load reached four fifths of its rate and the windows
# are what was asked for (programs/pack.py); otherwise it says so, goes on with the next load, and
# ends with 1. The recorder has the higher priority: windows end when it gets the processor.
# Nothing else should run on the machine. Some ten minutes in all.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
pageferry=${PAGEFERRY:-$here/../../.venv/bin/pageferry}
python=${PYTHON:-$here/../../.venv/bin/python}
client="$python $here/programs/client.py"
loads="redis_get redis_set memcached postgres sqlite compile go_gc java_gc numeric nginx vm_boot vm_idle"
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}"

# needs COMMAND…: all of them are there.
needs() {
    for command; do
        command -v "$command" >/dev/null && continue
        echo "$command is not installed; the beginning of $0 has Debian's packages" >&2
        exit 1
    done
}

# started PID: is ended when this load is over, however it ends.
started() { running="$running $1"; }
ended() { kill "$@" 2>/dev/null || true; wait "$@" 2>/dev/null || true; }

# record NAME PID [OPTION…]: 20 s of a running process in windows of 10 ms.
record() {
    name=$1 pid=$2
    shift 2
    nice -n -10 "$pageferry" record --pid "$pid" --out "$work/$name.parquet" --quiet \
        --windows 10ms --for 20s --content "$@"
}

# take NAME ASKED REACHED UNIT: the recording becomes the one that is shipped, if it is good enough.
take() {
    "$python" "$here/programs/pack.py" "$work/$1.parquet" "$here/$1.parquet" \
        --asked "$2" --reached "$3" --unit "$4"
}

# asked NAME PID WARMUP RATE UNIT CLIENT…: records PID while a client asks, WARMUP seconds after it
# began.
asked() {
    name=$1 pid=$2 warm=$3 rate=$4 unit=$5
    shift 5
    "$@" --rate "$rate" --for 120 >"$work/$name.rate" &
    asking=$!
    started $asking
    sleep "$warm"
    record "$name" "$pid"
    kill -TERM $asking
    wait $asking
    read -r reached unanswered <"$work/$name.rate"
    echo "$name: $unanswered requests had no answer when it ended"
    take "$name" "$rate" "$reached" "$unit"
}

# paced NAME WARMUP RATE UNIT COMMAND…: records a program that keeps a rate by itself for so many
# seconds, its last two arguments; it prints what it reached.
paced() {
    name=$1 warm=$2 rate=$3 unit=$4
    shift 4
    "$@" $((warm + 25)) "$rate" >"$work/$name.rate" &
    pid=$!
    started $pid
    sleep "$warm"
    record "$name" $pid
    wait $pid
    take "$name" "$rate" "$(tail -1 "$work/$name.rate")" "$unit"
}

# until_there COMMAND…: until it succeeds, for a minute.
until_there() {
    for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
    echo "$* did not come up" >&2
    exit 1
}

# 100,000 values of 1,000 bytes; keys drawn uniformly.
redis_with() {
    needs redis-server
    redis-server --port 0 --unixsocket "$work/redis" --save '' --appendonly no >/dev/null &
    server=$!
    started $server
    until_there test -S "$work/redis"
    $client redis "$work/redis" --keys 100000 --fill
    asked "$1" $server 8 4000 "requests a second" \
        $client redis "$work/redis" --keys 100000 --sets "$2"
}
redis_get() { redis_with redis-get 0; }
redis_set() { redis_with redis-set 0.5; }

# 60,000 values of 1,000 bytes; 1 of 10 requests stores one.
memcached() {
    needs memcached
    command memcached -u root -s "$work/memcached" -a 777 -m 100 -t 1 &
    server=$!
    started $server
    until_there test -S "$work/memcached"
    $client memcached "$work/memcached" --keys 60000 --fill
    asked memcached $server 5 4000 "requests a second" \
        $client memcached "$work/memcached" --keys 60000 --sets 0.1
}

# pgbench's mix of select, update and insert on 400,000 accounts, one client, 150 transactions a
# second asked for, no waiting for the log's disk. Its backend is recorded, with the shared buffers as
# it writes them; what the other processes write, all of which are looked at after it, is printed.
postgres() {
    needs pgbench psql setpriv
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
    as="setpriv --reuid=postgres --regid=postgres --clear-groups --"
    install -d -o postgres "$work/pg"
    $as "$bin/initdb" -D "$work/pg/data" -A trust >/dev/null
    $as "$bin/postgres" -D "$work/pg/data" -k "$work/pg" -c listen_addresses= \
        -c shared_buffers=64MB -c huge_pages=off -c synchronous_commit=off >"$work/pg/log" 2>&1 &
    server=$!
    started $server
    until_there $as "$bin/pg_isready" -h "$work/pg"
    sql="$as $bin/psql -h $work/pg -d postgres -At"
    $as "$bin/pgbench" -h "$work/pg" -i -s 4 -q postgres >/dev/null 2>&1
    $as "$bin/pgbench" -h "$work/pg" -c 1 -R 150 -T 75 postgres >"$work/pgbench" 2>&1 &
    asking=$!
    started $asking
    sleep 10
    record postgres "$($sql -c "select pid from pg_stat_activity where application_name = 'pgbench'")"
    for other in $($sql -c "select backend_type || ':' || pid from pg_stat_activity
            where backend_type in ('checkpointer', 'background writer', 'walwriter')" | tr ' ' -); do
        echo "postgres: ${other%:*}, in 5 s:"
        nice -n -10 "$pageferry" record --pid "${other#*:}" --out "$work/other.parquet" --force \
            --quiet --windows 10ms --for 5s | grep written
    done
    wait $asking
    take postgres 150 "$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$work/pgbench")" "transactions a second"
    kill -INT $server
    wait $server || true
}

# A table of 60,000 rows in memory and an index over it; 40 times a second 20 rows are updated by key
# and 20 are read.
sqlite() { paced sqlite-rows 10 40 "transactions a second" "$python" "$here/programs/rows.py"; }

# The compiler proper on a preprocessed program of 800 functions, from start to end; once before
# without being recorded, which says how fast it should be.
compile() {
    needs gcc
    "$python" "$here/programs/functions.py" 800 >"$work/many.c"
    gcc -E "$work/many.c" -o "$work/many.i"
    compiler="$(gcc -print-prog-name=cc1) -fpreprocessed -quiet -O1 $work/many.i -o $work/many.s"
    begin=$(date +%s%N)
    nice -n -10 "$python" "$here/programs/small_pages.py" $compiler
    alone=$(($(date +%s%N) - begin))
    # The summary says how long the program ran; the recorder first loads itself.
    nice -n -10 "$pageferry" record --out "$work/compile.parquet" --quiet --windows 10ms --content \
        --no-huge-pages --json "$work/compile.json" -- $compiler
    per_second() { "$python" -c "print(800e9 / $1)"; }
    recorded=$(sed -n 's/.*"duration_ns": \([0-9]*\).*/\1/p' "$work/compile.json")
    take compile "$(per_second $alone)" "$(per_second "$recorded")" "functions a second"
}

# 20,000 sessions of some 1.3 KB; 4,000 a second are replaced, and the collector takes the old ones.
go_gc() {
    needs go
    go build -o "$work/sessions" "$here/programs/sessions.go"
    paced go-gc 5 4000 "sessions a second" "$work/sessions"
}

# The same in a JVM with a heap of 96 MiB. It warms up for longer: compiled, not interpreted.
java_gc() {
    needs javac java
    javac -d "$work" "$here/programs/Sessions.java"
    paced java-gc 15 4000 "sessions a second" java -Xms96m -Xmx96m -XX:+UseG1GC -cp "$work" Sessions
}

# Heat on a plate: two arrays of 8 MiB, 4 steps a second, each of which writes one of them.
numeric() {
    export OPENBLAS_NUM_THREADS=1
    paced numeric 5 4 "steps a second" "$python" "$here/programs/heat.py"
}

# 2,000 files of 20 KB, 1,500 requests a second over one kept connection, with a log.
nginx() {
    needs nginx
    mkdir "$work/files" "$work/temp"
    for n in $(seq -f %06.0f 0 1999); do head -c 20000 /dev/urandom >"$work/files/$n"; done
    cat >"$work/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/error.log;
events {}
http {
    access_log $work/access.log;
    keepalive_requests 100000000;
    sendfile off;
    client_body_temp_path $work/temp;
    proxy_temp_path $work/temp;
    fastcgi_temp_path $work/temp;
    uwsgi_temp_path $work/temp;
    scgi_temp_path $work/temp;
    server { listen unix:$work/nginx; root $work/files; }
}
CONF
    command nginx -c "$work/nginx.conf" &
    server=$!
    started $server
    until_there test -S "$work/nginx"
    until_there pgrep -P $server
    asked nginx "$(pgrep -P $server)" 5 1500 "requests a second" \
        $client http "$work/nginx" --keys 2000
}

# A Linux of Debian's cloud kernel with busybox and nothing else, in 128 MiB: what it writes from the
# first instruction on until it is up and after, and when it has nothing to do. Translated by QEMU
# (TCG) and so some ten times slower than under KVM. Small pages, so that none counts for 512.
guest_image() {
    needs qemu-system-x86_64 cpio apt-get dpkg-deb
    kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -1)
    (cd "$work" && apt-get download "$kernel" busybox-static >/dev/null 2>&1)
    for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/debian"; done
    mkdir -p "$work/root/bin"
    cp "$work/debian/bin/busybox" "$work/root/bin/"
    printf '#!/bin/busybox sh\n/bin/busybox mkdir /proc\n/bin/busybox mount -t proc proc /proc\n%s\n%s\n' \
        'echo up since $(/bin/busybox cat /proc/uptime)' \
        'while :; do /bin/busybox sleep 1000; done' >"$work/root/init"
    chmod 755 "$work/root/init"
    (cd "$work/root" && find . | cpio -o -H newc 2>/dev/null | gzip) >"$work/initrd"
}
# guest CONSOLE [OPTION…]: starts it, as $machine.
guest() {
    console=$1
    shift
    nice -n -10 "$python" "$here/programs/small_pages.py" qemu-system-x86_64 -machine q35,accel=tcg -cpu max \
        -m 128 -smp 1 -nodefaults -display none -serial "file:$console" \
        -kernel "$work"/debian/boot/vmlinuz-* -initrd "$work/initrd" -append console=ttyS0 "$@" &
    machine=$!
    started $machine
}
# up CONSOLE: the guest's own seconds when it was up.
up() { sed -n 's/.*up since \([0-9.]*\).*/\1/p' "$1"; }
boots_per_second() { "$python" -c "print(1 / $1)"; }

# Booted once before without being recorded, which says how fast it should be.
vm_boot() {
    guest_image
    guest "$work/alone"
    until_there grep -q 'up since' "$work/alone"
    ended $machine
    guest "$work/recorded" -S -qmp "unix:$work/qmp,server,nowait"
    until_there test -S "$work/qmp"
    (sleep 6; "$python" "$here/programs/qmp.py" "$work/qmp" cont) &
    record vm-boot $machine --for 40s
    echo "vm-boot: up after $(up "$work/alone") s, recorded after $(up "$work/recorded") s of its time"
    take vm-boot "$(boots_per_second "$(up "$work/alone")")" \
        "$(boots_per_second "$(up "$work/recorded")")" "boots a second"
}
vm_idle() {
    guest_image
    guest "$work/console"
    until_there grep -q 'up since' "$work/console"
    sleep 10
    record vm-idle $machine
    take vm-idle 0 0 "requests a second: it has nothing to do"
}

# one LOAD: in a folder and with processes of its own, which are gone when it is over.
one() (
    set -eu
    work=$(mktemp -d)
    chmod 755 "$work"
    running=
    trap 'ended $running; rm -rf "$work"' EXIT
    "$1"
)

[ $# -gt 0 ] || set -- $loads
for load; do
    case " $loads " in *" $load "*) ;; *) echo "there is no load $load; there are: $loads" >&2; exit 2 ;; esac
done
needs "$pageferry" "$python" bash nice pgrep
[ "$(id -u)" = 0 ] || { echo "run it as root: the servers change users, the recorder its priority" >&2; exit 1; }
failed=
for load; do
    echo "== $load"
    set +e
    one "$load"
    [ $? = 0 ] || failed="$failed $load"
    set -e
done
[ -z "$failed" ] || { echo "not recorded:$failed" >&2; exit 1; }
