"""Sync, blocking. ``make bench``: measure proa, alone or beside a peer in the same run, and print the table.

Engines take turns lap by lap, so that a machine that gets slower or faster meanwhile does so for all.
Numbers are told, never asserted.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import experiments
from tests.bench.builds import build_rows
from tests.bench.copies import copy_rows
from tests.bench.engines import Engine, private_proad, running_peer
from tests.bench.experiments import Samples
from tests.bench.http import Refused
from tests.bench.networks import network_rows, thousand_row
from tests.bench.pulls import large_pull_rows, pull_rows
from tests.bench.report import as_json, as_text, merge
from tests.bench.statstreams import stats_row

FAILURES = (Refused, RuntimeError, OSError, subprocess.SubprocessError)
Experiment = Callable[[Engine], Samples]


def plan(scale: float, *, thousand: bool) -> list[tuple[str, int, Experiment]]:
    """Return name, laps and experiment in the order they run; memory first, while the engines are fresh."""

    def some(number: int) -> int:
        return max(1, round(number * scale))

    many: list[tuple[str, int, Experiment]] = [
        ("beside 1,000", 1, lambda engine: thousand_row(engine, some(15)))
    ]
    return [
        ("idle memory", 1, experiments.idle_memory_row),
        ("start, create, kill", some(5), lambda engine: experiments.start_rows(engine, 4)),
        ("networks", 1, lambda engine: network_rows(engine, some(10))),
        *(many if thousand else ()),
        ("exec", some(4), lambda engine: experiments.exec_row(engine, 10)),
        ("terminal echo", some(2), lambda engine: experiments.echo_row(engine, 50)),
        ("copies", some(2), lambda engine: copy_rows(engine, 20, some(128))),
        ("pulls", some(3), pull_rows),
        ("large pull", 1, lambda engine: large_pull_rows(engine, some(2000))),
        ("builds", some(3), lambda engine: build_rows(engine, 1)),
        ("whole cycle", some(4), lambda engine: experiments.cycle_row(engine, 5)),
        ("16 clients", some(2), lambda engine: experiments.crowd_row(engine, some(6))),
        ("list", 1, lambda engine: experiments.list_row(engine, some(30))),
        ("events", some(3), lambda engine: experiments.events_row(engine, some(500))),
        ("logs", some(3), lambda engine: experiments.logs_row(engine, max(32, some(64)))),
        ("stats", 1, stats_row),
        ("memory of containers", 1, experiments.container_memory_row),
        ("ps", some(3), lambda engine: experiments.ps_row(engine, 5)),
        ("ready", 1, experiments.ready_rows),
    ]


def measure(
    engines: list[Engine], only: str, scale: float, failed: list[str], *, thousand: bool
) -> dict[str, Samples]:
    """Run the plan; a measurement that fails is named in ``failed`` and the others go on."""
    measured: dict[str, Samples] = {engine.name: {} for engine in engines}
    for name, laps, experiment in plan(scale, thousand=thousand):
        if only and only not in name:
            continue
        began = time.monotonic()
        print(f"measuring {name} ", end="", file=sys.stderr, flush=True)
        try:
            for _ in range(laps):
                for engine in engines:
                    measured[engine.name] = merge([measured[engine.name], experiment(engine)])
                    print(".", end="", file=sys.stderr, flush=True)
        except FAILURES as error:
            print(f" failed: {error}", file=sys.stderr)
            failed.append(name)
            for engine in engines:
                engine.clean()
                engine.prepare()
            continue
        print(f" {time.monotonic() - began:.1f} s", file=sys.stderr)
    return measured


def first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "absent"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def machine_facts(engines: list[Engine]) -> dict[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "cpu": cpu[0].partition(": ")[2] if cpu else platform.machine(),
            "memory_gib": round(memory / 2**30, 1),
            "kernel": platform.release(),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
            "load": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "crun": first_line("crun", "--version"),
            "runc": first_line("runc", "--version"),
            "conmon": first_line("conmon", "--version"),
        },
        "engines": {engine.name: engine.version for engine in engines},
        "python_process_ms": round(experiments.floor_ms(), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition(". ")[2])
    parser.add_argument(
        "--peer", action="append", default=[], metavar="unix:///PATH", help="another engine's socket"
    )
    parser.add_argument("--no-proa", action="store_true", help="measure only the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers for a machine to read")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="only the measurements whose name has this"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="more or fewer rounds (0.2 for a quick look)"
    )
    parser.add_argument(
        "--thousand",
        action="store_true",
        help="also start beside 1,000 containers of proa, for some 80 s more",
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root, as the engines do")
    failed: list[str] = []
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with ExitStack() as stack:
        engines = [] if options.no_proa else [stack.enter_context(private_proad())]
        engines += [stack.enter_context(running_peer(url)) for url in options.peer]
        facts = machine_facts(engines)
        measured = measure(engines, options.only, options.scale, failed, thousand=options.thousand)
    machine, versions = facts["machine"], facts["versions"]
    print(f"\n{machine['cpus']} × {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
          f"Linux {machine['kernel']}, load {machine['load']:.2f} at the beginning")  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in facts["engines"].items()), end="; ")
    print(f"Python {versions['python']}, {versions['crun']}, {versions['runc']}, {versions['conmon']}")
    print(f"least Python process: {facts['python_process_ms']} ms; medians, in brackets least and most\n")
    print(as_text(measured))
    if options.json:
        options.json.write_text(json.dumps(as_json(measured, facts), indent=2) + "\n")
    if failed:
        print(f"\nnot measured, for the errors above: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
