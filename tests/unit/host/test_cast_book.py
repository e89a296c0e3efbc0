"""The signals of a session: taken, over, set aside, retried, dropped; in order, and within bounds."""

import pytest

from procession.host.core.cast_book import ASIDE_BYTES_MAX, ASIDE_MAX, CastBook
from procession.host.core.journal_entries import Cast
from procession.ipc.core.errors import InvalidRequest

pytestmark = pytest.mark.guarantee("R-17")


def book_of(*names: str) -> CastBook:
    book = CastBook()
    for name in names:
        book.take(name, "type", name.encode(), 1.0)
    return book


def ids(casts: list[Cast]) -> list[str]:
    return [cast.id for cast in casts]


def test_they_keep_their_order_and_are_forgotten_when_they_are_over() -> None:
    book = book_of("a", "b", "c")
    assert ids(book.taken) == ["a", "b", "c"]
    assert book.over("b")
    assert not book.over("b")
    assert ids(book.taken) == ["a", "c"]


def test_one_that_is_set_aside_is_kept_with_its_reason_until_somebody_decides() -> None:
    book = book_of("a", "b")
    cast, gone = book.set_aside("a", "session_died", "it died", 2, at=2.0)
    assert (cast.status, cast.code, cast.text, cast.deaths, cast.signal, cast.at) == (
        "aside",
        "session_died",
        "it died",
        2,
        b"a",
        1.0,
    )
    assert (gone, ids(book.taken), ids(book.aside)) == ([], ["b"], ["a"])
    again = book.retry("a")
    assert (again.status, again.code, ids(book.taken), book.aside) == ("taken", "", ["b", "a"], [])
    book.set_aside("a", "session_died", "", 2, at=3.0)
    assert book.drop("a").id == "a"
    for act in (book.drop, book.retry):
        with pytest.raises(InvalidRequest) as caught:
            act("a")
        assert caught.value.code == "signal_not_found"


def test_one_that_only_the_mailbox_knew_is_set_aside_with_what_is_known_of_it() -> None:
    book = CastBook()
    cast, _ = book.set_aside("x", "stopped", "", 0, at=5.0, signal=b"signal", type_="a.b")
    assert (cast.signal, cast.type, cast.at, ids(book.aside)) == (b"signal", "a.b", 5.0, ["x"])


def test_the_oldest_goes_when_there_are_too_many_or_too_much() -> None:
    book = CastBook()
    for number in range(ASIDE_MAX):
        assert book.set_aside(str(number), "c", "", 2, at=1.0)[1] == []
    assert ids(book.set_aside("more", "c", "", 2, at=1.0)[1]) == ["0"]
    book = CastBook()
    half = bytes(ASIDE_BYTES_MAX // 2)
    for name in ("a", "b"):
        book.set_aside(name, "c", "", 2, at=1.0, signal=half)
    assert ids(book.set_aside("c", "c", "", 2, at=1.0, signal=half)[1]) == ["a"]
    assert ids(book.set_aside("huge", "c", "", 2, at=1.0, signal=bytes(2 * ASIDE_BYTES_MAX))[1]) == ["b", "c"]


def test_a_book_goes_on_where_a_former_one_was() -> None:
    former = book_of("a", "b", "c")
    former.set_aside("b", "c", "", 2, at=1.0)
    book = CastBook()
    for cast in [*former.taken, *former.aside]:
        book.restore(cast)
    book.take("d", "type", b"", 2.0)
    assert (ids(book.taken), ids(book.aside)) == (["a", "c", "d"], ["b"])
