"""The checker itself: a history in which a law does not hold is found out, each law by its name; a sound one is not."""

import pytest

from helpers.simulation.history import Asked, Broken, Disaster, History, Told
from procession.ipc.core.backend import Response
from procession.ipc.core.errors import DiskFull, HostLost, MailboxFull, ProcessionError, SessionDied

OK = Response(b"\xc0")


def told(outcome: object, at: float = 1.0, host: int = 1) -> Told:
    return Told(at, outcome, host)


def asked(text: str, *outcomes: object, kind: str = "append", durability: str = "batch", client: int = 0) -> Asked:
    made = Asked(kind, text, "s", client, durability, "", 0.5)
    made.told = [told(outcome) for outcome in outcomes]
    made.attempts = len(outcomes)
    return made


def history(*entries: Asked, disasters: tuple[Disaster, ...] = ()) -> History:
    made = History()
    made.asked = list(entries)
    made.disasters = list(disasters)
    return made


def check(made: History, *final: str, aside: tuple[str, ...] = ()) -> None:
    made.check({"s": list(final)}, {"s": list(aside)})


def test_a_sound_history_passes() -> None:
    lost = asked("lost", HostLost("gone"))
    refused = asked("refused", MailboxFull("full"))
    check(history(asked("a", OK), lost, refused, asked("b", OK)), "a", "b")
    check(history(asked("a", OK), lost, refused, asked("b", OK)), "a", "lost", "b")
    check(history(asked("cast", OK, kind="cast")), aside=("cast",))


def test_law_1_each_attempt_has_an_outcome() -> None:
    entry = asked("a")
    entry.attempts = 1
    with pytest.raises(Broken, match="law 1"):
        check(history(entry), "a")


def test_law_1_and_only_one() -> None:
    entry = asked("a", OK)
    with pytest.raises(Broken, match="law 1"):
        history(entry).tell(entry, told(OK))


ERRORS = [MailboxFull("full"), SessionDied("died", applied=False), DiskFull("full", ran="yes", applied=False)]


@pytest.mark.parametrize("error", ERRORS)
def test_law_2_what_is_said_not_to_be_is_not(error: ProcessionError) -> None:
    with pytest.raises(Broken, match="law 2"):
        check(history(asked("a", error)), "a")


def test_law_3_what_was_acknowledged_is_there_as_it_was_promised() -> None:
    kill, power = Disaster(9.0, "kill", 1), Disaster(9.0, "power", 1)
    for durability, disaster in (("batch", kill), ("sync", kill), ("sync", power), ("batch", power), ("memory", None)):
        with pytest.raises(Broken, match="law 3"):
            check(history(asked("a", OK, durability=durability), disasters=(disaster,) if disaster else ()))
    check(history(asked("a", OK, durability="memory"), disasters=(kill,)))
    check(history(asked("a", OK), disasters=(Disaster(1.01, "power", 1),)))  # within what a power cut may cost


def test_a_read_shows_only_what_is_kept() -> None:
    seen = asked("read", OK, kind="read")
    seen.read = ["a"]
    with pytest.raises(Broken, match="law 3"):
        check(history(asked("a", HostLost("gone")), seen, disasters=(Disaster(9.0, "kill", 1),)))


def test_nothing_is_doubled_and_signals_are_not_lost() -> None:
    with pytest.raises(Broken, match="2 times"):
        check(history(asked("a", OK)), "a", "a")
    with pytest.raises(Broken, match="neither there nor aside"):
        check(history(asked("a", OK, kind="cast")))
    with pytest.raises(Broken, match="2 times"):
        check(history(asked("a", OK, kind="cast")), "a", "a")


def test_a_call_that_had_started_is_not_run_again() -> None:
    made = history(asked("a", OK))
    made.runs["a"] = 2
    with pytest.raises(Broken, match="was run 2 times"):
        check(made, "a")


def test_a_client_s_own_order_is_kept() -> None:
    with pytest.raises(Broken, match="stands before"):
        check(history(asked("a", OK), asked("b", OK)), "b", "a")
    check(history(asked("a", OK), asked("b", OK, client=1)), "b", "a")
