"""Outcomes that land from any thread, cancels that are truthful, and streams that lose only what they count."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest

from helpers.fake_backend import FakeBackend, FakeTicket, confirm_cancel, encode
from procession import (
    CallCancelled,
    CodeResult,
    Event,
    HostLost,
    InvalidRequest,
    OutputChunk,
    SessionDied,
    SessionNotFound,
    ToolResultInvalid,
)
from procession.api import bridge
from procession.api.bridge import AsyncFollow, backend_of, perform, perform_handing
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.follow import Follow
from procession.api.futures import DoneFuture, submit
from procession.api.link import Link
from procession.ipc.core.backend import Item, Response
from procession.ipc.core.bounds import KiB
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.item_ring import RING_BYTES_MAX, ItemRing
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import ChunkList, CodeDone, Nothing, SessionRef, StartBody

ECHO_BODY = encode(Nothing())


def echo() -> Plan[bytes]:
    return plans.echo("i", b"x", 5.0)


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# --- CallFuture -----------------------------------------------------------------------------------------------------


def test_a_future_has_the_result_whichever_thread_it_comes_from() -> None:
    backend = FakeBackend()
    future = submit(backend, echo(), "i")
    assert (future.done(), future.running(), future.call_id) == (False, True, "c1")
    in_thread(lambda: backend.open[0].answer(Nothing(), b"back"))
    assert future.result(0) == b"back"
    assert future.exception() is None
    assert not future.running()


def test_a_future_has_the_error_with_its_session() -> None:
    future = submit(FakeBackend(lambda _: SessionDied("died")), echo(), "i")
    error = future.exception()
    assert isinstance(error, SessionDied)
    assert error.session == "i"
    with pytest.raises(SessionDied):
        future.result()


def test_a_result_is_decoded_by_whoever_asks_and_once() -> None:
    threads: list[int] = []

    def finish(response: Response) -> object:
        threads.append(threading.get_ident())
        return object()

    backend = FakeBackend()
    future = submit(backend, Plan(echo().request, finish))
    in_thread(lambda: backend.open[0].answer(Nothing()))
    assert future.done()
    assert threads == []
    assert future.result() is future.result()
    assert threads == [threading.get_ident()]


def test_a_result_that_cannot_be_decoded_is_the_future_s_exception() -> None:
    def finish(_: Response) -> object:
        raise ToolResultInvalid("no")

    future = submit(FakeBackend(lambda _: Response(ECHO_BODY)), Plan(echo().request, finish), "i")
    for _ in range(2):
        error = future.exception()
        assert isinstance(error, ToolResultInvalid)
        assert error.session == "i"
        with pytest.raises(ToolResultInvalid):
            future.result()


def test_a_cancelled_future_is_over_only_when_its_work_is() -> None:
    backend = FakeBackend()
    future = submit(backend, echo())
    assert future.cancel()
    assert not future.done()
    assert backend.open[0].cancelled == 1
    confirm_cancel(backend.open[0])
    assert future.cancelled()
    assert isinstance(future.stopped_as, CallCancelled)
    assert future.stopped_as.ran == "maybe"
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)
    assert concurrent.futures.wait([future], 0).done == {future}
    assert future.cancel()


def test_a_future_that_finished_first_keeps_its_result() -> None:
    backend = FakeBackend()
    future = submit(backend, echo())
    assert future.cancel()
    backend.open[0].answer(Nothing(), b"late")
    assert not future.cancelled()
    assert future.result() == b"late"
    assert not future.cancel()


def test_a_call_cancelled_by_somebody_else_is_an_error() -> None:
    backend = FakeBackend()
    future = submit(backend, echo())
    confirm_cancel(backend.open[0])
    assert not future.cancelled()
    assert isinstance(future.exception(), CallCancelled)


def test_futures_work_with_wait_and_as_completed_and_callbacks() -> None:
    backend = FakeBackend()
    futures = [submit(backend, echo()) for _ in range(3)]
    called: list[object] = []
    futures[0].add_done_callback(called.append)
    assert len(concurrent.futures.wait(futures, 0).not_done) == 3
    for ticket in backend.open:
        ticket.answer(Nothing(), b"r")
    assert set(concurrent.futures.as_completed(futures, 5)) == set(futures)
    assert called == [futures[0]]


def test_a_future_can_be_awaited_through_asyncio() -> None:
    backend = FakeBackend()

    async def main() -> bytes:
        future = submit(backend, echo())
        threading.Thread(target=lambda: backend.open[0].answer(Nothing(), b"r")).start()
        return await asyncio.wrap_future(future)

    assert asyncio.run(main()) == b"r"


def test_work_done_in_place_has_its_future() -> None:
    assert DoneFuture(lambda: 5).result() == 5
    error = DoneFuture(lambda: 1 // 0).exception()
    assert isinstance(error, ZeroDivisionError)


# --- perform --------------------------------------------------------------------------------------------------------


def test_an_outcome_is_awaited_from_this_thread_another_one_and_at_once() -> None:
    async def main() -> None:
        backend = FakeBackend()
        loop = asyncio.get_running_loop()
        here = asyncio.ensure_future(perform(backend, echo()))
        await asyncio.sleep(0)
        backend.open[0].answer(Nothing(), b"here")
        assert await here == b"here"
        there = asyncio.ensure_future(perform(backend, echo()))
        await asyncio.sleep(0)
        await loop.run_in_executor(None, lambda: backend.open[1].answer(Nothing(), b"there"))
        assert await there == b"there"
        assert await perform(FakeBackend(lambda _: Response(ECHO_BODY, b"now")), echo()) == b"now"
        told: list[ProcessionError] = []
        with pytest.raises(SessionNotFound) as caught:
            await perform(FakeBackend(lambda _: SessionNotFound("no")), echo(), "i", on_error=told.append)
        assert caught.value.session == "i"
        assert told == [caught.value]

    asyncio.run(main())


def cancelled_after_start(backend: FakeBackend, *, undo: Any = None, plan: Plan[Any] | None = None) -> list[str]:
    """Cancel a task that performs a call; return the notes of its CancelledError."""

    async def main() -> list[str]:
        task = asyncio.ensure_future(perform(backend, plan or echo(), undo=undo))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return getattr(error, "__notes__", [])
        raise AssertionError("not cancelled")

    return asyncio.run(main())


def test_a_cancelled_task_cancels_its_call_and_says_what_became_of_it() -> None:
    backend = FakeBackend(on_cancel=confirm_cancel)
    assert cancelled_after_start(backend) == [
        "procession: echo: cancelled_in_session (did it run: maybe): cancelled while it ran"
    ]
    assert backend.open[0].cancelled == 1


def test_a_cancelled_task_waits_for_an_end_that_comes_from_another_thread() -> None:
    backend = FakeBackend(on_cancel=lambda ticket: threading.Thread(target=confirm_cancel, args=(ticket,)).start())
    assert "cancelled_in_session" in cancelled_after_start(backend)[0]


def test_a_cancelled_task_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "CANCEL_S_MAX", 0.01)
    assert cancelled_after_start(FakeBackend()) == ["procession: echo: asked to stop; its end was not seen yet"]


def test_work_that_finished_before_it_could_be_stopped_is_told_so() -> None:
    backend = FakeBackend(on_cancel=lambda ticket: ticket.answer(Nothing(), b"r"))
    assert "too_late" in cancelled_after_start(backend)[0]


def test_a_start_whose_caller_was_cancelled_is_undone() -> None:
    def started(ticket: FakeTicket) -> None:
        ticket.answer(SessionRef(id="new", name="n"))

    backend = FakeBackend(on_cancel=started)
    cancelled_after_start(backend, undo=plans.remove_started, plan=plans.start_session(StartBody()))
    assert [(r.op.name, r.session) for r in backend.requests] == [("start_session", ""), ("remove_session", "new")]


def test_an_async_on_output_that_is_slow_loses_the_oldest_and_is_told() -> None:
    async def main() -> None:
        backend = FakeBackend()
        goes_on = asyncio.Event()
        taken: list[OutputChunk] = []

        async def slow(chunk: OutputChunk) -> None:
            await goes_on.wait()
            taken.append(chunk)

        plan = plans.run_code("i", "1", limits=Limits(), timeout_s=5.0, on_item=None)
        call = asyncio.ensure_future(perform_handing(backend, plan, "i", slow))
        await asyncio.sleep(0)
        ticket = backend.open[0]
        tell = ticket.request.on_item
        assert tell is not None
        chunks = [OutputChunk(stream="stdout", data=bytes([at]) * 64 * KiB) for at in range(64)]
        for chunk in chunks[:32]:
            tell(chunk)
        in_thread(lambda: [tell(chunk) for chunk in chunks[32:]])
        ticket.answer(CodeDone(), encode(CodeResult(value="1")))
        await asyncio.sleep(0)
        assert not call.done()
        goes_on.set()
        assert (await call).value == "1"
        assert sum(len(chunk.data) for chunk in taken) <= RING_BYTES_MAX
        assert sum(len(chunk.data) + chunk.dropped for chunk in taken) == 64 * 64 * KiB
        assert [chunk.data[0] for chunk in taken] == [*range(64 - len(taken), 64)]

    asyncio.run(main())


def test_a_host_of_another_loop_or_closed_is_an_error_not_a_hang() -> None:
    async def use(link: Link) -> None:
        backend_of(link)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(InvalidRequest) as caught:
            asyncio.run(use(Link(FakeBackend(), is_local=True, loop=loop)))
        assert caught.value.code == "wrong_loop"
        with pytest.raises(HostLost):
            asyncio.run(use(Link(FakeBackend(), is_local=True, loop=loop, closed=True)))
    finally:
        loop.close()


# --- streams --------------------------------------------------------------------------------------------------------


def chunk(data: bytes, dropped: int = 0, stream: Any = "stdout") -> OutputChunk:
    return OutputChunk(stream=stream, data=data, dropped=dropped)


def taken(ring: ItemRing) -> list[Item]:
    found: list[Item] = []
    while (item := ring.take()) is not None:
        found.append(item)
    return found


def test_a_ring_gives_back_in_order() -> None:
    ring = ItemRing()
    ring.put(chunk(b"1"))
    ring.put(chunk(b"2", dropped=3))
    assert taken(ring) == [chunk(b"1"), chunk(b"2", dropped=3)]
    assert ring.take() is None


@pytest.mark.guarantee("R-57")
def test_a_ring_loses_its_oldest_and_counts_them_exactly() -> None:
    ring = ItemRing(bytes_max=10_000)
    sent = 0
    for number in range(1_000):
        ring.put(chunk(b"x" * (number % 50)))
        sent += number % 50
    left = [item for item in taken(ring) if isinstance(item, OutputChunk)]
    assert 0 < len(left) < 1_000
    assert sum(len(item.data) + item.dropped for item in left) == sent
    assert [item.dropped for item in left[1:]] == [0] * (len(left) - 1)


def test_a_ring_counts_each_stream_and_events_for_themselves() -> None:
    ring = ItemRing(bytes_max=600)
    ring.put(chunk(b"lost", stream="stderr"))
    ring.put(Event(number=1, at=0, type="a"))
    ring.put(chunk(b"o"))
    ring.put(chunk(b"e", stream="stderr"))
    ring.put(Event(number=2, at=0, type="b", dropped=1))
    kept = {getattr(item, "stream", "event"): item.dropped for item in taken(ring)}
    assert kept == {"stderr": 4, "event": 2}


def test_a_follow_gives_what_comes_and_ends_with_its_stream() -> None:
    backend = FakeBackend()
    follow: Follow[OutputChunk] = Follow(backend, plans.follow("logs", "i", since=None, call=None), "i")
    give = backend.requests[0].on_item
    assert give is not None
    give(chunk(b"1"))
    assert next(follow) == chunk(b"1")
    in_thread(lambda: give(chunk(b"2")))
    in_thread(lambda: backend.open[0].answer(ChunkList()))
    assert list(follow) == [chunk(b"2")]


def test_closing_a_follow_wakes_its_reader_and_withdraws_the_call() -> None:
    backend = FakeBackend(on_cancel=lambda ticket: ticket.answer(ChunkList()))
    follow: Follow[OutputChunk] = Follow(backend, plans.follow("logs", "i", since=None, call=None), "i")
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(follow))
    reader.start()
    with follow:
        pass
    reader.join(10)
    assert not reader.is_alive()
    assert seen == []
    assert backend.open[0].cancelled == 1
    follow.close()
    assert backend.open[0].cancelled == 1


def test_a_follow_ends_with_the_error_of_its_stream() -> None:
    backend = FakeBackend(lambda _: SessionNotFound("gone"))
    with pytest.raises(SessionNotFound) as caught:
        next(Follow(backend, plans.follow("logs", "i", since=None, call=None), "i"))
    assert caught.value.session == "i"


def test_a_forgotten_follow_withdraws_its_call() -> None:
    backend = FakeBackend(on_cancel=lambda ticket: ticket.answer(ChunkList()))
    follow: Follow[OutputChunk] | None = Follow(backend, plans.follow("logs", "i", since=None, call=None), "i")
    backend.requests[0].on_item = None
    backend.open[0].done = lambda _: None
    ticket = backend.open[0]
    backend.open.clear()
    backend.requests.clear()
    ticket.request = echo().request
    del follow
    assert ticket.cancelled == 1


def test_an_async_follow_gives_what_comes_from_any_thread() -> None:
    async def main() -> None:
        backend = FakeBackend(on_cancel=lambda ticket: ticket.answer(ChunkList()))
        async with AsyncFollow[OutputChunk](backend, plans.follow("logs", "i", since=None, call=None), "i") as follow:
            give = backend.requests[0].on_item
            assert give is not None
            give(chunk(b"1"))
            assert await anext(follow) == chunk(b"1")
            await asyncio.get_running_loop().run_in_executor(None, give, chunk(b"2"))
            assert await anext(follow) == chunk(b"2")
            waiting = asyncio.ensure_future(anext(follow, None))
            await asyncio.sleep(0)
            await follow.aclose()
            assert await waiting is None
        assert backend.open[0].cancelled == 1

    asyncio.run(main())


def test_an_async_follow_ends_with_its_stream_or_its_error() -> None:
    async def main() -> None:
        plan = plans.follow("events", "", since=None, call=None)
        assert [item async for item in AsyncFollow[Event](FakeBackend(lambda _: Response(b"\x80")), plan, None)] == []
        with pytest.raises(HostLost):
            await anext(AsyncFollow[Event](FakeBackend(lambda _: HostLost("x")), plan, None))

    asyncio.run(main())
