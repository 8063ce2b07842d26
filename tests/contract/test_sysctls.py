"""Kernel settings of networking, in a namespace of the test's own."""

import os
from pathlib import Path

import pytest
import trio

from proad.host import netlink, sandbox, sysctls
from proad.model import errors

from .links import BRIDGE_MAC, GATEWAY6
from .links import path as path
from .netlab import inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("version", [4, 6])
def test_forwarding_is_switched_on(path: Path, version: int) -> None:
    trio.run(sandbox.create_sandbox, path, [], sandbox.Gateways())

    def visit() -> list[bool]:
        sysctls.put(sysctls.FORWARDING[version], "0")
        before = sysctls.forwards(version)
        sysctls.switch_on_forwarding(version)
        return [before, sysctls.forwards(version)]

    assert inside(path, visit) == [False, True]


def test_a_bridge_has_what_its_containers_need(path: Path) -> None:
    trio.run(sandbox.create_sandbox, path, [], sandbox.Gateways())
    wanted = {
        "ipv4/conf/b0/route_localnet": "1",
        "ipv6/conf/b0/accept_ra": "0",
        "ipv6/conf/b0/disable_ipv6": "0",
    }

    def visit() -> dict[str, str]:
        sysctls.put(sysctls.IPV6 / "conf/default/disable_ipv6", "1")
        netlink.create_bridge("b0", [GATEWAY6], BRIDGE_MAC, 1500)
        sysctls.set_up_bridge("b0")
        return {name: Path("/proc/sys/net", name).read_text().strip() for name in wanted}

    assert inside(path, visit) == wanted


def test_a_setting_that_may_not_be_written_is_named(path: Path, tmp_path: Path) -> None:
    assert sysctls.put(tmp_path / "lacking", "1") is False
    with pytest.raises(errors.Unavailable, match=f"cannot set {tmp_path} to 1"):
        sysctls.put(tmp_path, "1")
