"""A call's outcome is kept for a retry, within bounds; what did not run, or came to nothing, is no outcome."""

import msgspec
import pytest

from procession.host.core.journal_entries import Outcome
from procession.host.core.outcome_book import (
    BOOK_BYTES_MAX,
    PAYLOAD_KEPT_BYTES_MAX,
    OutcomeBook,
    of_error,
    of_reply,
    told,
)
from procession.ipc.core.bounds import OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.errors import (
    AgentError,
    DiskFull,
    InvalidRequest,
    MailboxFull,
    OutcomeUnknown,
    ProcessionError,
    SessionDied,
)
from procession.ipc.core.messages import EMPTY, Inline, Reply

pytestmark = pytest.mark.guarantee("R-54")


def test_a_reply_comes_back_as_it_was() -> None:
    reply = Reply(3, 7, msgspec.Raw(b"\x93\x01\x02\x03"), Inline(b"payload"), msgspec.Raw(b"\x90"))
    again = told(of_reply("id", "act", 1.0, reply, b"payload"), "act", "s")
    assert isinstance(again, Reply)
    assert (bytes(again.body), again.payload, again.ops) == (bytes(reply.body), Inline(b"payload"), EMPTY)
    without = told(of_reply("id", "ping", 1.0, Reply(1, 1), None), "ping", "s")
    assert isinstance(without, Reply)
    assert without.payload is None


def test_an_error_comes_back_as_it_was() -> None:
    outcome = of_error("id", "act", 1.0, AgentError("no", code="mine", traceback="text"))
    assert outcome is not None
    again = told(outcome, "act", "s")
    assert isinstance(again, AgentError)
    assert (again.message, again.code, again.ran, again.traceback) == ("no", "mine", "yes", "text")


@pytest.mark.parametrize(
    "error",
    [
        MailboxFull("full"),
        InvalidRequest("no"),
        SessionDied("gone", applied=False),
        DiskFull("full", ran="yes", applied=False),
    ],
)
def test_what_did_not_run_or_came_to_nothing_may_be_asked_for_again(error: ProcessionError) -> None:
    assert of_error("id", "act", 1.0, error) is None


def test_of_what_is_too_large_only_the_fact_is_kept() -> None:
    payload = bytes(PAYLOAD_KEPT_BYTES_MAX + 1)
    outcome = of_reply("id", "run", 1.0, Reply(1, 1), payload)
    assert outcome.payload is None
    again = told(outcome, "run", "s")
    assert isinstance(again, OutcomeUnknown)
    assert (again.ran, again.code) == ("yes", "outcome_not_kept")


def test_an_id_is_one_operations() -> None:
    again = told(of_reply("id", "run", 1.0, Reply(1, 1), None), "act", "s")
    assert isinstance(again, InvalidRequest)
    assert (again.code, again.ran) == ("call_id_reused", "no")


def test_the_book_is_bounded_by_number_age_and_bytes() -> None:
    book = OutcomeBook()
    for number in range(OUTCOMES_KEPT + 5):
        book.keep(Outcome(str(number), "act", 100.0))
    assert len(book) == OUTCOMES_KEPT
    assert book.find("4", 100.0) is None
    newest = str(OUTCOMES_KEPT + 4)
    assert book.find(newest, 100.0 + OUTCOME_KEPT_S) is not None
    assert book.find(newest, 101.0 + OUTCOME_KEPT_S) is None
    large = OutcomeBook()
    count = BOOK_BYTES_MAX // PAYLOAD_KEPT_BYTES_MAX
    for number in range(count + 3):
        large.keep(Outcome(str(number), "run", 100.0, payload=bytes(PAYLOAD_KEPT_BYTES_MAX)))
    assert len(large) < count + 1
    large.keep(Outcome(str(count + 2), "run", 100.0))  # in its place, and small
    assert large.find(str(count + 2), 100.0) == Outcome(str(count + 2), "run", 100.0)
