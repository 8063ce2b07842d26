"""Sync, pure. The rows of the table, and the table as text and as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.experiments import Samples


@dataclass(frozen=True)
class Row:
    """One line of the table; ``limit`` is what proa must reach, a most or (``higher``) a least."""

    key: str
    title: str
    limit: float | None
    digits: int = 1
    higher: bool = False
    peer_fraction: float | None = None

    def reached(self, value: float, peer: float | None) -> bool:
        within_peer = self.peer_fraction is None or peer is None or value <= peer * self.peer_fraction
        if self.limit is None:
            return within_peer
        return value >= self.limit if self.higher else value <= self.limit and within_peer


ROWS = (
    Row("start_bridge", "start, bridge network, ms", 20, peer_fraction=1 / 8),
    Row("start_port", "start, bridge and one published port, ms", 21),
    Row("start_none", "start, no network, ms", 17),
    Row("start_own", "start, network of one's own, ms", 21),
    Row("start_beside_10", "  beside 10 containers on it", None),
    Row("start_beside_100", "  beside 100 containers on it", None),
    Row("start_beside_1000", "  beside 1,000 containers on it", None),
    Row("attach_own", "what it adds to a start without network, ms", 4),
    Row("attach_beside_10", "  beside 10 containers on it", 4),
    Row("attach_beside_100", "  beside 100 containers on it", 4),
    Row("attach_beside_1000", "  beside 1,000 containers on it", None),
    Row("starts_at_once", "  90 started at once, per second", None, higher=True),
    Row("port_each", "each of 500 published ports, ms of a start", 1, digits=2),
    Row("names", "answers to names, per second", 10_000, digits=0, higher=True),
    Row("create", "create, ms", 3, digits=2),
    Row("kill_wait", "kill + wait, ms", 12),
    Row("exec", "exec, request to first output, ms", 15),
    Row("echo", "echo of a key at an attached terminal, ms", 5, digits=2),
    Row("cycle", "create+start+wait+remove of `true`, ms", 35),
    Row("crowd", "the same, 16 clients at once, per second", 40, higher=True),
    Row("list", "list of 200 containers, ms", 4, digits=2),
    Row("events", "events to 200 subscribers, deliveries/s", 50_000, digits=0, higher=True),
    Row("events_made", "  events made meanwhile, per second", None, digits=0, higher=True),
    Row("log_write", "log write, MB/s", 100, digits=0, higher=True),
    Row("log_read", "log read, MB/s", 100, digits=0, higher=True),
    Row("path", "what lies at a path of a container, ms", None, digits=2),
    Row("copy_out", "small file out of a container, ms", 30, peer_fraction=1),
    Row("copy_in", "small file into a container, ms", 30, peer_fraction=1),
    Row("copy_out_large", "large file out, MB/s", None, digits=0, higher=True),
    Row("copy_in_large", "large file in, MB/s", None, digits=0, higher=True),
    Row("pull", "pull of a Debian of three layers, s", None, digits=2, peer_fraction=0.7),
    Row("pull_beside", "  longest answer to a ping meanwhile, ms", None),
    Row("pull_large", "pull of one large layer, MB/s", None, digits=0, higher=True),
    Row("pull_memory", "  what the engine's process grows by, MB", 30),
    Row("build_run", "RUN step of a build, ms", 60, peer_fraction=1 / 4),
    Row("build_parts", "  create+start+wait+commit of the same, ms", None),
    Row("build_copy", "COPY step of a build, ms", 30, peer_fraction=1),
    Row("build_env", "ENV step of a build, ms", 10, digits=2),
    Row("build_cached", "step of a build that is in the cache, ms", 2, digits=2),
    Row("stats", "200 streams of statistics, % of one core", 20),
    Row("idle_memory", "idle memory, PSS of the engine's processes, MB", 65),
    Row("container_memory", "PSS per running container, MB", 0.5, digits=2),
    Row("ready_empty", "ready after exec, no containers, s", 1, digits=2),
    Row("ready_full", "ready after exec, 200 running containers, s", 2, digits=2),
    Row("ps", "ps, the client's whole process, ms", 100),
)


def merge(laps: Sequence[Samples]) -> Samples:
    merged: Samples = {}
    for lap in laps:
        for key, values in lap.items():
            merged.setdefault(key, []).extend(values)
    return merged


def as_json(measured: Mapping[str, Samples], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return machine, engines and rows; every engine's median, least, most and number of samples by row."""
    rows = []
    for row in ROWS:
        values = {
            name: {
                "median": statistics.median(samples[row.key]),
                "min": min(samples[row.key]),
                "max": max(samples[row.key]),
                "samples": len(samples[row.key]),
            }
            for name, samples in measured.items()
            if samples.get(row.key)
        }
        rows.append(
            {
                "key": row.key,
                "title": row.title.strip(),
                "limit": row.limit,
                "higher_is_better": row.higher,
                "engines": values,
            }
        )
    return {**facts, "rows": rows}


def as_text(measured: Mapping[str, Samples]) -> str:
    """Return the table: medians and their range, what must be reached, the ratio to the peer."""
    names = list(measured)
    own = "proa" if "proa" in measured else None
    peers = [name for name in names if name != own]
    head = ["what", *names]
    head += ["must reach", "reached"] if own else []
    head += ["times better"] if own and peers else []
    lines = [head]
    for row in ROWS:
        medians = {n: statistics.median(s[row.key]) for n, s in measured.items() if s.get(row.key)}
        if not medians:
            continue
        line = [row.title]
        line += [_cell(row, measured[name].get(row.key, [])) for name in names]
        value = medians.get("proa")
        peer = medians.get(peers[0]) if peers else None
        if own:
            limit = "" if row.limit is None else f"{'≥' if row.higher else '≤'} {row.limit:,.6g}"
            if row.limit is None or value is None:
                verdict = ""
            else:
                verdict = "yes" if row.reached(value, peer) else "NO"
            line += [limit, verdict]
        if own and peers:
            ratio = (value / peer if row.higher else peer / value) if value and peer else None
            line.append("" if ratio is None else f"{ratio:.1f}")
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not index else cell.rjust(width) for index, (cell, width) in enumerate(pairs)
        )
        for pairs in ([*zip(line, widths, strict=True)] for line in lines)
    )


def _cell(row: Row, samples: Sequence[float]) -> str:
    if not samples:
        return "-"
    text = f"{statistics.median(samples):,.{row.digits}f}"
    if len(samples) > 2:
        text += f" ({min(samples):,.{row.digits}f}–{max(samples):,.{row.digits}f})"
    return text
