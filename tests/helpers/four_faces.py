"""The four ways to talk to a host behind one way to write a test: a scenario that awaits.

A sync face is wrapped so that its answers can be awaited; it then runs inside a running event loop, blocking it, which is
one of the things that must work. Nothing is faked: each face has a real host below it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from procession import AsyncHost, Host, Process, Sandbox, Session
from procession.api.agent_verbs import SessionContext, SessionFiles, SessionMemory, SessionPrompts, SessionStreaming
from procession.api.follow import Follow
from procession.api.futures import CallFuture

FACES = ("Host", "AsyncHost", "Host.connect", "AsyncHost.connect")

OFF = Sandbox.off()
PARTS = (SessionContext, SessionMemory, SessionFiles, SessionStreaming, SessionPrompts)


class Answer:
    """What a sync verb returned, to be awaited, entered or iterated like its async twin's."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return wrapped(self.value.result(30) if isinstance(self.value, CallFuture) else self.value)

    def cancel(self) -> bool:
        return bool(self.value.cancel())

    async def __aenter__(self) -> Any:
        return wrapped(self.value.__enter__())

    async def __aexit__(self, *error: object) -> Any:
        return self.value.__exit__(*error)

    def __aiter__(self) -> "Answer":
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.value)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.value.close()


class Awaited:
    """A sync handle whose verbs give awaitable answers."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.handle, name)
        if isinstance(found, PARTS):
            return Awaited(found)
        return (lambda *args, **kwargs: Answer(found(*args, **kwargs))) if callable(found) else found

    def __repr__(self) -> str:
        return repr(self.handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Awaited) and other.handle == self.handle

    def __hash__(self) -> int:
        return hash(self.handle)


def wrapped(value: Any) -> Any:
    if isinstance(value, Session | Process | Host):
        return Awaited(value)
    if isinstance(value, Follow | AbstractContextManager):
        return Answer(value)
    return [wrapped(item) for item in value] if isinstance(value, list) else value


@asynccontextmanager
async def open_face(face: str, folder: Path) -> AsyncIterator[Any]:
    """Open a host of that face; for the clients there is a durable one in `folder` to connect to."""
    if face == "Host":
        with Host(sandbox=OFF) as host:
            yield Awaited(host)
    elif face == "AsyncHost":
        async with AsyncHost(sandbox=OFF) as async_host:
            yield async_host
    else:
        with Host(folder / "data", sandbox=OFF):
            if face == "Host.connect":
                with Host.connect(folder / "data", sandbox=OFF) as client:
                    yield Awaited(client)
            else:
                async with AsyncHost.connect(folder / "data", sandbox=OFF) as async_client:
                    yield async_client


def play(face: str, folder: Path, scenario: Callable[[Any], Awaitable[None]]) -> None:
    """Run a scenario with a host of that face."""

    async def main() -> None:
        async with open_face(face, folder) as host:
            await scenario(host)

    asyncio.run(main())
