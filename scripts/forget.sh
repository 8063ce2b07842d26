#!/usr/bin/env bash
# Remove what a stopped daemon keeps for the next one: forget.sh DATA_ROOT EXEC_ROOT BRIDGE TABLE CGROUP.
# Its containers must be gone, or at least not run. With an empty DATA_ROOT, its state stays.
. "$(dirname "$0")/common.sh"

data_root=$1 exec_root=$2 bridge=$3 table=$4 cgroup=$5

# Bridges that the table knows and that are called after networks; the others may be somebody's own.
bridges_of_networks() {
    nft list set inet "$table" bridges 2>/dev/null | grep -oE '"br-[0-9a-f]{12}"' | tr -d '"' || true
}

# Where others' chains drop what they do not know, the daemon has put rules before that, with its mark on them.
foreign_rules() {
    nft -a list ruleset 2> >(grep -v '^# Warning' >&2) | awk -v mark="comment \"proad:$table\"" '
        $1 == "table" { table = $2 " " $3 }
        $1 == "chain" { chain = $2 }
        index($0, mark) { print "delete rule", table, chain, "handle", $NF }'
}

# Only where iptables-legacy is in use: asking it loads its tables.
remove_legacy_rules() {
    local program=$1 names=$2 rule
    grep -qsx filter "/proc/self/net/$names" || return 0
    "$program" -S | sed -nE "/ --comment \"?proad:$table\"? /s/^-A/-D/p" |
        while read -r rule; do xargs "$program" <<<"$rule"; done
}

# Where firewalld lets nobody else change its rules, the daemon has put its bridges into a zone.
leave_zone() {
    command -v firewall-cmd >/dev/null || return 0
    ! nft list table inet firewalld 2>/dev/null | grep -F "iifname \"$1\"" | grep filter_FWD_trusted >/dev/null ||
        firewall-cmd -q --zone=trusted --remove-interface="$1"
}

for tree in ${data_root:+"$data_root"} "$exec_root"; do
    awk -v under="$tree/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount_point; do umount "$mount_point" || umount -l "$mount_point"; done
    rm -rf -- "${tree:?}"
done
for link in "$bridge" $(bridges_of_networks); do
    leave_zone "$link"
    ! ip link show "$link" >/dev/null 2>&1 || ip link delete "$link"
done
foreign_rules | nft -f -
remove_legacy_rules iptables-legacy ip_tables_names
remove_legacy_rules ip6tables-legacy ip6_tables_names
for family in inet bridge; do
    ! nft list table "$family" "$table" >/dev/null 2>&1 || nft delete table "$family" "$table"
done
awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts | while read -r hierarchy; do
    [ ! -d "$hierarchy$cgroup" ] || find "$hierarchy$cgroup" -depth -type d -exec rmdir {} +
done
