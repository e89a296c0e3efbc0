"""The text of an answer on its way to its reader: whole in the end, whatever happens to it, and bounded meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from procession.api.core.text_buffer import KEPT_CHARS_MAX, PIECES_MAX, TextBuffer
from procession.ipc.core.records import OutputChunk


def chunk(data: bytes, dropped: int = 0) -> OutputChunk:
    return OutputChunk(stream="stdout", data=data, call=1, dropped=dropped)


pieces = st.tuples(st.text(min_size=1, max_size=4), st.integers(0, 3), st.booleans(), st.booleans())


@given(st.lists(pieces, max_size=8))
def test_what_is_read_and_the_rest_are_the_whole_answer(parts: list[tuple[str, int, bool, bool]]) -> None:
    """A part is its text, how many bytes before its end it is cut (inside of a character too), and whether it is lost or read."""
    answer, at, buffer, read, dropped = "", 0, TextBuffer(), "", 0
    data = "".join(text for text, *_ in parts).encode()
    for number, (text, early, is_lost, is_read) in enumerate(parts):
        answer += text
        end = len(data) if number == len(parts) - 1 else max(at, len(answer.encode()) - early)
        piece, at = data[at:end], end
        if is_lost:
            dropped += len(piece)
            continue
        buffer.put(chunk(piece, dropped))
        dropped = 0
        if is_read:
            read += buffer.take()
            assert not buffer
    read += buffer.take()
    assert answer.startswith(read)
    assert read + buffer.rest(answer) == answer
    buffer.put(chunk(b"too late"))
    assert (buffer.take(), buffer.rest(answer)) == ("", "")


def test_unread_text_is_bounded() -> None:
    buffer = TextBuffer()
    for _ in range(100):
        buffer.put(chunk("語".encode() * 5_000))
    kept = buffer.take()
    assert 0 < len(kept) <= KEPT_CHARS_MAX
    assert kept + buffer.rest("語" * 500_000) == "語" * 500_000


def test_many_small_pieces_are_one_text() -> None:
    buffer = TextBuffer()
    for number in range(3 * PIECES_MAX):
        buffer.put(chunk(str(number % 10).encode()))
    assert buffer.take() == "0123456789" * (3 * PIECES_MAX // 10)


def test_only_what_is_said_is_text() -> None:
    buffer = TextBuffer()
    buffer.put(OutputChunk(stream="stderr", data=b"to the log", call=1))
    assert not buffer
    buffer.put(chunk("é".encode()[:1]))
    assert not buffer
    buffer.put(chunk("é".encode()[1:]))
    assert buffer
    assert buffer.take() == "é"
