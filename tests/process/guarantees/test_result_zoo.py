"""Nasty results and nasty exceptions of real runs: an answer each time, at once, and nothing of them runs in the host."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.hosts import SLACK
from procession import Host, Sandbox, Session, ToolCrashed, ToolFailed, ToolRaised, ToolResultInvalid
from unit.ipc.test_type_zoo import ANIMALS

pytestmark = [pytest.mark.process, pytest.mark.guarantee("R-20"), pytest.mark.timeout(120)]

ANSWER_S = 2.0
"""A run takes ten milliseconds; the text of an exception has one second before its worker is ended."""
PLACES = ("alone", "in a list", "raised from")


@pytest.fixture(scope="module")
def zoo_session() -> Iterator[Session]:
    """Return a session whose workers have the zoo loaded already."""
    with Host(sandbox=Sandbox.off(), preload=["unit.ipc.test_type_zoo"]) as host:
        session = host.start_session()
        session.run(fetch, next(iter(ANIMALS)), "none")
        yield session


def fetch(name: str, place: str) -> object:
    """Return an animal of the worker's own zoo: none travels to the worker."""
    from unit.ipc.test_type_zoo import ANIMALS

    animal = ANIMALS[name]
    if place == "raised from":
        raise ValueError(animal)
    return {"alone": animal, "in a list": [1, animal], "none": 0}[place]


def failure_of(session: Session, name: str, place: str) -> ToolFailed | None:
    try:
        session.run(fetch, name, place)
    except ToolFailed as error:
        return error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_animal_is_answered_at_once(zoo_session: Session, place: str, soak_factor: int) -> None:
    before = zoo_session.status().pid
    refused = 0
    names = list(ANIMALS) if place == "alone" or soak_factor > 1 else list(ANIMALS)[::5]
    for name in names:
        began = time.monotonic()
        error = failure_of(zoo_session, name, place)
        if error is not None:
            refused += 1
            assert isinstance(error, ToolRaised if place == "raised from" else ToolResultInvalid), (name, repr(error))
            assert error.ran == "yes"
            assert str(error), name
            if place == "raised from":
                assert error.exception_type == "ValueError"
                assert type(error.__cause__) is ValueError, name
        assert time.monotonic() - began <= ANSWER_S * SLACK, name
    assert refused == len(names) if place == "raised from" else refused > len(names) / 2
    assert zoo_session.status().pid == before
    assert zoo_session.run(len, "it lives") == 8


class Bomb:
    """What would be carried out by whoever unpickled it."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.place, "w")


class BombError(Exception):
    def __reduce__(self) -> tuple[object, tuple[object, str]]:
        return open, (self.args[0], "w")


def give_bomb(place: str) -> object:
    return Bomb(place)


def raise_bomb(place: str) -> None:
    raise BombError(place)


def test_nothing_a_tool_returns_or_raises_is_carried_out_in_the_host(zoo_session: Session, tmp_path: Path) -> None:
    trace = tmp_path / "carried-out"
    with pytest.raises(ToolResultInvalid) as refused:
        zoo_session.run(give_bomb, str(trace))
    assert "Bomb" in str(refused.value)
    assert refused.value.hint
    with pytest.raises(ToolRaised) as raised:
        zoo_session.run(raise_bomb, str(trace))
    assert raised.value.exception_type.endswith("BombError")
    assert raised.value.__cause__ is None  # only builtin types come back, nothing is looked up by name
    assert not trace.exists()


class LoopsInItsText(Exception):
    def __str__(self) -> str:
        while self.args:
            pass
        return "never"


class ExitsInItsText(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


class DiesInItsText(Exception):
    def __str__(self) -> str:
        import os

        os.abort()
        return "never"


class RaisesItself(Exception):
    def __str__(self) -> str:
        raise self


class HugeText(Exception):
    def __str__(self) -> str:
        return "x" * (64 << 20)


class OddText(Exception):
    def __str__(self) -> str:
        return "\ud800 \0 \x1b[31m"


def raise_one(kind: str, type_: type[BaseException] | None) -> None:
    if kind == "a long chain":
        try:
            raise ValueError("the first")
        except ValueError as first:
            error: BaseException = first
        for number in range(5000):
            later = ValueError(f"number {number}")
            later.__cause__ = error
            error = later
        raise error
    if kind == "a loop of causes":
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        raise one
    if kind == "a deep group":
        group: BaseException = ValueError("innermost")
        for _ in range(500):
            group = BaseExceptionGroup("around", [group])
        raise group
    if kind == "a recursion":

        def deeper() -> object:
            return deeper()

        deeper()
    if kind == "a nameless class":
        raise type("", (BaseException,), {"__module__": None})
    assert type_ is not None
    raise type_("what it was made with")


TYPES: tuple[type[BaseException], ...] = (
    LoopsInItsText, ExitsInItsText, DiesInItsText, RaisesItself, HugeText, OddText, KeyboardInterrupt, GeneratorExit,
    StopIteration,
)  # fmt: skip
KINDS: dict[str, type[BaseException] | None] = {type_.__name__: type_ for type_ in TYPES} | dict.fromkeys(
    ("a long chain", "a loop of causes", "a deep group", "a recursion", "a nameless class")
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception_comes_back_as_text(zoo_session: Session, kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(ToolFailed) as caught:
        zoo_session.run(raise_one, kind, KINDS[kind])
    assert time.monotonic() - began <= ANSWER_S * SLACK
    error = caught.value
    assert isinstance(error, ToolRaised | ToolCrashed)
    assert len(str(error)) <= 4096
    assert len(error.traceback) <= 16_000
    str(error).encode()  # no half characters
    if isinstance(error, ToolRaised) and KINDS[kind] is not None:
        assert error.exception_type.rpartition(".")[2] == kind
    assert zoo_session.run(len, "it lives") == 8
