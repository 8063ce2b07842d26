#!/usr/bin/env bash
# Remove what a stopped daemon keeps for the next one: forget.sh DATA_ROOT EXEC_ROOT BRIDGE TABLE CGROUP.
# Its containers must be gone.
. "$(dirname "$0")/common.sh"

data_root=$1 exec_root=$2 bridge=$3 table=$4 cgroup=$5

for tree in "$data_root" "$exec_root"; do
    awk -v under="$tree/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount_point; do umount "$mount_point" || umount -l "$mount_point"; done
    rm -rf -- "${tree:?}"
done
! ip link show "$bridge" >/dev/null 2>&1 || ip link delete "$bridge"
! nft list table ip "$table" >/dev/null 2>&1 || nft delete table ip "$table"
awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts | while read -r hierarchy; do
    [ ! -d "$hierarchy$cgroup" ] || find "$hierarchy$cgroup" -depth -type d -exec rmdir {} +
done
