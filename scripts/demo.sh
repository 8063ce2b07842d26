#!/usr/bin/env bash
# What proa does, shown on a daemon with a socket, state, bridge and cgroup of its own. Leaves nothing behind,
# interrupted or not.
. "$(dirname "$0")/common.sh"
cd "$root"

PATH=$root/.venv/bin:$PATH
dir='' daemon='' events='' names=()

# In a session of its own, so that an interrupt at the terminal reaches this script only, which then cleans up.
launch_daemon() {
    setsid proad --host "unix://$socket" --data-root "$dir/data" --exec-root "$dir/run" --log-level warn \
        >>"$dir/log" 2>&1 </dev/null &
    daemon=$!
    disown "$daemon"  # or the shell tells of its death in the middle of the output
}

await_daemon() {
    local tries
    for tries in $(seq 400); do
        ! curl -fs --unix-socket "$socket" http://proa/_ping >/dev/null || return 0
        alive "$daemon" || return 1
        sleep 0.05
    done
    return 1
}

start_daemon() {
    launch_daemon
    await_daemon && return
    sed 's/^/    /' "$dir/log" >&2
    fail "the daemon did not come up; its log is above" "look at what this host lacks: .venv/bin/proad --check"
}

stop_process() {
    local pid=$1 tries
    kill -TERM "$pid" 2>/dev/null || return 0
    for tries in $(seq 200); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
}

alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

clean_up() {
    trap '' INT TERM
    [ -n "$dir" ] || return 0
    [ -z "$events" ] || stop_process "$events"
    # By its command line: an interrupt may have come before its pid was noted.
    daemon=$(pgrep -f -- "proad --host unix://$socket " || true)
    if [ -d "$dir/data" ] && ! alive "$daemon"; then
        launch_daemon  # only a daemon knows how to take containers down
    fi
    if alive "$daemon"; then
        local all=''
        ! await_daemon || all=$(proa ps -aq 2>/dev/null || true)
        # word splitting is meant: one id a word
        [ -z "$all" ] || proa rm -f -v $all >/dev/null || true
        stop_process "$daemon"
    fi
    [ ${#names[@]} -eq 0 ] || "$root/scripts/forget.sh" "$dir/data" "$dir/run" "${names[@]}" || true
    rm -rf "$dir"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

dir=$(mktemp -d /tmp/proa-demo.XXXXXX)
socket=$dir/sock
export PROA_HOST=unix://$socket
# What this daemon calls its bridge, its nftables table and its cgroup: all derived from the exec root.
read -ra names < <(python - "$dir/run" <<'PYTHON'
import sys
from proad.config import load
config = load({"exec_root": sys.argv[1]})
print(config.bridge, config.table, config.cgroup_parent)
PYTHON
)
bridge=${names[0]} table=${names[1]} cgroup=${names[2]}

show() { printf '    %s$ %s%s\n' "$dim" "$*" "$plain"; }

# Show a command, run it, and indent what it prints.
run() {
    show "$*"
    "$@" 2>&1 | sed 's/^/    /'
}

step "What this host has"
proad --data-root "$dir/data" --exec-root "$dir/run" --check | sed 's/^/    /' || fail "this host cannot run containers" "the lines marked MISSING above say why"

step "Starting proad, with a socket and state of its own in $dir"
began=$(date +%s%N)
start_daemon
note "ready after $((($(date +%s%N) - began) / 1000000)) ms"

step "Subscribing to its events, with curl"
show curl -N --unix-socket "$socket" http://proa/events
setsid curl -sN --unix-socket "$socket" http://proa/events >"$dir/events" 2>/dev/null &
events=$!
disown "$events"

step "Making an image of this host's /bin/busybox"
mkdir -p "$dir/image"/{bin,etc,tmp,www}
cp /bin/busybox "$dir/image/bin/"
for applet in sh echo cat ls httpd sleep hostname id wget; do ln -s busybox "$dir/image/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' >"$dir/image/etc/passwd"
echo 'Ahoy from a container on proa.' >"$dir/image/www/index.html"
tar -C "$dir/image" --owner=0 --group=0 -cf "$dir/image.tar" .
run proa import "$dir/image.tar" demo:latest

step "Running a container"
run proa run --rm demo echo 'hello, world'

step "Publishing a port, and fetching from it"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
run proa run -d --name web -p "$port:80" demo httpd -f -p 80 -h /www
fetch() { curl -fsS --retry 20 --retry-delay 0 --retry-connrefused --max-time 5 "http://127.0.0.1:$port/"; }
show curl "http://127.0.0.1:$port/"
fetch | sed 's/^/    /'

step "Where the time of that start went"
run proa inspect --timeline web

step "Killing the daemon with SIGKILL"
pid=$(proa inspect --format '{{.State.Pid}}' web)
kill -KILL "$daemon"
while kill -0 "$daemon" 2>/dev/null; do sleep 0.01; done
note "the daemon (pid $daemon) is dead; the container's process (pid $pid) is $(kill -0 "$pid" && echo alive), and its port answers:"
fetch | sed 's/^/    /'

step "Starting it again: the container is adopted"
start_daemon
run proa ps
[ "$(proa inspect --format '{{.State.Pid}}' web)" = "$pid" ] || fail "the container was not adopted"
note "the same process still, pid $pid"
fetch | sed 's/^/    /'
run proa stop -t 1 web
run proa rm web

step "The events of all that"
curl -s --unix-socket "$socket" "http://proa/events?since=0&until=$(date +%s.%N)" >"$dir/all"
note "the first subscriber was told $(grep -c . "$dir/events") of $(grep -c . "$dir/all") before the daemon died; one that asks since=0 is told all:"
python - "$dir/all" <<'PYTHON'
import json, sys, time
for line in open(sys.argv[1]):
    event = json.loads(line)
    actor = event["Actor"]
    name = actor["Attributes"].get("name", actor["ID"][:12])
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    print(f"    {clock}.{event['timeNano'] // 1_000_000 % 1000:03} {event['Type']:<10} {event['Action']:<10} {name}")
PYTHON

step "Taking it all down"
clean_up
trap - EXIT
left=0
gone() {
    if "${@:2}" >/dev/null 2>&1; then
        note "left behind: $1"
        left=1
    fi
}
gone "bridge $bridge" ip link show "$bridge"
gone "nftables table $table" nft list table inet "$table"
gone "nftables table $table for bridges" nft list table bridge "$table"
gone "mounts below $dir" grep -qF " $dir/" /proc/self/mountinfo
gone "the directory $dir" test -e "$dir"
gone "processes" pgrep -f "$dir/"
gone "cgroups" sh -c "ls -d /sys/fs/cgroup$cgroup /sys/fs/cgroup/*$cgroup"
[ "$left" -eq 0 ] || fail "something was left behind, which is a bug"
note "no process, mount, interface, rule, cgroup or file is left"
