"""Trio-flavoured. What the service manager is told: ready, stopping, reloading, alive (sd_notify(3))."""

import os
import socket

import trio


def notify(message: str) -> None:
    """Send ``READY=1`` and the like to systemd; nothing where none asked for it (``NOTIFY_SOCKET``)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.send(message.encode())


def watchdog_interval_s() -> float | None:
    """Half of what systemd allows between two signs of life, None if it asks for none
    (sd_watchdog_enabled(3)).
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 2_000_000


async def keep_watchdog_fed() -> None:
    """Say that the loop turns, for as long as it does."""
    interval = watchdog_interval_s()
    if interval is None:
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(interval)
