#!/usr/bin/env bash
# Make or refresh .venv: the locked dependency set, checked by hash, and this checkout itself.
. "$(dirname "$0")/common.sh"
cd "$root"

python=$("$root/scripts/python.sh")
stamp=.venv/stamp
wanted=$({ cat pyproject.toml requirements-dev.lock; "$python" -VV; pwd; } | sha256sum)

if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

if [ "$(.venv/bin/python -V 2>/dev/null)" != "$("$python" -V)" ]; then
    step "Making a virtual environment with $("$python" -V)"
    rm -rf .venv
    quietly "$python" -m venv .venv || fail "could not make a virtual environment" \
        "on Debian: apt-get install python3-venv"
fi

step "Installing $(grep -c == requirements-dev.lock) locked Python packages (a minute or so the first time)"
pip=(.venv/bin/python -m pip --disable-pip-version-check install --progress-bar off)
quietly "${pip[@]}" --require-hashes -r requirements-dev.lock ||
    fail "could not install the Python packages" "pip's own words are above; is a package index reachable?"

step "Installing proa from this checkout"
quietly "${pip[@]}" --no-deps --no-build-isolation --editable . || fail "could not install this checkout"
# With two source roots setuptools writes an import hook, which costs each start of python 20 ms; two paths do as well.
printf '%s\n' "$root/daemon" "$root/client" >"$(echo .venv/lib/python3.*/site-packages/__editable__.proa-*.pth)"
printf '%s\n' "$wanted" >"$stamp"
