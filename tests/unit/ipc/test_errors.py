"""Errors as data and back: the class from the closed table, and a builtin cause that reads as the original did."""

import builtins
import pickle
from typing import Any

import msgspec
import pytest

from procession.ipc.core.bounds import ERROR_TEXT_CHARS_MAX
from procession.ipc.core.errors import (
    BUILTIN_EXCEPTIONS,
    ERROR_TYPES,
    ErrorData,
    InvalidRequest,
    ProcessionError,
    SessionDied,
    ToolRaised,
    from_data,
    to_data,
)

ORIGINALS: list[Exception] = [
    ValueError("not a port: 'x'"), ValueError(), ValueError("a: b: c"), KeyError("k"), KeyError("it's"), KeyError(3), KeyError(),
    KeyError(("a", 1)), KeyError("tab\there"), KeyError('"'), FileNotFoundError(2, "No such file or directory", "/x"),
    ZeroDivisionError("division by zero"), StopIteration(4), RuntimeError("RuntimeError: twice"), SyntaxError("bad"),
]  # fmt: skip


def cause_after_travel(kind: str, text: str) -> BaseException | None:
    """Return the cause that comes out of what a worker tells of an exception."""
    message = f"{kind}: {text}" if text else kind
    return from_data(ErrorData(kind="ToolRaised", message=message, exception_type=kind)).__cause__


@pytest.mark.parametrize("original", ORIGINALS, ids=repr)
def test_a_builtin_cause_reads_as_the_original_did(original: Exception) -> None:
    cause = cause_after_travel(type(original).__name__, str(original))
    assert type(cause) is type(original)
    assert str(cause) == str(original)


def test_a_missing_key_is_the_cause_with_its_own_key() -> None:
    cause = cause_after_travel("KeyError", str(KeyError("k")))
    assert isinstance(cause, KeyError)
    assert cause.args == ("k",)


def test_only_builtin_exceptions_become_a_cause() -> None:
    for name in ("package.module.ValueError", "SystemExit", "KeyboardInterrupt", "eval", "UnicodeDecodeError", ""):
        assert cause_after_travel(name, "text") is None, name
    for name, kind in BUILTIN_EXCEPTIONS.items():
        assert type(cause_after_travel(name, "text")) is getattr(builtins, name) is kind


def test_every_error_survives_the_wire_and_a_pickle() -> None:
    for name, kind in ERROR_TYPES.items():
        error = kind("what happened", code="special", ran="maybe", session="s", call_id="c1", hint="do this")
        for back in (from_data(to_data(error)), pickle.loads(pickle.dumps(error))):
            assert type(back).__name__ == name
            assert (str(back), back.code, back.ran, back.session, back.call_id) == (
                str(error),
                "special",
                "maybe",
                "s",
                "c1",
            )


def test_an_unknown_kind_is_an_error_all_the_same() -> None:
    error = from_data(ErrorData(kind="os.system", message="text"))
    assert type(error) is ProcessionError
    assert isinstance(from_data(to_data(SessionDied("gone"))), SessionDied)
    assert isinstance(from_data(to_data(ToolRaised("x: y", exception_type="x"))), ToolRaised)


def test_whatever_an_author_puts_into_an_error_of_ours_can_be_sent() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    given: list[Any] = ["\ud800", b"\xff", 3, None, Mute(), "x" * 100_000]
    for odd in given:
        error = InvalidRequest(
            odd, code=odd, hint=odd, phase=odd, limit=odd, exception_type=odd, ran=odd, applied=odd,
            session=odd, call_id=odd, elapsed_s=odd, retry_after_s=odd, codes=(odd,),
        )  # fmt: skip
        data = to_data(error)
        back = from_data(msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=ErrorData))
        assert type(back) is InvalidRequest
        assert back.ran == "no"
        assert len(back.message) <= ERROR_TEXT_CHARS_MAX
    assert from_data(to_data(InvalidRequest("\udcff", code="c"))).message == "\\udcff"
