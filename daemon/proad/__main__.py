"""Trio-flavoured. The front door: arguments -> Config, logging, loop, wiring, recover, serve, drain."""

import asyncio
import gc
import heapq
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog
import trio
import trio_asyncio

import proad
from proad.api.listen import inherited_fds
from proad.api.server import make_app, serve
from proad.check import print_findings
from proad.config import Config, ConfigError, changed_fields, load, make_parser
from proad.engine.roles import Roles
from proad.host.systemd import host_goes_down
from proad.logsetup import set_up_logging
from proad.model import errors
from proad.notify import keep_watchdog_fed, notify
from proad.store.db import UnusableState, open_store
from proad.store.lock import AlreadyRunning, hold
from proad.wiring import Engine, assemble

EXIT_USAGE = 2
EXIT_FAILURE = 1
SWITCH_INTERVAL_S = 0.0005
"""Our threads make short system calls beside the loop; Python's 5 ms are longer than a step of a start."""
TIMER_S = 30.0
"""How often recovery compares state and kernel, and the journal drops what is too old."""

log = structlog.get_logger("proad")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``proad`` with the given arguments; returns its exit status."""
    given = vars(make_parser().parse_args(argv))
    if given.get("version"):
        print(f"proad version {proad.__version__}")
        return 0
    try:
        config = load(given)
    except ConfigError as error:
        print(f"proad: {error}", file=sys.stderr)
        return EXIT_USAGE
    if given.get("check"):
        return print_findings(config)
    set_up_logging(config.log_level, config.log_format)
    try:
        return trio.run(_run, config, given)
    except BaseExceptionGroup as group:
        known, rest = group.split((errors.ProaError, UnusableState, AlreadyRunning, OSError))
        if rest is not None or known is None:
            raise
        return _give_up(_first(known))
    except (errors.ProaError, UnusableState, AlreadyRunning, OSError) as error:
        return _give_up(error)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _give_up(error: BaseException) -> int:
    log.error("proad cannot go on", error=str(error))
    print(f"proad: {error}", file=sys.stderr)
    return EXIT_FAILURE


async def _run(config: Config, given: dict[str, Any]) -> int:
    """Hold the state, bring the engine up, serve until told to stop, drain."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if os.geteuid() != 0:
        raise errors.Unavailable("proad manages namespaces, mounts and networks and must run as root")
    os.umask(0o022)
    async with AsyncExitStack() as stack:
        _make_directories(config)
        for directory in dict.fromkeys((config.data_root, config.exec_root)):
            stack.callback(os.close, hold(directory))
        if config.pidfile is not None:
            config.pidfile.write_text(f"{os.getpid()}\n")
            stack.callback(config.pidfile.unlink, missing_ok=True)
        store = open_store(
            config.data_root / "state.db",
            events_max_count=config.events_max_count,
            events_max_age_s=config.events_max_age_s,
        )
        stack.callback(store.close)
        loop = await stack.enter_async_context(trio_asyncio.open_loop())
        loop.set_exception_handler(_log_loop_error)
        async with trio.open_nursery() as nursery:
            engine = await assemble(config, store, nursery)
            await engine.recovery.at_boot()
            async with _serving(engine.roles, config) as addresses:
                nursery.start_soon(keep_watchdog_fed)
                nursery.start_soon(_housekeeping, engine, loop)
                gc.freeze()  # what is loaded now stays: walking it later would stop the loop for 40 ms
                log.info("ready", addresses=addresses, pid=os.getpid(), version=proad.__version__)
                notify("READY=1")
                await _until_told_to_stop(engine, config, given)
                notify("STOPPING=1")
            # Left to themselves, containers would lose the network first and then hold the shutdown up.
            if engine.roles.config.stop_containers_on_exit or await host_goes_down():
                await engine.stop_all_containers()
            nursery.cancel_scope.cancel()
    log.info("stopped")
    return 0


def _make_directories(config: Config) -> None:
    config.data_root.mkdir(parents=True, exist_ok=True)
    config.data_root.chmod(0o710)
    config.exec_root.mkdir(parents=True, exist_ok=True)
    config.exec_root.chmod(0o711)  # members of the socket's group must reach it
    for directory in ("layers", "volumes", "containers", "tmp"):
        (config.data_root / directory).mkdir(mode=0o710, exist_ok=True)
    for directory in ("netns", "runtime", "runs"):
        (config.exec_root / directory).mkdir(mode=0o700, exist_ok=True)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An unobserved error of one asyncio task must not take the daemon down (trio-asyncio's default)."""
    error = context.get("exception")
    if not isinstance(error, (ConnectionError, asyncio.CancelledError)):
        log.error("unobserved error on the loop", message=context.get("message"), exc_info=error)


@asynccontextmanager
async def _serving(roles: Roles, config: Config) -> AsyncIterator[list[str]]:
    """Serve the API; enters and leaves in one asyncio task, as aiohttp wants it."""
    started: list[str] = []
    ready, stop = trio.Event(), asyncio.Event()
    failure: list[BaseException] = []

    async def serve_until_stopped() -> None:
        async with serve(make_app(roles), config, inherited_fds(os.environ)) as addresses:
            started.extend(addresses)
            ready.set()
            await stop.wait()

    async def run_server() -> None:
        try:
            await trio_asyncio.aio_as_trio(serve_until_stopped)()
        except BaseException as error:
            failure.append(error)
            ready.set()
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server)
        await ready.wait()
        if not failure:
            try:
                yield started
            finally:
                stop.set()


async def _until_told_to_stop(engine: Engine, config: Config, given: dict[str, Any]) -> None:
    """Return at SIGTERM or SIGINT; SIGHUP reloads. The second SIGTERM, while draining, ends the process at
    once.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async for number in received:
            if number != signal.SIGHUP:
                log.info("draining", signal=signal.Signals(number).name)
                signal.signal(signal.SIGTERM, _hurry)
                signal.signal(signal.SIGINT, _hurry)
                return
            _reload(engine, given)


def _hurry(number: int, _frame: object) -> None:
    """Containers live on under their monitors and the next daemon adopts them, so leaving at once loses
    nothing.
    """
    os._exit(EXIT_FAILURE)


def _reload(engine: Engine, given: dict[str, Any]) -> None:
    notify("RELOADING=1")
    try:
        new = load(given)
        reloaded, needs_restart = changed_fields(engine.roles.config, new)
        engine.reload(replace(engine.roles.config, **{name: getattr(new, name) for name in reloaded}))
        set_up_logging(new.log_level, new.log_format)
        log.info("configuration reloaded", changed=reloaded, needs_restart=needs_restart)
    except ConfigError as error:
        log.error("configuration not reloaded", error=str(error))
    notify("READY=1")


async def _housekeeping(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        await trio.sleep(TIMER_S)
        _drop_cancelled_timers(loop)
        try:
            await engine.recovery.on_timer()
            engine.store.tidy()
        except (errors.ProaError, OSError) as error:  # a full disk, a busy mount: next time, perhaps
            log.error("housekeeping failed", error=str(error))


def _drop_cancelled_timers(loop: asyncio.AbstractEventLoop) -> None:
    """Let go of timers that nobody waits for.

    trio-asyncio keeps them until they would have gone off, and aiohttp makes one of an hour for every
    connection: some hundred bytes for each request of a client that connects anew.
    """
    timers: list[asyncio.TimerHandle] = getattr(loop, "_timers", [])
    timers[:] = [timer for timer in timers if not timer.cancelled()]
    heapq.heapify(timers)


if __name__ == "__main__":
    sys.exit(main())
