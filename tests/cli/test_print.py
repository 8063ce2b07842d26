"""What commands print: columns, sizes, times, ports, the waterfall of a start."""

import io
import time
from typing import Any

import pytest

from proa.cli.rows.containers import ContainerRow, paint_container, show_ports
from proa.cli.rows.images import image_rows, split_reference
from proa.cli.text import units
from proa.cli.text.go_values import quote
from proa.cli.text.listing import print_columns, print_list
from proa.cli.text.template_syntax import TemplateError
from proa.cli.timeline import print_timeline


@pytest.mark.parametrize(
    ("size", "digits", "shown"),
    [
        (0, 4, "0B"),
        (999, 4, "999B"),
        (1000, 4, "1kB"),
        (1982234, 4, "1.982MB"),
        (1982234, 3, "1.98MB"),
        (5e12, 4, "5TB"),
    ],
)
def test_sizes(size: float, digits: int, shown: str) -> None:
    assert units.human_size(size, digits) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert units.human_duration(seconds) == shown


def test_texts() -> None:
    assert units.human_binary_size(25276383232) == "23.54GiB"
    assert units.ellipsis("abcdef", 4) == "abc…"
    assert units.ellipsis("abcd", 4) == "abcd"
    assert units.short_id("sha256:" + "0123456789abcdef") == "0123456789ab"
    assert quote('a"b\n\x01é') == '"a\\"b\\n\\x01é"'


def test_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert units.local_time(1_700_000_000) == "2023-11-14 22:13:20 +0000 UTC"
    assert units.local_rfc3339(1_700_000_000_000_000_007) == "2023-11-14T22:13:20.000000007Z"


def port(inside: int, outside: int = 0, address: str = "", protocol: str = "tcp") -> Any:
    return {"PrivatePort": inside, "PublicPort": outside, "IP": address, "Type": protocol}


@pytest.mark.parametrize(
    ("ports", "shown"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(81), port(80)], "80-81/tcp"),
        ([port(80), port(82), port(83)], "80/tcp, 82-83/tcp"),
        ([port(80, 8080, "0.0.0.0")], "0.0.0.0:8080->80/tcp"),
        ([port(80, 80, "::"), port(81, 81, "::")], "[::]:80-81->80-81/tcp"),
        (
            [port(80, 80, "0.0.0.0"), port(80, 80, "::"), port(53, protocol="udp")],
            "53/udp, 0.0.0.0:80->80/tcp, [::]:80->80/tcp",
        ),
    ],
)
def test_ports(ports: list[Any], shown: str) -> None:
    assert show_ports(ports) == shown


SUMMARY: Any = {
    "Id": "0123456789abcdef",
    "Names": ["/other/alias", "/web"],
    "Image": "busybox",
    "ImageID": "sha256:fedcba",
    "Command": "sleep 1000000000000000",
    "Created": 0,
    "State": "running",
    "Status": "Up 2 minutes",
    "Labels": {"b": "2", "a": "1"},
    "Mounts": [{"Name": "data", "Driver": "local"}, {"Source": "/some/very/long/path"}],
    "NetworkSettings": {"Networks": {"bridge": {}}},
    "SizeRw": 5,
    "SizeRootFs": 2000,
}


def listed(form: str = "", **more: Any) -> str:
    out = io.StringIO()
    print_list(
        out, ContainerRow, [ContainerRow(SUMMARY)], columns=("ID", "Names", "Status"), form=form, **more
    )
    return out.getvalue()


def test_a_table_has_dockers_columns() -> None:
    assert listed() == "CONTAINER ID   NAMES     STATUS\n0123456789ab   web       Up 2 minutes\n"


def test_quiet_shows_only_one_field() -> None:
    assert listed(quiet="ID") == "0123456789ab\n"


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("{{.ID}}: {{.Names}}", "0123456789ab: web\n"),
        ('{{.Label "a"}} {{.Labels}} {{.Mounts}}', "1 a=1,b=2 data,/some/very/lon…\n"),
        ("{{.Size}} {{.LocalVolumes}} {{.Networks}}", "5B (virtual 2kB) 1 bridge\n"),
        (r"table {{.Names}}\t{{.State}}", "NAMES     STATE\nweb       running\n"),
        (r'table {{.Names}}\t{{.Label "a"}}', "NAMES     a\nweb       1\n"),
    ],
)
def test_forms(form: str, shown: str) -> None:
    assert listed(form) == shown


def test_json_has_every_field() -> None:
    import json

    row = json.loads(listed("json"))
    assert row["Names"] == "web"
    assert row.keys() == ContainerRow.HEADERS.keys()


def test_an_unknown_field_names_the_known_ones() -> None:
    with pytest.raises(TemplateError, match="no field 'Nope' here; the fields are Command, CreatedAt"):
        listed("{{.Nope}}")


def test_colours_do_not_move_columns() -> None:
    out = io.StringIO()
    print_columns(
        out,
        [["A", "Status", "B"], ["x", "Up 1", "y"]],
        painter=paint_container,
        names=("ID", "Status", "Names"),
    )
    titles, row = out.getvalue().splitlines()
    assert titles.startswith("\x1b[1mA\x1b[0m")
    assert "\x1b[32mUp 1\x1b[0m      y" in row


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("Up 1 second (Paused)", "33"),
        ("Exited (0) now", "2"),
        ("Exited (1) now", "31"),
        ("Restarting (1) now", "33"),
    ],
)
def test_a_status_has_the_colour_of_its_meaning(status: str, code: str) -> None:
    assert paint_container("Status", status) == f"\x1b[{code}m{status}\x1b[0m"


def test_an_image_has_a_row_for_each_name() -> None:
    def rows(tags: list[str], known: list[str], **more: bool) -> list[tuple[str, str, str]]:
        summary: Any = {"Id": "sha256:1", "RepoTags": tags, "RepoDigests": known, "Created": 0, "Size": 1}
        return [(row.Repository(), row.Tag(), row.Digest()) for row in image_rows([summary], **more)]

    assert rows(["a:1", "h:5000/b:2"], []) == [("a", "1", "<none>"), ("h:5000/b", "2", "<none>")]
    assert rows(["a:1"], ["a@sha256:x"], digests=True) == [("a", "1", "sha256:x")]
    assert rows([], ["a@sha256:x"]) == [("a", "<none>", "<none>")]
    assert rows(["<none>:<none>"], ["<none>@<none>"]) == [("<none>", "<none>", "<none>")]
    assert split_reference("h:5000/b") == ("h:5000/b", "")


def test_a_timeline_is_a_waterfall() -> None:
    out = io.StringIO()
    steps = [
        {"Name": "network", "BeginMs": 2.0, "EndMs": 6.0},
        {"Name": "rootfs", "BeginMs": 0.0, "EndMs": 4.0},
    ]
    details: Any = {"Name": "/web", "ProaTimeline": {"RunID": "0123456789abcdef", "Steps": steps}}
    print_timeline(out, details)
    head, titles, first, second = out.getvalue().splitlines()
    assert head == "web: started in 6.0 ms (run 0123456789ab)"
    assert titles.split() == ["STEP", "FROM", "TOOK"]
    assert first.startswith("rootfs     0.0 ms    4.0 ms  █")
    assert second.startswith("network    2.0 ms    4.0 ms   ")
    assert second.index("█") > first.index("█")


def test_without_a_timeline_that_is_said() -> None:
    out = io.StringIO()
    print_timeline(out, {"Name": "/web"})
    assert "no measured start" in out.getvalue()
