#!/usr/bin/env bash
# Install what the engine needs of the distribution; with `test`, also what only the tests need.
# Looks for the things themselves, not for packages, so it does nothing where they are already there.
. "$(dirname "$0")/common.sh"

for_tests=${1:-}

shared_library() { ldconfig -p 2>/dev/null | grep -q "$1" || ls /usr/lib/*/"$1"* >/dev/null 2>&1; }
static_busybox() { [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1; }
python_has() { "$("$root/scripts/python.sh" 2>/dev/null || echo false)" -c "import $1" >/dev/null 2>&1; }

# One line each: a Debian package, what it is wanted for, and how to see that it is there.
missing=()
want() {
    local package=$1 purpose=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    missing+=("$package")
    printf '    missing: %-32s %s\n' "$package" "$purpose"
}

step "Looking for what the engine needs of the distribution"
want crun "the OCI runtime of choice" command -v crun
want runc "the OCI runtime where crun does not work" command -v runc
want conmon "one small monitor for each container" command -v conmon
want libnftables1 "published ports and NAT" shared_library libnftables.so.1
want nftables "to look at the rules by hand" command -v nft
want iproute2 "to look at links by hand" command -v ip
want golang-github-containers-common "the default seccomp profile" test -e /usr/share/containers/seccomp.json
want busybox-static "the demo's and the tests' image" static_busybox
want curl "the demo's and the tests' HTTP client" command -v curl
want procps "finding the demo's own processes" command -v pgrep
want python3-venv "a virtual environment of our own" python_has ensurepip
want ca-certificates "fetching the Python packages" test -e /etc/ssl/certs/ca-certificates.crt
if [ "$for_tests" = test ]; then
    want util-linux "namespaces for the tests" command -v unshare
    want iptables "other programs' rules for the tests" command -v iptables-nft
    want docker-compose "the tests bring services up with it" command -v docker-compose
    want git "contexts of builds in repositories" command -v git
    want skopeo "the tests ask it what it sees in images and archives" command -v skopeo
fi

apt_install() {
    DEBIAN_FRONTEND=noninteractive quietly apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "$@"
}

refresh() {
    [ -z "${refreshed:-}" ] || return 0
    note "refreshing the package lists"
    quietly apt-get -o DPkg::Lock::Timeout=300 -qq update || fail "apt-get update failed" \
        "check this machine's network and /etc/apt/sources.list"
    refreshed=yes
}

known() { apt-cache show "$1" >/dev/null 2>&1; }

need_apt() {
    command -v apt-get >/dev/null || fail "this is not a Debian-like system (no apt-get), and these are missing: $*" \
        "install them with your own package manager, under the names it gives them, then run this again"
    need_root deps
}

if [ ${#missing[@]} -gt 0 ]; then
    need_apt "${missing[@]}"
    for package in "${missing[@]}"; do known "$package" || refresh; done
    step "Installing ${#missing[@]} package(s): ${missing[*]}"
    # Stale lists name files that the mirror has already replaced, so refresh once before giving up.
    apt_install "${missing[@]}" 2>/dev/null || { refresh && apt_install "${missing[@]}"; } ||
        fail "could not install: ${missing[*]}" "the last lines above are apt's own words"
fi

# unpack DIRECTORY PACKAGE...: the files of packages, where installing them would start a service.
unpack() {
    local into=$1 work package half
    shift
    work=$(mktemp -d)
    # apt's own download user may not enter root's private directories
    chmod 0755 "$work"
    (cd "$work" && quietly apt-get -qq -o APT::Sandbox::User=root download "$@" &&
        for package in *.deb; do dpkg-deb -x "$package" tree || exit; done) ||
        { rm -rf "$work"; fail "could not get $*" "the last lines above are apt's own words"; }
    for half in bin sbin lib; do # as on a machine whose /lib is a link to /usr/lib
        [ ! -d "$work/tree/$half" ] || {
            mkdir -p "$work/tree/usr/$half"
            cp -a "$work/tree/$half/." "$work/tree/usr/$half"
            rm -r "$work/tree/$half"
        }
    done
    mkdir -p "$(dirname "$into")"
    mv "$work/tree" "$into"
    rm -rf "$work"
}

# take_out PACKAGE PROGRAM: one program of a package into .tools.
take_out() {
    local package=$1 program=$2 unpacked=$root/.tools/.unpacked
    rm -rf "$unpacked"
    unpack "$unpacked" "$package"
    install -m 0755 "$unpacked/$program" "$root/.tools/$(basename "$program")"
    rm -r "$unpacked"
}

# The docker CLI, for the tests that speak through it. Debian 13 packages it alone. In Debian 12 it comes with
# the Docker daemon, which nobody asked for: only the one program is taken out of that package.
if [ "$for_tests" = test ] && ! command -v docker >/dev/null && [ ! -x "$root/.tools/docker" ]; then
    need_apt docker-cli
    refresh
    if known docker-cli; then
        step "Installing the docker CLI"
        apt_install docker-cli || fail "could not install docker-cli" "the last lines above are apt's own words"
    elif known docker.io; then
        step "Taking the docker CLI out of the docker.io package (no daemon is installed)"
        take_out docker.io usr/bin/docker
    else
        note "no package has the docker CLI here: the tests that need it will be skipped"
    fi
fi

# A real registry for the tests, who start it on loopback themselves: the package would start one as a service.
if [ "$for_tests" = test ] && ! command -v docker-registry >/dev/null && [ ! -x "$root/.tools/docker-registry" ]; then
    need_apt docker-registry
    known docker-registry || refresh
    step "Taking the registry out of the docker-registry package (no service is installed)"
    take_out docker-registry usr/bin/docker-registry
fi

# Other firewalls, for the tests that run them in namespaces of their own. Installed, firewalld would start at once
# and ufw have its say at the next boot: their files are taken out of their packages, and what they need to run is
# installed.
if [ "$for_tests" = test ] && [ ! -d "$root/.tools/firewalls" ] &&
    ! { command -v firewalld && command -v ufw; } >/dev/null; then
    need_apt firewalld ufw
    refresh
    needed=(firewalld python3-firewall python3-nftables ufw dbus-daemon python3-dbus python3-gi)
    unknown=()
    for package in "${needed[@]}"; do known "$package" || unknown+=("$package"); done
    if [ ${#unknown[@]} -eq 0 ]; then
        step "Taking firewalld and ufw out of their packages (neither is installed)"
        apt_install "${needed[@]:4}" || fail "could not install ${needed[*]:4}" "the last lines above are apt's own words"
        unpack "$root/.tools/firewalls" "${needed[@]:0:4}"
    else
        note "no package ${unknown[*]} here: the tests that need firewalld and ufw will be skipped"
    fi
fi

note "everything is there"
