"""Timers of the asyncio loop that Trio hosts."""

import trio
import trio_asyncio

from proad.__main__ import _drop_cancelled_timers


def test_cancelled_timers_are_let_go_and_others_go_off() -> None:
    fired: list[int] = []

    async def main() -> None:
        async with trio_asyncio.open_loop() as loop:
            kept = [loop.call_later(0.02 * number, fired.append, number) for number in (3, 1, 2)]
            dropped = [loop.call_later(3600, fired.append, 0) for _ in range(100)]
            await trio.lowlevel.checkpoint()
            for handle in dropped:
                handle.cancel()
            await trio.sleep(0.01)  # the loop files them away
            _drop_cancelled_timers(loop)
            assert len(loop._timers) == len(kept)
            await trio.sleep(0.2)

    trio.run(main)
    assert fired == [1, 2, 3]
