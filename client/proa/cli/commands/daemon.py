"""Sync, blocking. `proa version` and `proa info`."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from typing import Any

import click

from proa import __version__
from proa.cli.group import Command
from proa.cli.session import Session, describe, pass_session, warn
from proa.cli.text.units import human_binary_size
from proa.errors import ProaError
from proa.transport import NEWEST_VERSION

FORMAT_HELP = "'json' or a Go template"


@click.command("version", cls=Command, help="Show version information of the client and the daemon")
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@pass_session
def version(session: Session, /, form: str) -> int:
    newest = f"{NEWEST_VERSION[0]}.{NEWEST_VERSION[1]}"
    client = {
        "Platform": {"Name": "proa"},
        "Version": __version__,
        "ApiVersion": newest,
        "DefaultAPIVersion": newest,
        "PythonVersion": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": _architecture(),
    }
    failure: ProaError | None = None
    server: dict[str, Any] | None = None
    try:
        server = session.client.system.version()
        client["ApiVersion"] = session.client.api_version
    except ProaError as error:
        failure = error  # the client's half is worth showing without the daemon
    if form:
        print(_render(form, {"Client": client, "Server": server}))
    else:
        print("\n\n".join(_version_blocks(client, server)))
    if failure is not None:
        print(describe(failure), file=sys.stderr)
        return 1
    return 0


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _render(form: str, value: dict[str, Any]) -> str:
    if form == "json":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    from proa.cli.text.template import Template

    return Template(form).render(value)


def _version_blocks(client: dict[str, Any], server: dict[str, Any] | None) -> Iterator[str]:
    agreed, newest = client["ApiVersion"], client["DefaultAPIVersion"]
    yield _block(
        "Client: proa",
        {
            "Version": client["Version"],
            "API version": agreed if agreed == newest else f"{agreed} (downgraded from {newest})",
            "Python version": client["PythonVersion"],
            "OS/Arch": f"{client['Os']}/{client['Arch']}",
        },
    )
    if server is None:
        return
    lines = ["Server:"]
    for component in server.get("Components") or [{"Name": "Engine", **server, "Details": server}]:
        details = component.get("Details") or {}
        facts = {"Version": component.get("Version", "")}
        if "ApiVersion" in details:
            facts["API version"] = (
                f"{details['ApiVersion']} (minimum version {details.get('MinAPIVersion', '')})"
            )
        for key, title in (
            ("GoVersion", "Go version"),
            ("PythonVersion", "Python version"),
            ("GitCommit", "Git commit"),
        ):
            if details.get(key):
                facts[title] = details[key]
        if "Os" in details:
            facts["OS/Arch"] = f"{details['Os']}/{details.get('Arch', '')}"
        lines.append(_block(f" {component['Name']}:", facts, indent="  "))
    yield "\n".join(lines)


def _block(title: str, facts: dict[str, Any], indent: str = " ") -> str:
    return "\n".join([title, *(f"{indent}{key + ':':<18}{value}".rstrip() for key, value in facts.items())])


@click.command("info", cls=Command, help="Display system-wide information")
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@pass_session
def info(session: Session, /, form: str) -> None:
    facts = session.client.system.info()
    if form:
        print(_render(form, {**facts, "ClientInfo": {"Version": __version__}}))
        return
    print(f"Client: proa\n Version: {__version__}\n Host: {session.client.host}\n\nServer:")
    for line in _info_lines(facts):
        print(f" {line}")
    warn([warning.removeprefix("WARNING: ") for warning in facts.get("Warnings") or []])


def _info_lines(facts: dict[str, Any]) -> Iterator[str]:
    """Docker's lines in docker's order, each only where the daemon says something about it."""
    yield f"Containers: {facts.get('Containers', 0)}"
    for state in ("Running", "Paused", "Stopped"):
        yield f" {state}: {facts.get(f'Containers{state}', 0)}"
    yield f"Images: {facts.get('Images', 0)}"
    yield f"Server Version: {facts.get('ServerVersion', '')}"
    yield f"Storage Driver: {facts.get('Driver', '')}"
    for key, value in facts.get("DriverStatus") or []:
        yield f" {key}: {value}"
    yield f"Logging Driver: {facts.get('LoggingDriver', '')}"
    yield f"Cgroup Driver: {facts.get('CgroupDriver', '')}"
    yield f"Cgroup Version: {facts.get('CgroupVersion', '')}"
    plugins = facts.get("Plugins") or {}
    yield "Plugins:"
    for kind in ("Volume", "Network", "Log"):
        yield f" {kind}: {' '.join(plugins.get(kind) or [])}"
    yield f"Runtimes: {' '.join(sorted(facts.get('Runtimes') or {}))}"
    yield f"Default Runtime: {facts.get('DefaultRuntime', '')}"
    yield f"Init Binary: {facts.get('InitBinary', '')}"
    yield "Security Options:"
    for option in facts.get("SecurityOptions") or []:
        pairs = dict(part.partition("=")[::2] for part in option.split(","))
        yield f" {pairs.pop('name', option)}"
        for key, value in pairs.items():
            yield f"  {key.capitalize()}: {value}"
    yield f"Kernel Version: {facts.get('KernelVersion', '')}"
    yield f"Operating System: {facts.get('OperatingSystem', '')}"
    yield f"OSType: {facts.get('OSType', '')}"
    yield f"Architecture: {facts.get('Architecture', '')}"
    yield f"CPUs: {facts.get('NCPU', 0)}"
    yield f"Total Memory: {human_binary_size(facts.get('MemTotal', 0))}"
    yield f"Name: {facts.get('Name', '')}"
    yield f"ID: {facts.get('ID', '')}"
    yield f"Root Dir: {facts.get('DockerRootDir', '')}"
    yield f"Debug Mode: {str(bool(facts.get('Debug'))).lower()}"
    if facts.get("Labels"):
        yield "Labels:"
        yield from (f" {label}" for label in facts["Labels"])
    yield f"Live Restore Enabled: {str(bool(facts.get('LiveRestoreEnabled'))).lower()}"
