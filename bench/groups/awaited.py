"""P2: an awaited echo, on asyncio and on uvloop, beside a raw ping-pong.

Two loops take turns in one thread, each with a host of its own in it, so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from bench.goals import Measured
from bench.ours import OFF, SMALL
from bench.peers.raw import EchoPipe
from bench.timing import Effort, median_of, per_call_s, take_turns
from procession import AsyncHost, AsyncSession


class LoopSide:
    """An AsyncHost with one session in a loop of its own, which runs only during its rounds."""

    def __init__(self, make_loop: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
        self._runner = asyncio.Runner(loop_factory=make_loop)
        self._host, self._session = self._runner.run(self._open())

    async def _open(self) -> tuple[AsyncHost, AsyncSession]:
        host = AsyncHost(sandbox=OFF)
        return host, await host.start_session()

    def per_echo_s(self, count: int) -> float:
        """Return the median seconds of one awaited echo."""
        return self._runner.run(self._echoes(count))

    async def _echoes(self, count: int) -> float:
        clock = time.perf_counter
        session, took = self._session, []
        for _ in range(count):
            began = clock()
            await session.echo(SMALL)
            took.append(clock() - began)
        return median_of(took)

    def close(self) -> None:
        self._runner.run(self._host.close())
        self._runner.close()


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield one line per loop; without uvloop only asyncio's."""
    count = effort.count(1500, quick=400)
    raw = EchoPipe()
    loops: dict[str, LoopSide] = {"asyncio": LoopSide(None)}
    try:
        import uvloop
    except ImportError:
        pass
    else:
        loops["uvloop"] = LoopSide(uvloop.new_event_loop)
    sides: dict[str, Callable[[], float]] = {"raw": lambda: per_call_s(lambda: raw.ping(SMALL), count)}
    sides |= {name: lambda loop=loop: loop.per_echo_s(count) for name, loop in loops.items()}  # type: ignore[misc]
    took = take_turns(sides, effort.rounds)
    for loop in loops.values():
        loop.close()
    raw.close()
    for name in loops:
        yield Measured(
            f"P2/{name}",
            f"awaited echo, {name}",
            "pin0",
            "us",
            took[name].scaled(1e6),
            "raw pipe ping-pong",
            took["raw"].scaled(1e6),
        )
