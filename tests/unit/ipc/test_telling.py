"""One owner's callbacks: told in the order in which they were read, whoever comes to tell them, and none lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from helpers.reactors import WAIT_S, running_reactor
from procession.ipc.transport.reactor import ThreadReactor
from procession.ipc.transport.telling import Telling

Afters = list[Callable[[], None]]


@pytest.fixture
def reactor() -> Iterator[ThreadReactor]:
    with running_reactor("thread") as running:
        assert isinstance(running, ThreadReactor)
        yield running


def run(after: Afters) -> None:
    for callback in after:
        callback()


def test_what_is_read_later_is_told_later_though_its_reader_comes_first(reactor: ThreadReactor) -> None:
    told: list[int] = []
    telling, first, second = Telling(reactor), Afters(), Afters()
    telling.add(lambda: told.append(1), first)
    telling.add(lambda: told.append(2), second)
    run(second)  # its thread overtook the other one
    assert told == [1, 2]
    run(first)
    assert told == [1, 2]


def test_who_finds_another_thread_telling_leaves_its_own_to_it(reactor: ThreadReactor) -> None:
    told: list[tuple[int, int]] = []
    inside, go_on = threading.Event(), threading.Event()
    telling, first, second = Telling(reactor), Afters(), Afters()

    def slow() -> None:
        inside.set()
        assert go_on.wait(WAIT_S)
        told.append((1, threading.get_ident()))

    telling.add(slow, first)
    teller = threading.Thread(target=run, args=(first,))
    teller.start()
    assert inside.wait(WAIT_S)
    telling.add(lambda: told.append((2, threading.get_ident())), second)
    run(second)  # comes back at once, with nothing told
    assert told == []
    go_on.set()
    teller.join(WAIT_S)
    assert told == [(1, teller.ident), (2, teller.ident)]


def test_what_a_callback_reads_itself_is_told_after_it(reactor: ThreadReactor) -> None:
    told: list[str] = []
    telling, after = Telling(reactor), Afters()

    def reads() -> None:
        inner = Afters()
        telling.add(lambda: told.append("read inside"), inner)
        run(inner)
        told.append("outside")

    telling.add(reads, after)
    run(after)
    assert told == ["outside", "read inside"]


def test_one_that_raises_is_reported_and_holds_up_nobody(reactor: ThreadReactor) -> None:
    told, surprises = list[str](), list[BaseException]()
    reactor.on_error = lambda problem, _: surprises.append(problem)
    telling, after = Telling(reactor), Afters()
    telling.add(lambda: told.append(str(1 / 0)), after)
    telling.add(lambda: told.append("next"), after)
    run(after[:1])
    assert told == ["next"]
    assert [type(problem) for problem in surprises] == [ZeroDivisionError]


def test_an_interrupt_leaves_the_rest_to_the_reactor(reactor: ThreadReactor) -> None:
    told: list[int] = []
    done = threading.Event()
    telling, after = Telling(reactor), Afters()

    def interrupted() -> None:
        raise KeyboardInterrupt

    def last() -> None:
        told.append(threading.get_ident())
        done.set()

    telling.add(interrupted, after)
    telling.add(last, after)
    with pytest.raises(KeyboardInterrupt):
        run(after[:1])
    assert done.wait(WAIT_S)
    assert told == [reactor.thread_id()]
