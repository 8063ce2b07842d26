#!/usr/bin/env bash
# Prove on a real machine what no test can inside another one: systemd as pid 1, pure cgroup v2, a reboot.
#
# Makes a Debian of SUITE (bookworm or trixie) once, in .vm/, then boots it under qemu without any network and runs
# scripts/vm-inside.sh there on a clone of HEAD. With PYTEST_ARGS it also runs those tests. Without KVM it takes
# half an hour.
. "$(dirname "$0")/common.sh"
cd "$root"

suite=${SUITE:-bookworm}
case $suite in
    bookworm) python=3.11 ;;
    trixie) python=3.13 ;;
    *) fail "no recipe for the suite '$suite'" "SUITE may be bookworm or trixie" ;;
esac
need_root vm
declare -A packages=([mmdebstrap]=mmdebstrap [mke2fs]=e2fsprogs [qemu-system-x86_64]=qemu-system-x86)
for tool in "${!packages[@]}"; do
    command -v "$tool" >/dev/null || fail "this needs $tool" "apt-get install --no-install-recommends ${packages[$tool]}"
done

base=$root/.vm/$suite
work=''
qemu=''
clean_up() {
    [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
    [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$base"
work=$(mktemp -d "$root/.vm/work.XXXXXX")

# What a fresh Debian has for this: the base system, `apt-get install git make`, and what deps.sh finds missing.
make_disk() {
    step "Making a Debian $suite (two minutes)"
    git bundle create -q "$work/deps.bundle" HEAD
    quietly mmdebstrap --variant=minbase \
        --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,kmod,apparmor,python3,make,git,ca-certificates \
        --customize-hook="copy-in '$work/deps.bundle' /root" \
        --customize-hook='chroot "$1" sh -ec "
            cd /root
            git -c advice.detachedHead=false -c init.defaultBranch=main clone -q deps.bundle deps
            deps/scripts/deps.sh test
            [ ! -e deps/.tools/docker ] || mv deps/.tools/docker /usr/local/bin/
            rm -r deps deps.bundle"' \
        "$suite" "$work/root" || fail "mmdebstrap could not make it" "its last words are above"
    echo vm >"$work/root/etc/hostname"
    cat >"$work/root/etc/systemd/system/inside.service" <<'UNIT'
[Unit]
Description=What this machine was started for
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /run/inside && tar -xf /dev/vdb -C /run/inside && exec bash /run/inside/vm-inside.sh'
StandardOutput=file:/dev/ttyS1
StandardError=inherit
TimeoutStartSec=infinity
# a reboot is part of it, and must find nothing to wait for here
TimeoutStopSec=1
Environment=HOME=/root PIP_NO_INDEX=1 PIP_FIND_LINKS=/run/inside/wheels

[Install]
WantedBy=multi-user.target
UNIT
    install -d "$work/root/etc/systemd/system/multi-user.target.wants"
    ln -s ../inside.service "$work/root/etc/systemd/system/multi-user.target.wants/"
    cp "$work"/root/boot/vmlinuz-* "$base/vmlinuz"
    cp "$work"/root/boot/initrd.img-* "$base/initrd"
    truncate -s 8G "$work/disk"
    mke2fs -q -F -t ext4 -d "$work/root" "$work/disk"
    rm -rf "$work/root"
    mv "$work/disk" "$base/disk"
}
[ -e "$base/disk" ] || make_disk

step "Taking along HEAD and its Python packages"
mkdir "$work/in"
cp scripts/vm-inside.sh "$work/in/"
printf '%s' "${PYTEST_ARGS:-}" >"$work/in/pytest-args"
git bundle create -q "$work/in/proa.bundle" HEAD
quietly .venv/bin/python -m pip --disable-pip-version-check download --progress-bar off --no-deps --require-hashes \
    --only-binary=:all: --python-version "$python" --dest "$work/in/wheels" -r requirements-dev.lock ||
    fail "could not fetch the Python packages for Python $python"
tar -C "$work/in" -cf "$work/in.tar" .
truncate -s %1M "$work/in.tar"

# A /dev/kvm may be there on a machine that cannot nest; there it hangs.
accel=tcg
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then accel=kvm; fi
step "Booting it (accelerator: $accel)"
: >"$work/report"
qemu-system-x86_64 -accel "$accel" -cpu max -m 3072 -smp 2 -nodefaults -display none \
    -kernel "$base/vmlinuz" -initrd "$base/initrd" -append 'root=/dev/vda rw console=ttyS0 systemd.show_status=false' \
    -drive "file=$base/disk,format=raw,if=virtio,snapshot=on,cache=unsafe" \
    -drive "file=$work/in.tar,format=raw,if=virtio,readonly=on" \
    -device virtio-rng-pci -serial "file:$base/console" -serial "file:$work/report" </dev/null &
qemu=$!
timeout "${VM_TIMEOUT_S:-5400}" tail -n +1 -f --pid="$qemu" "$work/report" | sed -u 's/^/    /; s/\r$//' || true
grep -q '^all as it should be' "$work/report" || fail "not all was as it should be" "the machine's console is in $base/console"
