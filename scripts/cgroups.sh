#!/usr/bin/env bash
# For tests: make crun work on a host with the hybrid cgroup layout.
#
# crun refuses such a host while the cgroup2 mount still has a controller of its own. Mounting what is left over
# as cgroup v1, where its siblings are, cures that. Nothing is ever unmounted or moved. The daemon itself does
# not do this: it chooses a runtime that works.
. "$(dirname "$0")/common.sh"

need_root test
need_cgroups

[ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ] && [ -r /sys/fs/cgroup/unified/cgroup.controllers ] || exit 0

for controller in $(cat /sys/fs/cgroup/unified/cgroup.controllers); do
    mount_point=/sys/fs/cgroup/$controller
    mountpoint -q "$mount_point" && continue
    mkdir -p "$mount_point"
    if mount -t cgroup -o "$controller" cgroup "$mount_point" 2>/dev/null; then
        note "mounted the left-over cgroup controller '$controller' as v1, so that crun works on this hybrid host"
    else
        rmdir "$mount_point"
        note "the cgroup controller '$controller' is in use on the cgroup2 mount: crun will not work here, runc will"
    fi
done
