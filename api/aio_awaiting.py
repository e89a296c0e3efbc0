"""Waiting for several agents in an event loop: as `awaiting.py`, with tasks in the place of futures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from procession.api.awaiting import all_finished_of, one_finished_of
from procession.ipc.core.agent_records import Finished

S = TypeVar("S")


async def all_finished(waits: Mapping[S, Coroutine[Any, Any, Finished]]) -> dict[S, Finished]:
    """Return how all of them finished, in the order given; raises the error of the first that cannot."""
    async with _waiting(waits, asyncio.FIRST_EXCEPTION) as tasks:
        return all_finished_of(tasks)


async def one_finished(waits: Mapping[S, Coroutine[Any, Any, Finished]]) -> tuple[S, Finished]:
    """Return one that is finished, as soon as there is one, and how. Raises CallTimedOut for none at all."""
    async with _waiting(waits, asyncio.FIRST_COMPLETED) as tasks:
        return one_finished_of(tasks)


@asynccontextmanager
async def _waiting(
    waits: Mapping[S, Coroutine[Any, Any, Finished]], until: str
) -> AsyncIterator[dict[S, asyncio.Task[Finished]]]:
    """Start the waits and give them when it is time to look; those that go on are withdrawn afterwards."""
    tasks = {one: asyncio.ensure_future(waiting) for one, waiting in waits.items()}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), return_when=until)
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
