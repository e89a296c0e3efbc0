"""What a worker writes is read strictly: whole messages, or nothing, and never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.core.worker_messages import (
    AnyMessage,
    CellDone,
    Finished,
    MessageReader,
    NotRun,
    Raised,
    Raising,
    Rejected,
    pack,
)

MESSAGES: list[AnyMessage] = [
    Finished(3),
    Raising("ValueError"),
    Raised("ValueError", "text", "tb", 7, True),
    Rejected("too_large", "text", "hint"),
    NotRun("code", "text"),
    CellDone(4, value="1"),
    CellDone(5, error="tb", error_type="E", ending=True),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_from_single_bytes(message: AnyMessage) -> None:
    reader = MessageReader()
    data = pack(message)
    for at in range(len(data)):
        assert reader.next() is None
        reader.feed(data[at : at + 1])
    assert reader.next() == message
    assert reader.next() is None


def test_the_bytes_behind_a_result_are_left_alone() -> None:
    reader = MessageReader()
    reader.feed(pack(Finished(3)) + b"abc")
    assert reader.next() == Finished(3)
    assert reader.rest() == b"abc"


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_broken(data: bytes) -> None:
    reader = MessageReader()
    reader.feed(data)
    while (message := reader.next()) is not None:
        assert isinstance(message, AnyMessage)
    if reader.broken:
        reader.feed(pack(Finished(0)))
        assert reader.next() is None


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x01\0\0\0\xc1", b"\x02\0\0\0\x91\x63"])
def test_nonsense_is_broken_for_good(data: bytes) -> None:
    reader = MessageReader()
    reader.feed(data)
    assert reader.next() is None
    assert reader.broken
