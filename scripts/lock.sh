#!/usr/bin/env bash
# Resolve the dependency set anew: requirements.lock is what proa runs on, requirements-dev.lock adds the tools.
# One lock serves every supported Python and architecture; hashes are those of the packages themselves, so it
# does not matter which index serves them.
. "$(dirname "$0")/common.sh"
cd "$root"

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python=$(scripts/python.sh)
step "Fetching uv, which resolves for all platforms at once"
"$python" -m venv "$tools"
"$tools/bin/python" -m pip --disable-pip-version-check install --quiet uv

# The build backend is locked with the rest, so that building never fetches anything by itself.
backend=$("$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
compile() {
    UV_CUSTOM_COMPILE_COMMAND="make lock" "$tools/bin/uv" --no-config --quiet pip compile --universal \
        --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 "$@" pyproject.toml - <<<"$backend"
}
upgrade=${UPGRADE:+--upgrade}
step "Resolving requirements.lock"
compile $upgrade --output-file requirements.lock >/dev/null
step "Resolving requirements-dev.lock"
compile $upgrade --extra dev --constraint requirements.lock --output-file requirements-dev.lock >/dev/null
