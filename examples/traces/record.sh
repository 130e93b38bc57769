#!/bin/bash
# Records the traces of written pages in this folder again: ./record.sh [NAME…], as root.
#
# Debian: apt-get install redis-server memcached postgresql postgresql-contrib nginx-light sqlite3 \
#     gcc golang-go qemu-system-x86 cpio python3-numpy
# The virtual machines take Debian's cloud kernel and busybox, downloaded and unpacked, not installed.
# Each program runs warm before the first window, at a rate that is given to it; what it achieved
# is in its file, and `pageferry trace show` prints it. Some fifteen minutes in all.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
pageferry=${PAGEFERRY:-$here/../../.venv/bin/pageferry}
python=${PYTHON:-$here/../../.venv/bin/python}
client="$python $here/programs/client.py"
work=$(mktemp -d)
chmod 755 "$work"
started=
trap 'kill $started 2>/dev/null || true; wait; rm -rf "$work"' EXIT

# record NAME PID [OPTION…]: 20 s of a running process in windows of 10 ms.
record() {
    name=$1 pid=$2
    shift 2
    "$pageferry" record --pid "$pid" --out "$here/$name.parquet" --force --quiet \
        --windows 10ms --for 20s --content "$@" | tee -a "$work/said"
}

# rate NAME TEXT: what a load achieved, in the file that is shipped.
rate() {
    echo "$1: $2"
    "$python" "$here/programs/pack.py" "$here/$1.parquet" "$2"
}

# asked NAME PID WARMUP CLIENT…: records PID while a client asks, WARMUP seconds after it began.
asked() {
    name=$1 pid=$2 warm=$3
    shift 3
    "$@" >"$work/$name.rate" &
    asking=$!
    sleep "$warm"
    record "$name" "$pid"
    kill -INT $asking 2>/dev/null || true
    wait $asking || true
    rate "$name" "$(tail -1 "$work/$name.rate")"
}

# until_there COMMAND…: until it succeeds, for half a minute.
until_there() {
    for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
    echo "$* did not come up" >&2
    exit 1
}

# 100,000 values of 1,000 bytes, two thirds of 200 MB; keys drawn uniformly.
redis_with() {
    name=$1 sets=$2
    redis-server --port 0 --unixsocket "$work/redis" --save '' --appendonly no >/dev/null &
    pid=$!
    started="$started $pid"
    until_there test -S "$work/redis"
    $client redis "$work/redis" --keys 100000 --fill
    asked "$name" $pid 8 $client redis "$work/redis" --keys 100000 --rate 4000 --sets "$sets" --for 60
    kill $pid
    wait $pid || true
}
redis_get() { redis_with redis-get 0; }
redis_set() { redis_with redis-set 0.5; }

# 60,000 values of 1,000 bytes; 1 of 10 requests stores one.
memcached() {
    command memcached -u root -s "$work/memcached" -a 777 -m 100 -t 1 &
    pid=$!
    started="$started $pid"
    until_there test -S "$work/memcached"
    $client memcached "$work/memcached" --keys 60000 --fill
    asked memcached $pid 5 \
        $client memcached "$work/memcached" --keys 60000 --rate 4000 --sets 0.1 --for 60
    kill $pid
    wait $pid || true
}

# pgbench's mix of select, update and insert on 400,000 accounts, one client, 150 transactions a
# second asked for, no waiting for the log's disk. Its backend is recorded, with the shared buffers as it writes them; what the
# checkpointer and the other processes write is not in the trace.
postgres() {
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
    as="setpriv --reuid=postgres --regid=postgres --clear-groups --"
    install -d -o postgres "$work/pg"
    $as "$bin/initdb" -D "$work/pg/data" -A trust >/dev/null
    $as "$bin/postgres" -D "$work/pg/data" -k "$work/pg" -c listen_addresses= \
        -c shared_buffers=64MB -c huge_pages=off -c synchronous_commit=off >"$work/pg/log" 2>&1 &
    pid=$!
    started="$started $pid"
    until_there $as "$bin/pg_isready" -h "$work/pg"
    sql="$as $bin/psql -h $work/pg -d postgres -At"
    $as "$bin/pgbench" -h "$work/pg" -i -s 4 -q postgres >/dev/null 2>&1
    $as "$bin/pgbench" -h "$work/pg" -c 1 -R 150 -T 60 postgres >"$work/pgbench" 2>&1 &
    asking=$!
    sleep 10
    record postgres "$($sql -c "select pid from pg_stat_activity where application_name = 'pgbench'")"
    wait $asking
    rate postgres "$(grep '^tps' "$work/pgbench")"
    kill -INT $pid
    wait $pid || true
}

# A table of 60,000 rows in memory and an index over it; rows are updated by key, and read, in
# transactions of 20, at whatever speed with a pause of 20 ms after each.
sqlite() {
    "$python" "$here/programs/rows.py" 60 >"$work/sqlite.rate" &
    pid=$!
    started="$started $pid"
    sleep 10
    record sqlite-rows $pid
    wait $pid
    rate sqlite-rows "$(cat "$work/sqlite.rate")"
}

# The compiler proper on a preprocessed program of 800 functions, from start to end.
compile() {
    "$python" "$here/programs/functions.py" 800 >"$work/many.c"
    gcc -E "$work/many.c" -o "$work/many.i"
    begin=$(date +%s)
    "$pageferry" record --out "$here/compile.parquet" --force --quiet --windows 10ms --content \
        --no-huge-pages -- "$(gcc -print-prog-name=cc1)" -fpreprocessed -quiet -O1 "$work/many.i" \
        -o "$work/many.s"
    rate compile "$(echo "$(date +%s) - $begin" | bc) s for 800 functions"
}

# 20,000 sessions of some 1.3 KB; 4,000 a second are replaced, and the collector takes the old ones.
go_gc() {
    go build -o "$work/sessions" "$here/programs/sessions.go"
    "$work/sessions" 45 4000 >"$work/go.rate" &
    pid=$!
    started="$started $pid"
    sleep 5
    record go-gc $pid
    wait $pid
    rate go-gc "$(cat "$work/go.rate")"
}

# Heat on a plate: two arrays of 8 MiB, 4 steps a second, each of which writes one of them.
numeric() {
    OPENBLAS_NUM_THREADS=1 "$python" "$here/programs/heat.py" 45 4 >"$work/numeric.rate" &
    pid=$!
    started="$started $pid"
    sleep 5
    record numeric $pid
    wait $pid
    rate numeric "$(cat "$work/numeric.rate")"
}

# 2,000 files of 20 KB, 1,500 requests a second over one kept connection, with a log.
nginx() {
    mkdir "$work/files" "$work/temp"
    for n in $(seq -f %06.0f 0 1999); do head -c 20000 /dev/urandom >"$work/files/$n"; done
    cat >"$work/nginx.conf" <<CONF
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
    command nginx -c "$work/nginx.conf"
    until_there test -S "$work/nginx"
    worker=$(pgrep -P "$(cat "$work/nginx.pid")")
    asked nginx "$worker" 5 $client http "$work/nginx" --keys 2000 --rate 1500 --for 60
    command nginx -c "$work/nginx.conf" -s stop
}

# A Linux of Debian's cloud kernel with busybox and nothing else, in 128 MiB: what it writes from the
# first instruction on until it is up and after, and when it has nothing to do. Translated by QEMU
# (TCG) and so some ten times slower than under KVM. Small pages, so that none counts for 512.
guest_image() {
    [ -f "$work/initrd" ] && return
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
guest() {
    echo "$python" "$here/programs/small_pages.py" qemu-system-x86_64 -machine "q35,accel=tcg" -cpu max -m 128 -smp 1 -nodefaults \
        -display none -serial "file:$work/console" -kernel "$work"/debian/boot/vmlinuz-* \
        -initrd "$work/initrd" -append console=ttyS0
}
vm_boot() {
    guest_image
    $(guest) -S -qmp "unix:$work/qmp,server,nowait" &
    pid=$!
    started="$started $pid"
    until_there test -S "$work/qmp"
    (sleep 6; "$python" "$here/programs/qmp.py" "$work/qmp" cont) &
    record vm-boot $pid --for 40s
    rate vm-boot "$(grep 'up since' "$work/console" | tr -d '\r')"
    kill $pid
    wait $pid || true
}
vm_idle() {
    guest_image
    $(guest) &
    pid=$!
    started="$started $pid"
    until_there grep -q 'up since' "$work/console"
    sleep 10
    record vm-idle $pid
    rate vm-idle "$(grep 'up since' "$work/console" | tr -d '\r')"
    kill $pid
    wait $pid || true
}

[ $# -gt 0 ] || set -- redis_get redis_set memcached postgres sqlite compile go_gc numeric nginx \
    vm_boot vm_idle
for load; do "$load"; done
