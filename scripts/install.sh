#!/usr/bin/env bash
# Install into $PREFIX (/opt/proa) with systemd units. Doing it again upgrades in place; running containers and
# the running daemon are left alone. With DESTDIR files are laid out below it and nothing is done to the system.
. "$(dirname "$0")/common.sh"
cd "$root"

prefix=${PREFIX:-/opt/proa}
destdir=${DESTDIR:-}
target=$destdir$prefix
[ "${prefix#/}" != "$prefix" ] || fail "PREFIX must be an absolute path, not '$prefix'"

if [ -z "$destdir" ]; then
    need_root install
    need_kernel
    scripts/deps.sh
fi
python=$(scripts/python.sh)

if [ -x "$target/bin/python" ] && [ "$("$target/bin/python" -V 2>/dev/null)" != "$("$python" -V)" ]; then
    note "the Python of $target has changed: making its environment anew"
    rm -rf "$target"
fi
if [ ! -x "$target/bin/python" ]; then
    step "Making a virtual environment in $target with $("$python" -V)"
    mkdir -p "$target"
    quietly "$python" -m venv "$target" || fail "could not make a virtual environment" \
        "on Debian: apt-get install python3-venv"
fi

step "Installing $(grep -c == requirements.lock) locked Python packages (a minute or so the first time)"
pip=("$target/bin/python" -m pip --disable-pip-version-check install --progress-bar off)
quietly "${pip[@]}" --require-hashes -r requirements.lock || fail "could not install the Python packages"

step "Installing proa"
# Built from a copy: setuptools would leave its build directory in the checkout, and pick up what lies in an old one.
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
cp -r pyproject.toml README.md LICENSE daemon client "$source"
quietly "${pip[@]}" --no-deps --no-build-isolation --force-reinstall "$source" || fail "could not install proa"
if [ -n "$destdir" ]; then
    # Scripts name their interpreter by its path, which is another one once the tree is where it belongs.
    grep -rlIF "$target" "$target/bin" "$target/pyvenv.cfg" | xargs -r sed -i "s|$target|$prefix|g"
    find "$target" -name __pycache__ -type d -prune -exec rm -rf {} +
fi

step "Installing units and commands"
units=$destdir/etc/systemd/system
install -d "$units" "$destdir/usr/local/bin" "$destdir/etc/sysusers.d" "$destdir/etc/tmpfiles.d"
for unit in proad.service proad.socket; do
    sed "s|/opt/proa/|$prefix/|" "systemd/$unit" >"$units/$unit.new"
    chmod 0644 "$units/$unit.new"
    mv "$units/$unit.new" "$units/$unit"
done
install -m 0644 systemd/sysusers.conf "$destdir/etc/sysusers.d/proa.conf"
install -m 0644 systemd/tmpfiles.conf "$destdir/etc/tmpfiles.d/proa.conf"
for command in proa proad; do ln -sfn "$prefix/bin/$command" "$destdir/usr/local/bin/$command"; done

if [ -n "$destdir" ]; then
    note "laid out below $destdir"
    exit 0
fi
if ! getent group proa >/dev/null; then
    step "Making the group proa"
    if command -v systemd-sysusers >/dev/null; then systemd-sysusers "$destdir/etc/sysusers.d/proa.conf"; else groupadd --system proa; fi
fi
if command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --create /etc/tmpfiles.d/proa.conf
else
    install -d -m 0711 /run/proa
    install -d -m 0710 /var/lib/proa
fi

step "Installed proa $("$prefix/bin/proad" --version | awk '{ print $NF }') into $prefix"
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if systemctl is-active --quiet proad.service; then
        note "the old daemon still runs; containers stay up while you change to the new one: systemctl restart proad"
    else
        note "start it now and at every boot:  systemctl enable --now proad.socket proad.service"
    fi
else
    note "systemd does not run here; start the daemon by hand:  proad &"
fi
note "let somebody use it without sudo (this makes them root on this host):  usermod -aG proa NAME"
note "point docker at it:  export DOCKER_HOST=unix:///run/proa/proa.sock"
