#!/usr/bin/env bash
# Run by vm.sh as root inside its machine, once after each boot: an installed proa under a real systemd, from the
# demo to the uninstallation, with a reboot in the middle. Ends with the line "all as it should be".
set -uo pipefail

state=/root/vm
mkdir -p "$state"
export DOCKER_HOST=unix:///run/proa/proa.sock

ok() { # ok WHAT COMMAND...
    if "${@:2}" >"$state/log" 2>&1; then echo "ok    $1"; else
        echo "FAIL  $1"
        tail -n 20 "$state/log" | sed 's/^/      /'
        touch "$state/failed"
    fi
}
is() { [ "$1" = "$2" ] || { echo "is '$1', should be '$2'"; return 1; }; }
not() { ! "$@"; }
within() { # within SECONDS COMMAND...
    local end=$((SECONDS + $1))
    until "${@:2}"; do [ "$SECONDS" -lt "$end" ] || return 1; sleep 1; done
}
field() { docker inspect -f "{{$2}}" "$1"; }
cgroup() { echo "/sys/fs/cgroup/proa/$(field "$1" .Id)"; }
file_is() { is "$(cat "$1")" "$2"; }
same_process() { is "$(field web .State.Pid)" "$pid" && kill -0 "$pid"; }
answers() { curl -fsS --retry 9 --retry-all-errors http://127.0.0.1:8080/ | grep -q ahoy; }
main_pid() { systemctl show -P MainPID proad; }
replaced() { not is "$(main_pid)" "$1" && systemctl -q is-active proad; }

make_image() {
    mkdir -p /tmp/image/{bin,etc,tmp,www} && cp /bin/busybox /tmp/image/bin/ && echo ahoy >/tmp/image/www/index.html
    for applet in sh httpd sleep tail true; do ln -s busybox "/tmp/image/bin/$applet"; done
    tar -C /tmp/image -c . | proa import - busybox:latest
}

limits_hold() {
    local group
    group=$(cgroup web)
    file_is "$group/memory.max" "$1" && file_is "$group/memory.swap.max" "$2" && file_is "$group/pids.max" "$3" &&
        file_is "$group/cpu.max" "$4"
}

nothing_left() {
    not pgrep -a conmon && not grep -E ' (/var/lib|/run)/proa/' /proc/self/mounts &&
        is "$(ip -br link show type veth)$(ip netns)$(ls /run/proa/runs)$(ls -d /sys/fs/cgroup/proa/*/ 2>/dev/null)" ""
}

first_boot() {
    echo "Linux $(uname -r), systemd $(systemctl --version | awk 'NR == 1 { print $2 }'), $(python3 -V), $(crun --version | head -n 1)"
    ok "cgroup v2 with controllers" grep -qw memory /sys/fs/cgroup/cgroup.controllers
    ok "make demo" make demo
    ok "make install" make install
    ok "make install again" make install
    ok "units verify" systemd-analyze verify proad.service proad.socket
    ok "the socket listens" systemctl start proad.socket
    ok "the socket is the group's" is "$(stat -c '%U %G %a' /run/proa/proa.sock)" "root proa 660"
    ok "the daemon does not run yet" not systemctl -q is-active proad
    ok "the first request starts it" curl -fsS --unix-socket /run/proa/proa.sock http://proa/_ping
    ok "and it is active" within 5 systemctl -q is-active proad
    ok "enable" systemctl enable --now proad.socket proad.service
    useradd alice; usermod -aG proa alice; useradd bob
    ok "a member of the group may use it" su alice -c 'proa ps'
    ok "somebody else may not" not su bob -c 'proa ps'
    ok "an image" make_image

    ok "run, with limits" proa run -d --name web --restart always -p 8080:80 -m 64m --cpus 0.5 --pids-limit 50 \
        busybox httpd -f -p 80 -h /www
    pid=$(field web .State.Pid)
    ok "its port answers" answers
    ok "the limits are in the cgroup" limits_hold 67108864 67108864 50 '50000 100000'
    ok "update" proa update -m 100m --memory-swap 100m --cpus 0.25 --pids-limit 77 web
    ok "the new limits are in the cgroup" limits_hold 104857600 0 77 '25000 100000'
    ok "systemd leaves them alone" systemctl daemon-reload
    systemctl set-property --runtime dbus.service CPUWeight=50
    ok "the new limits are still there" limits_hold 104857600 0 77 '25000 100000'
    ok "pause" proa pause web
    ok "all of it is frozen" grep -q 'frozen 1' "$(cgroup web)/cgroup.events"
    ok "unpause" proa unpause web
    ok "out of memory" is "$(proa run --name hog -m 32m --memory-swap 32m busybox tail /dev/zero >/dev/null 2>&1; echo $?)" 137
    ok "and it is told why" is "$(field hog .State.OOMKilled)" true
    ok "an event told of it" grep -q ' oom ' \
        <(docker events --since 10m --until "$(date +%s.%N)" --filter container=hog --filter event=oom)
    ok "AppArmor confines" grep -q '(enforce)' "/proc/$pid/attr/current"
    ok "a container's oom score is not the daemon's" file_is "/proc/$pid/oom_score_adj" 0

    ok "restart of the daemon" systemctl restart proad
    ok "the same process is adopted" same_process
    ok "its port answers" answers
    ok "stop of the daemon and its socket" systemctl stop proad.socket proad.service
    ok "its port answers without them" answers
    ok "start" systemctl start proad
    ok "the same process is adopted" same_process
    local daemon
    daemon=$(main_pid)
    kill -STOP "$daemon"
    ok "a daemon that hangs is replaced" within 180 replaced "$daemon"
    ok "the same process is adopted" same_process
    ok "reload" systemctl reload proad

    # Ends by itself when told to, and says so; what does not listen must not hold the shutdown up.
    ok "run what ends when told" proa run -d --name polite -v /root/vm:/vm busybox \
        sh -c 'trap "echo bye >/vm/bye; exit 3" TERM; while :; do sleep 1; done'
    ok "run what does not listen" proa run -d --name deaf busybox sleep 100000
    date +%s >"$state/rebooted"
    sync
    systemctl reboot
}

second_boot() {
    local up down
    up=$(cut -d. -f1 /proc/uptime)
    down=$(($(date +%s) - $(cat "$state/rebooted") - up))
    echo "      shut down in $down s"
    ok "the shutdown was not held up" test "$down" -lt 60
    ok "the daemon is active" within 60 systemctl -q is-active proad
    ok "what always runs is running" within 30 is "$(field web .State.Status)" running
    ok "its port answers" answers
    ok "what ends when told was told, and ended" is "$(cat "$state/bye") $(field polite .State.ExitCode)" "bye 3"
    ok "what does not listen was killed" is "$(field deaf .State.Status) $(field deaf .State.ExitCode)" "exited 137"
    ok "rm" proa rm -f web polite deaf hog
    ok "nothing is left of them" within 10 nothing_left
    local args
    args=$(cat /run/inside/pytest-args)
    # word splitting is meant
    if [ -n "$args" ]; then
        ok "pytest $args" .venv/bin/python -m pytest $args
        grep -E '^SKIPPED|^=+ .* in [0-9.]+s' "$state/log" | sed 's/^/      /'
    fi
    ok "a network" proa network create own
    ok "run once more" proa run -d --name last --network own -p 8080:80 busybox sleep 100000
    ok "uninstall refuses while something runs" not make uninstall
    ok "uninstall" make uninstall PURGE=1
    ok "no state, unit, group, bridge or table is left" is "$(ls -d /var/lib/proa /run/proa /opt/proa /sys/fs/cgroup/proa \
        /etc/systemd/system/proad* 2>/dev/null; getent group proa; ip -br link show type bridge; nft list tables)" ""
    [ -e "$state/failed" ] || echo "all as it should be"
    systemctl poweroff
}

if [ ! -e "$state/rebooted" ]; then
    git -c advice.detachedHead=false -c init.defaultBranch=main clone -q /run/inside/proa.bundle /root/proa
    cd /root/proa && first_boot
else
    cd /root/proa && second_boot
fi
