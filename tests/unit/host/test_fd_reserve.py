"""Reserved descriptors: lent when there are no others, taken back when there are, and never more than there were."""

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from helpers.reactors import WAIT_S, running_reactor
from helpers.waiting import wait_until
from procession.host.fd_reserve import RESERVED_FDS, FdReserve

NONE_LEFT = OSError(errno.EMFILE, "too many open files")


@pytest.fixture
def reserve() -> Iterator[FdReserve]:
    with running_reactor("thread") as reactor:
        made = FdReserve(reactor)
        yield made
        made.close()
        made.close()
        assert made.left == 0


def test_one_is_lent_for_the_want_of_one_and_for_nothing_else(reserve: FdReserve) -> None:
    assert not reserve.lend_for(OSError(errno.EACCES, "no"))
    assert reserve.left == RESERVED_FDS
    assert reserve.lend_for(NONE_LEFT)
    assert reserve.left == RESERVED_FDS - 1


def fill(fillers: list[int]) -> None:
    """Open what can be."""
    try:
        while True:
            fillers.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as problem:
        assert problem.errno == errno.EMFILE  # noqa: PT017 - it is what was to be brought about


def test_what_was_lent_is_taken_back_when_there_are_free_ones(reserve: FdReserve) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
        fill(fillers)
        for lent in range(RESERVED_FDS):
            assert reserve.lend_for(NONE_LEFT)
            fillers.append(os.open(os.devnull, os.O_RDONLY))
            assert reserve.left == RESERVED_FDS - lent - 1
        assert not reserve.lend_for(NONE_LEFT), "there is none to lend"
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: reserve.left == RESERVED_FDS, "the reserve is full again", timeout_s=WAIT_S)


def test_a_host_that_stops_gives_them_all_away(reserve: FdReserve) -> None:
    assert reserve.lend_for(NONE_LEFT)
    reserve.close()
    assert reserve.left == 0
    assert not reserve.lend_for(NONE_LEFT)
