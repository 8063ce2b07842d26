#!/usr/bin/env bash
# Say what this machine lacks before anything is installed on it. The argument is the target that asks.
. "$(dirname "$0")/common.sh"

need_root "$1"
need_kernel
need_cgroups
