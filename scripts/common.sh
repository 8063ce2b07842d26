# What the scripts share: how they speak, and what they refuse to start without.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' dim='' red='' plain=''
fi

step() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }

note() { printf '    %s%s%s\n' "$dim" "$*" "$plain"; }

# fail WHAT [WHAT TO DO...]: one line that says what is wrong, then one for each thing that helps.
fail() {
    printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# Run a command whose output matters only when it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    [ "$status" -eq 0 ] || tail -n 40 "$log" >&2
    rm -f "$log"
    return "$status"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || fail "$1 needs root: it makes mounts, network namespaces and cgroups" \
        "run it again as root, for instance: sudo make $1"
}

# The engine opens paths with openat2, which Linux has since 5.6; the rest it needs is older.
need_kernel() {
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s); containers need Linux" "use a Linux machine or VM"
    local release major minor
    release=$(uname -r)
    IFS=. read -r major minor _ <<<"$release"
    minor=${minor%%[!0-9]*}
    if [ "$major" -lt 5 ] || { [ "$major" -eq 5 ] && [ "${minor:-0}" -lt 6 ]; }; then
        fail "Linux $release is too old: proa needs 5.6 or newer (openat2, pidfds)" \
            "Debian 12 (6.1) and Debian 13 (6.12) are fine"
    fi
    grep -qw overlay /proc/filesystems || modprobe -q overlay 2>/dev/null || true
    grep -qw overlay /proc/filesystems || fail "this kernel has no overlayfs, which root filesystems are made of" \
        "load or build in the 'overlay' module (CONFIG_OVERLAY_FS)"
}

need_cgroups() {
    awk '$3 == "cgroup" || $3 == "cgroup2" { found = 1 } END { exit !found }' /proc/mounts ||
        fail "no cgroup file system is mounted, so no container can be limited or even found again" \
            "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup" \
            "inside another container: give that one a cgroup mount (--privileged --cgroupns=private)"
    local path
    path=$(awk '$3 == "cgroup2" || $3 == "cgroup" { print $2; exit }' /proc/mounts)
    [ -w "$path" ] || fail "the cgroup file system at $path is read-only here" \
        "inside another container: run that one with --privileged"
}
