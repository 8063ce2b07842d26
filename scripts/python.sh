#!/usr/bin/env bash
# Print the path of a Python that proa can run on. PYTHON=... is taken at its word.
set -euo pipefail

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    # By running it: a shim of a version manager may be there with nothing behind it.
    if "$name" -c "$fits" 2>/dev/null; then
        "$name" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done

echo "error: no Python from 3.11 up to 3.13 found${PYTHON:+ (PYTHON=$PYTHON)}" >&2
echo "       Debian 12 and 13 have one: apt-get install python3 python3-venv" >&2
exit 1
