#!/usr/bin/env bash
# Remove what install.sh made. State (images, volumes, containers) stays unless PURGE=1.
. "$(dirname "$0")/common.sh"

prefix=${PREFIX:-/opt/proa}
destdir=${DESTDIR:-}

proa() { "$prefix/bin/proa" -H unix:///run/proa/proa.sock "$@"; }

if [ -z "$destdir" ]; then
    need_root uninstall
    if [ -S /run/proa/proa.sock ] && [ -x "$prefix/bin/proa" ]; then
        running=$(proa ps -q 2>/dev/null || true)
        if [ -n "$running" ] && [ -z "${PURGE:-}" ]; then
            fail "$(wc -l <<<"$running") container(s) are running, and would run on with nobody to stop them" \
                "stop them first:  proa stop \$(proa ps -q)" "or remove all there is:  make uninstall PURGE=1"
        fi
        if [ -n "${PURGE:-}" ]; then
            step "Removing all containers and networks"
            all=$(proa ps -aq 2>/dev/null || true)
            # word splitting is meant: one id a word
            [ -z "$all" ] || proa rm -f -v $all >/dev/null
            all=$(proa network ls -q --filter type=custom 2>/dev/null || true)
            [ -z "$all" ] || proa network rm $all >/dev/null
        fi
    fi
    if [ -d /run/systemd/system ]; then
        step "Stopping the daemon"
        systemctl disable --now proad.socket proad.service 2>/dev/null || true
    elif pidof -x "$prefix/bin/proad" >/dev/null; then
        fail "a proad started by hand still runs (pid $(pidof -x "$prefix/bin/proad"))" "stop it: kill PID"
    fi
fi

step "Removing units, commands and $prefix"
rm -f "$destdir/etc/systemd/system/proad.service" "$destdir/etc/systemd/system/proad.socket" \
    "$destdir/etc/sysusers.d/proa.conf" "$destdir/etc/tmpfiles.d/proa.conf"
for command in proa proad; do
    link=$destdir/usr/local/bin/$command
    [ "$(readlink "$link" 2>/dev/null)" != "$prefix/bin/$command" ] || rm -f "$link"
done
# Only what is ours: a PREFIX such as /usr/local would hold other people's files.
if [ -e "$destdir$prefix/pyvenv.cfg" ]; then rm -rf -- "$destdir$prefix"; fi

[ -z "$destdir" ] || exit 0
[ ! -d /run/systemd/system ] || systemctl daemon-reload

state=''
[ -z "${PURGE:-}" ] || state=/var/lib/proa
step "Removing bridges, rules and cgroups${state:+, and all state}"
"$root/scripts/forget.sh" "$state" /run/proa proa0 proa /proa

if [ -n "${PURGE:-}" ]; then
    ! getent group proa >/dev/null || groupdel proa
else
    [ ! -e /var/lib/proa ] || note "images, volumes and containers are kept in /var/lib/proa; PURGE=1 removes them"
    ! getent group proa >/dev/null || note "the group proa is kept"
fi
