"""Cron jobs by a clock that a test turns: when they come, what a clock that jumps does, and that a job outlives a bad signal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from procession.agent_proc import agent_jobs
from procession.agent_proc.agent.directives import Cron
from procession.agent_proc.agent_jobs import JOBS_MAX, SCHEDULES_MAX, Jobs
from procession.ipc.core.errors import AgentError, InvalidRequest
from procession.ipc.core.state_ops import apply

BEGIN = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


class Timer:
    def __init__(self, at: datetime, call: Callable[[], object]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The wall clock and the loop's timers, turned by hand; told: what the agent was given, with the time."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.told: list[tuple[str, Any]] = []
        self._timers: list[Timer] = []

    def after(self, delay_s: float, call: Callable[[], object]) -> Timer:
        timer = Timer(self.now + timedelta(seconds=delay_s), call)
        self._timers.append(timer)
        return timer

    def tell(self, type_: str, data: Any) -> None:
        self.told.append((f"{self.now:%d %H:%M:%S}", data))

    def turn(self, **by: float) -> None:
        """Let time go by; what is due runs, in order."""
        until = self.now + timedelta(**by)
        while due := [one for one in self._timers if not one.cancelled and one.at <= until]:
            at = min(one.at for one in due)
            self.now = max(self.now, at)
            self._timers, now = [one for one in self._timers if one.at != at], [one for one in due if one.at == at]
            for timer in now:
                if not timer.cancelled:
                    timer.call()
        self.now = until

    def put(self, **by: float) -> None:
        """Put the wall clock forward or back; timers go on counting."""
        self.now += timedelta(**by)
        for timer in self._timers:
            timer.at += timedelta(**by)

    @property
    def times(self) -> list[str]:
        return [at for at, _ in self.told]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    class Turned(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return made.now.astimezone(tz)

    monkeypatch.setattr(agent_jobs, "datetime", Turned)
    return made


@pytest.fixture
def jobs(clock: Clock) -> Jobs:
    return Jobs(clock, clock.tell)  # type: ignore[arg-type]


def job(cron: str = "* * * * *", job_id: str = "a", data: Any = None, **more: Any) -> Cron:
    return Cron(cron, data=data, job_id=job_id, **more)


@pytest.mark.contract("2.2 Cron", "3 cron")
def test_a_job_comes_at_every_time_that_its_expression_names(clock: Clock, jobs: Jobs) -> None:
    jobs.put(job(data=1))
    jobs.put(job("*/2 * * * *", "b", data=2))
    clock.turn(minutes=3)
    assert clock.told == [("01 12:01:00", 1), ("01 12:02:00", 1), ("01 12:02:00", 2), ("01 12:03:00", 1)]


@pytest.mark.contract("2.2 Cron", "3 cron")
def test_a_job_is_of_its_time_zone(clock: Clock, jobs: Jobs) -> None:
    jobs.put(job("30 4 * * *", timezone="Asia/Tokyo"))
    clock.turn(days=1)
    assert clock.times == ["01 19:30:00"]


@pytest.mark.contract("2.2 Cron", "3 cron")
def test_a_job_of_the_same_id_takes_the_place_of_the_old_one_only_when_it_can_be(clock: Clock, jobs: Jobs) -> None:
    jobs.put(job(data="old"))
    with pytest.raises(InvalidRequest) as refused:
        jobs.put(job(data="wrong", timezone="Nowhere/Atall"))
    assert refused.value.code == "unknown_time_zone"
    clock.turn(minutes=1)
    jobs.put(job("*/10 * * * *", data="new"))
    clock.turn(minutes=10)
    assert clock.told == [("01 12:01:00", "old"), ("01 12:10:00", "new")]
    assert jobs.ids == ("a",)


@pytest.mark.contract("2.2 CronCancel", "3 cron")
def test_a_job_that_is_cancelled_comes_no_more_and_one_that_is_not_there_is_ignored(clock: Clock, jobs: Jobs) -> None:
    state = apply({}, [jobs.put(job())])
    op = jobs.cancel("a")
    assert op is not None
    assert apply(state, [op]) == {agent_jobs.JOBS_KEY: {}}
    assert jobs.cancel("a") is None
    clock.turn(minutes=5)
    assert clock.told == []


@pytest.mark.contract("3 cron")
def test_a_job_goes_on_whatever_becomes_of_its_signal(clock: Clock) -> None:
    came: list[datetime] = []

    def fail(type_: str, data: Any) -> None:
        came.append(clock.now)
        raise RuntimeError("a bug of whoever takes it")

    jobs = Jobs(clock, fail)  # type: ignore[arg-type]
    jobs.put(job())
    for _ in range(3):
        with pytest.raises(RuntimeError):
            clock.turn(minutes=1)
    assert len(came) == 3


@pytest.mark.contract("3 cron")
def test_what_was_due_while_nobody_could_tell_it_comes_once(clock: Clock, jobs: Jobs) -> None:
    jobs.put(job("0 * * * *"))
    clock.put(hours=5)  # suspended
    clock.turn(minutes=2)
    assert clock.times == ["01 17:01:30"]
    clock.turn(hours=1)
    assert clock.times[1:] == ["01 18:00:00"]


@pytest.mark.contract("3 cron")
def test_a_clock_that_is_put_back_is_followed(clock: Clock, jobs: Jobs) -> None:
    jobs.put(job("30 * * * *"))
    clock.put(hours=-3)
    clock.turn(minutes=31)
    assert clock.times == ["01 09:30:00"]


@pytest.mark.contract("3 cron durability")
def test_jobs_are_kept_as_data_and_what_cannot_be_read_is_left_out(clock: Clock, jobs: Jobs) -> None:
    state = apply({}, [jobs.put(job(data={"n": 1})), jobs.put(job("@daily", "b", timezone="Europe/Berlin"))])
    kept = state[agent_jobs.JOBS_KEY]
    assert kept == jobs.manifest
    again = Jobs(clock, clock.tell)  # type: ignore[arg-type]
    again.restore({**kept, "c": {"cron": "61 * * * *"}, "d": {**kept["a"], "timezone": "Nowhere/Atall"}, "e": 3})
    assert again.manifest == jobs.manifest


@pytest.mark.contract("3 cron", "3 Schedule / scheduled")
def test_jobs_and_delayed_signals_are_bounded(clock: Clock, jobs: Jobs) -> None:
    for number in range(JOBS_MAX):
        jobs.put(job("@yearly", str(number)))
    with pytest.raises(AgentError) as refused:
        jobs.put(job("@yearly", "one more"))
    assert refused.value.code == "too_many_jobs"
    jobs.put(job("@daily", "0"))  # in the place of another
    for _ in range(SCHEDULES_MAX):
        jobs.later(60, "a.b", None)
    with pytest.raises(AgentError) as refused:
        jobs.later(60, "a.b", None)
    assert refused.value.code == "too_many_schedules"
    clock.turn(minutes=1)
    assert (jobs.delayed, len(clock.told)) == (0, SCHEDULES_MAX)
