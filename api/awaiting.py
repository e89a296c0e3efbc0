"""Waiting for several agents: for all of them, for the first of them, for a child that has yet to be there. The sync face.

It is *not* when an agent is finished, which its own state says (agent_proc/agent/completion.py), nor the wait for one
(`Session.await_completion`), of which these are made.

Rules: every agent is asked once, at the beginning, and answers when it is finished, so nobody is polled; one that can no
longer finish ends the wait with its error, which names its session; whoever is not waited for any more is told so, and
nothing stays behind; no agent is ended by any of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, wait
from typing import TYPE_CHECKING, Final, TypeVar

from procession.agent_proc.agent.completion import Awaited, Lost, all_of, any_of
from procession.ipc.core.agent_records import Finished
from procession.ipc.core.errors import CallTimedOut, ProcessionError
from procession.ipc.core.records import ChildInfo

if TYPE_CHECKING:
    from asyncio import Task

S = TypeVar("S")

CHILD_LOOK_S: Final = 0.05
"""How often a parent's children are looked at until there is the one: a read of the host's memory, 20 a second."""


def wait_for_all(waits: Mapping[S, Future[Finished]]) -> dict[S, Finished]:
    """Return how all of them finished, in the order given; raises the error of the first that cannot."""
    try:
        wait(waits.values(), return_when=FIRST_EXCEPTION)
        return all_finished_of(waits)
    finally:
        _let_go(waits.values())


def wait_for_any(waits: Mapping[S, Future[Finished]]) -> tuple[S, Finished]:
    """Return one that is finished, as soon as there is one, and how. Raises CallTimedOut for none at all."""
    try:
        wait(waits.values(), return_when=FIRST_COMPLETED)
        return one_finished_of(waits)
    finally:
        _let_go(waits.values())


def all_finished_of(waits: Mapping[S, Future[Finished] | Task[Finished]]) -> dict[S, Finished]:
    """Return how all of them finished, now that they have or that one cannot, whose error this raises."""
    found = all_of({one: _seen(future) for one, future in waits.items()})
    if isinstance(found, Lost):
        raise found.error
    assert found is not None, "who waited for all has all"
    return found


def one_finished_of(waits: Mapping[S, Future[Finished] | Task[Finished]]) -> tuple[S, Finished]:
    """Return which of them finished, now that one has or that one cannot, whose error this raises."""
    if not waits:
        raise CallTimedOut("there is no agent to wait for", code="await_timeout", ran="no")
    found = any_of({one: _seen(future) for one, future in waits.items()})
    if isinstance(found, Lost):
        raise found.error
    assert found is not None, "who waited for one has one"
    return found


def _seen(future: Future[Finished] | Task[Finished]) -> Awaited:
    if not future.done():
        return None
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ProcessionError):
        return error
    raise error


def _let_go(futures: Iterable[Future[Finished]]) -> None:
    for future in futures:
        future.cancel()  # which does nothing to one that is over


def child_with(tag: str, children: Iterable[ChildInfo]) -> ChildInfo | None:
    """Return the child with this tag, None while there is none."""
    return next((child for child in children if child.tag == tag), None)


def no_child(tag: str, timeout_s: float) -> CallTimedOut:
    """Say that there was no child with this tag in time."""
    return CallTimedOut(f"there was no child {tag!r:.80} within {timeout_s:g} s", code="await_timeout", ran="no")
