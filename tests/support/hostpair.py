"""Two hosts, both network namespaces: one with a packet filter of its own, and a neighbour that routes by it.

with HostPair() as pair:
    pair.on_host("nft list ruleset")
    with answering(pair.neighbour, "tcp", 80):
        assert ask(pair.host, "tcp", NEIGHBOUR, 80) == HOST
"""

import contextlib
import subprocess
from pathlib import Path
from typing import Self

from tests.support.daemon import Daemon
from tests.support.nethosts import inside
from tests.support.whose import own_name

HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
HOST6, NEIGHBOUR6 = "2001:db8::1", "2001:db8::2"
FAR_ROUTER, FAR = "198.51.100.1", "198.51.100.2"
FAR_ROUTER6, FAR6 = "2001:db8:f::1", "2001:db8:f::2"
NAMES = Path("/run/netns")


class HostPair:
    """They are connected by ``out0`` of the host and ``eth0`` of the neighbour."""

    def __init__(self, *, bridge_netfilter: bool = False) -> None:
        """``bridge_netfilter`` has the host hand what its bridges pass on to iptables, as one with Docker."""
        self.stem = own_name("fl")
        self.bridge_netfilter = bridge_netfilter
        self._host_name, self._neighbour_name = f"{self.stem}h", f"{self.stem}n"
        self._namespaces: list[str] = []
        self.far = Path()

    @property
    def host(self) -> Path:
        return NAMES / self._host_name

    @property
    def neighbour(self) -> Path:
        return NAMES / self._neighbour_name

    def __enter__(self) -> Self:
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def build(self) -> None:
        for name in (self._host_name, self._neighbour_name):
            self.add_namespace(name)
        inside(self.host, self._set_up)
        self.ip(
            self._host_name,
            f"link add out0 address 02:00:00:00:00:01 type veth peer name eth0 netns {self._neighbour_name}",
            f"address add {HOST}/24 dev out0",
            f"address add {HOST6}/64 dev out0 nodad",
            "link set out0 up",
        )
        self.ip(
            self._neighbour_name,
            f"address add {NEIGHBOUR}/24 dev eth0",
            f"address add {NEIGHBOUR6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {HOST}",
            f"route add ::/0 via {HOST6}",
        )

    def _set_up(self) -> None:
        settings = {"ipv4/ip_forward": True, "ipv6/conf/all/forwarding": True}
        settings["ipv6/conf/default/accept_dad"] = False  # else a bridge asks for no neighbour for a second
        for name in ("iptables", "ip6tables", "arptables"):
            settings[f"bridge/bridge-nf-call-{name}"] = self.bridge_netfilter
        for name, value in settings.items():
            with contextlib.suppress(FileNotFoundError):  # br_netfilter is not loaded
                Path("/proc/sys/net", name).write_text(str(int(value)))

    def add_far(self) -> None:
        """Add a neighbour, ``far``, that the host has on ``far0``, and that routes by it: FAR and FAR6."""
        name = f"{self.stem}f"
        self.add_namespace(name)
        self.ip(
            self._host_name,
            f"link add far0 type veth peer name eth0 netns {name}",
            f"address add {FAR_ROUTER}/24 dev far0",
            f"address add {FAR_ROUTER6}/64 dev far0 nodad",
            "link set far0 up",
        )
        self.ip(
            name,
            f"address add {FAR}/24 dev eth0",
            f"address add {FAR6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {FAR_ROUTER}",
            f"route add ::/0 via {FAR_ROUTER6}",
        )
        self.far = NAMES / name

    def argv(self, *command: str) -> list[str]:
        """What runs a program on the host."""
        return ["nsenter", f"--net={self.host}", "--", *command]

    def add_namespace(self, name: str) -> None:
        """Make a namespace that goes with the two."""
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._namespaces.append(name)
        self.ip(name, "link set lo up")

    def ip(self, name: str, *commands: str) -> None:
        """Run ip(8) in a namespace, once for all commands."""
        given = "\n".join(commands) + "\n"
        done = subprocess.run(
            ["ip", "-n", name, "-batch", "-"], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{given}{done.stderr}"

    def on_host(self, command: str) -> str:
        """Run a shell command on the host; returns what it wrote."""
        return self._run(self._host_name, command)

    def on_neighbour(self, command: str) -> str:
        """Run one on the neighbour."""
        return self._run(self._neighbour_name, command)

    def _run(self, name: str, command: str) -> str:
        argv = ["ip", "netns", "exec", name, "sh", "-ec", command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


class HostDaemon(Daemon):
    """A daemon on such a host."""

    def __init__(self, host: HostPair, *arguments: str) -> None:
        super().__init__(*arguments)
        self._host = host

    def argv(self) -> list[str]:
        return self._host.argv(*super().argv())
