"""R-09, R-10: well, idle, busy, stopped, stuck, past its time; and never a verdict from a gap in the looking."""

from collections.abc import Iterator
from typing import Any

import pytest

from procession.host.core.watchdog import Sample, Verdict, Watchdog


def watch(dog: Watchdog, samples: Iterator[Sample]) -> list[tuple[float, Verdict]]:
    """Show the samples up to the first that ends the session."""
    seen = []
    for sample in samples:
        verdict = dog.observe(sample)
        seen.append((sample.now, verdict))
        if verdict.act == "end":
            break
    return seen


def seconds(count: int, *, start: float = 100.0, **fields) -> Iterator[Sample]:
    """Samples a second apart; a field that is a function is given the number of the sample."""
    base = {"tick": 7, "running": 0, "last_started": 3, "state": "S", "cpu_ticks": 50}
    for n in range(count):
        made: dict[str, Any] = {k: v(n) if callable(v) else v for k, v in (base | fields).items()}
        yield Sample(now=start + n, **made)


def test_an_idle_session_is_well_however_long() -> None:
    seen = watch(Watchdog(), seconds(5000))
    assert {verdict for _, verdict in seen} == {Verdict("ok")}


def test_a_loop_that_turns_is_busy_or_well() -> None:
    assert watch(Watchdog(), seconds(100, tick=lambda n: n))[-1][1] == Verdict("ok")
    busy = watch(Watchdog(), seconds(100, tick=lambda n: n, running=4, cpu_ticks=lambda n: 100 * n, state="R"))
    assert busy[-1] == (199.0, Verdict("busy"))


@pytest.mark.guarantee("R-09")
@pytest.mark.parametrize("state", ["T", "t"])
def test_a_stopped_process_is_ended_after_ten_seconds(state: str) -> None:
    dog = Watchdog()
    watch(dog, seconds(5))
    seen = watch(dog, seconds(60, start=105.0, state=state, running=2))
    assert all(verdict.kind == "stopped" for _, verdict in seen)
    assert seen[-1] == (115.0, Verdict("stopped", 10.0, "end"))


@pytest.mark.guarantee("R-09")
def test_a_process_that_is_continued_in_time_has_no_mark() -> None:
    dog = Watchdog()
    for round_number in range(20):
        start = 100.0 + 12 * round_number
        stopped = watch(dog, seconds(9, start=start, state="T", running=2))
        went_on = watch(dog, seconds(3, start=start + 9, running=2, tick=lambda n: 8 + n))
        assert {v.act for _, v in (*stopped, *went_on)} == {"none"}


@pytest.mark.guarantee("R-10")
@pytest.mark.parametrize(
    "fields",
    [
        {"running": 4, "state": "R", "cpu_ticks": lambda n: 100 * n},  # a loop in C that holds the GIL
        {"running": 4, "state": "S"},  # asleep in the middle of a call
        {"running": 4, "state": "D"},
        {"running": 0, "state": "R", "cpu_ticks": lambda n: 100 * n},  # spinning outside any call
        {"running": 0, "state": "S", "unread_bytes": 300},  # asleep, and not in its read: there is mail
    ],
)
def test_a_loop_that_does_not_turn_is_warned_of_once_and_then_ended(fields) -> None:
    seen = watch(Watchdog(), seconds(100, **fields))
    assert [(now, verdict.act) for now, verdict in seen if verdict.act != "none"] == [(110.0, "warn"), (130.0, "end")]
    assert seen[-1][1] == Verdict("stuck", 30.0, "end")
    assert seen[-1][1].health == "stuck for 30 s"
    assert {verdict.kind for now, verdict in seen if now < 110.0} <= {"ok", "busy"}


@pytest.mark.guarantee("R-10")
def test_a_single_turn_of_the_loop_begins_the_count_anew() -> None:
    seen = watch(Watchdog(), seconds(400, running=4, state="R", tick=lambda n: n // 29, cpu_ticks=lambda n: 100 * n))
    assert {verdict.act for _, verdict in seen} == {"none", "warn"}
    assert len(seen) == 400


@pytest.mark.guarantee("R-10")
def test_a_call_past_the_hosts_patience_ends_the_session() -> None:
    seen = watch(Watchdog(), seconds(100, running=4, state="R", cpu_ticks=lambda n: n, running_due=107.0))
    assert seen[-1] == (107.0, Verdict("overrun", 0.0, "end"))


@pytest.mark.parametrize("fields", [{"state": "T"}, {"state": "R", "running": 4, "cpu_ticks": lambda n: 90 * n}])
@pytest.mark.parametrize("gap_s", [6.0, 60.0, 86_400.0])
def test_a_gap_of_the_host_starts_every_clock_afresh(fields, gap_s: float) -> None:
    dog = Watchdog()
    before = watch(dog, seconds(9, **fields))
    after = watch(dog, seconds(9, start=108.0 + gap_s, **fields))
    assert {verdict.act for _, verdict in (*before, *after)} == {"none"}


def test_a_late_sample_is_no_gap() -> None:
    dog = Watchdog()
    stopped = [
        Sample(now=at, tick=1, running=0, last_started=0, state="T", cpu_ticks=1) for at in (0.0, 4.9, 9.8, 10.1)
    ]
    assert [dog.observe(sample).act for sample in stopped] == ["none", "none", "none", "end"]


def test_health_is_silent_about_what_is_well() -> None:
    assert Verdict("ok").health == Verdict("busy", 3.0).health == ""
    assert Verdict("stopped", 4.2).health == "stopped for 4 s"
