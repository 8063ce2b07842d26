#!/usr/bin/env bash
# A private dockerd for the bench to stand beside, with its own state, bridge and socket.
#
#   scripts/peer-dockerd.sh start [DIR]     start one and print PEER=unix://DIR/docker.sock
#   scripts/peer-dockerd.sh stop [DIR]      stop it and remove all that it made
#   scripts/peer-dockerd.sh run COMMAND...  start one, run COMMAND with $PEER set, stop it whatever happens
#
# A dockerd that runs here already is left alone, and so are the packet filter chains that all dockerds share.
. "$(dirname "$0")/common.sh"

bridge=proapeer0
subnet=172.29.0.1/16

locate_dockerd() {
    command -v dockerd >/dev/null || fail "there is no dockerd on this machine" \
        "on Debian: apt-get install --no-install-recommends docker.io (and stop the service that it starts)"
}

memory_directory() {
    if [ "$(stat -fc %T /run)" = tmpfs ]; then echo /run; else echo /dev/shm; fi
}

# The pid of the dockerd of a directory, only if it is that one and not another process that got its number.
running_pid() {
    local pid
    pid=$(cat "$1/docker.pid" 2>/dev/null) || return 1
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$1/docker.sock" && echo "$pid"
}

start() {
    local dir=$1
    need_root bench
    locate_dockerd
    mkdir -p "$dir"
    dir=$(realpath "$dir")
    echo "{}" >"$dir/none.json"
    iptables-save >"$dir/filter.before" 2>/dev/null || true
    cat /proc/sys/net/ipv4/ip_forward >"$dir/forward.before"
    iptables -S FORWARD 2>/dev/null | head -n 1 >"$dir/policy.before"
    # dockerd wants its bridge to exist if it is not named docker0
    ip link add "$bridge" type bridge || fail "there is a bridge $bridge already" \
        "another dockerd of this script runs; if it died, remove what it left: ip link del $bridge"
    touch "$dir/bridge.made"
    ip address add "$subnet" dev "$bridge"
    ip link set "$bridge" up
    # An exec root belongs in memory, as /run is wherever systemd runs.
    [ -e "$dir/exec" ] || ln -s "$(mktemp -d "$(memory_directory)/proa-peer.XXXXXX")" "$dir/exec"
    dockerd --data-root "$dir/data" --exec-root "$(realpath "$dir/exec")" --pidfile "$dir/docker.pid" \
        --host "unix://$dir/docker.sock" --bridge "$bridge" --config-file "$dir/none.json" \
        --log-level warn </dev/null >"$dir/dockerd.log" 2>&1 &
    local pid=$! tries
    for tries in $(seq 150); do
        curl -fs --unix-socket "$dir/docker.sock" http://docker/_ping >/dev/null 2>&1 && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    if ! curl -fs --unix-socket "$dir/docker.sock" http://docker/_ping >/dev/null 2>&1; then
        tail -n 20 "$dir/dockerd.log" >&2
        stop "$dir"
        fail "dockerd did not come up" "its last words are above"
    fi
}

stop() {
    local dir pid tries
    dir=$(realpath "$1")
    if pid=$(running_pid "$dir"); then
        local socket=$dir/docker.sock id
        for id in $(curl -fs --unix-socket "$socket" 'http://docker/containers/json?all=1' | grep -oE '"Id":"[0-9a-f]{64}"' | cut -d'"' -f4); do
            curl -fs -X DELETE --unix-socket "$socket" "http://docker/containers/$id?force=1&v=1" >/dev/null || true
        done
        kill -TERM "$pid"
        for tries in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        kill -KILL "$pid" 2>/dev/null || true
    fi
    if [ -e "$dir/bridge.made" ]; then
        ip link del "$bridge" 2>/dev/null || true
        remove_chains "$dir"
    fi
    local exec_root
    exec_root=$(realpath "$dir/exec")
    for under in "$dir" "$exec_root"; do
        awk -v under="$under/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount_point; do
            umount "$mount_point" || umount -l "$mount_point"
        done
    done
    rm -rf "$exec_root" "$dir"
}

# dockerd leaves its chains behind; put the packet filter back as it was found.
remove_chains() {
    local dir=$1
    [ -e "$dir/filter.before" ] || return 0
    local table chain ours="$bridge|172\.29\."
    # The chains may be another dockerd's; rules with our bridge or subnet never are.
    grep -q DOCKER "$dir/filter.before" || ours="$ours|DOCKER"
    for table in filter nat; do
        iptables -t "$table" -S 2>/dev/null | grep -E "^-A .*($ours)" | sed 's/^-A/-D/' |
            while read -r rule; do eval "iptables -t $table $rule" 2>/dev/null || true; done
    done
    if ! grep -q DOCKER "$dir/filter.before"; then
        for table in filter nat; do
            for chain in $(iptables -t "$table" -S 2>/dev/null | awk '/^-N DOCKER/ { print $2 }'); do
                iptables -t "$table" -F "$chain" && iptables -t "$table" -X "$chain" || true
            done
        done
    fi
    [ ! -s "$dir/policy.before" ] || eval "iptables $(cat "$dir/policy.before")" || true
    cat "$dir/forward.before" >/proc/sys/net/ipv4/ip_forward
    # Chains of an empty packet filter are themselves left-overs of iptables having been asked.
    if [ ! -s "$dir/filter.before" ]; then
        local table
        for table in filter nat mangle raw; do
            [ -n "$(iptables -t "$table" -S 2>/dev/null | grep -v '^-P')" ] || nft delete table ip "$table" 2>/dev/null || true
        done
    fi
}

case ${1:-} in
    start)
        dir=${2:-/tmp/proa-peer}
        start "$dir"
        echo "PEER=unix://$(realpath "$dir")/docker.sock"
        ;;
    stop) stop "${2:-/tmp/proa-peer}" ;;
    run)
        shift
        [ $# -gt 0 ] || fail "run what?" "scripts/peer-dockerd.sh run make bench"
        dir=$(mktemp -d /tmp/proa-peer.XXXXXX)
        trap 'stop "$dir"' EXIT
        trap 'exit 130' INT TERM
        start "$dir"
        PEER=unix://$dir/docker.sock "$@"
        ;;
    *) fail "say start, stop or run" "the top of this file tells how" ;;
esac
