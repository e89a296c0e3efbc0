"""What an agent is to be told later: delayed signals, and cron jobs, which outlive the process.

It is *not* the reading of cron expressions (`agent/cron.py`). Rules: a job's next time comes from the wall clock, looked at
once a minute at the latest, so that a clock that is put forward or back is followed; a job that was due while nobody could
tell it comes once; one with the id of another takes its place only when it can be read; how its signal is taken does not
concern it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from procession.agent_proc.agent.cron import CronExpression, parse_cron
from procession.agent_proc.agent.directives import Cron
from procession.agent_proc.loop import Loop, Timer
from procession.agent_proc.state_budget import check_change
from procession.ipc.core.agent_keys import JOBS_KEY
from procession.ipc.core.errors import AgentError, InvalidRequest
from procession.ipc.core.state_ops import AnyOp, DeletePath, InvalidOp, PutEntry, Value, encode_ops

__all__ = ["JOBS_KEY", "Jobs"]

SCHEDULES_MAX: Final = 10_000
"""Delayed signals of one agent under way: as many as effects that wait."""
JOBS_MAX: Final = 256
"""Cron jobs of one agent: each is looked at once a minute."""
_LOOK_S: Final = 60.0
_FIELDS: Final = ("cron", "type", "data", "timezone")

Tell = Callable[[str, Value], None]


class _Job:
    """One cron job, and its timer."""

    def __init__(self, spec: Cron, expression: CronExpression, zone: Any) -> None:
        self.spec = spec
        self.expression = expression
        self.zone = zone
        self.due: datetime | None = None
        self.timer: Timer | None = None


class Jobs:
    """See the module's text. tell: gives the agent a signal of this type with these data."""

    def __init__(self, loop: Loop, tell: Tell) -> None:
        self._loop = loop
        self._tell = tell
        self._jobs: dict[str, _Job] = {}
        self.delayed = 0
        """Delayed signals under way."""

    # --- delayed signals ------------------------------------------------------------------------------------
    def later(self, delay_s: float, type_: str, data: Value) -> None:
        """Tell the agent in `delay_s` seconds. Raises AgentError, code too_many_schedules."""
        if self.delayed >= SCHEDULES_MAX:
            raise AgentError(f"{SCHEDULES_MAX} delayed signals are under way already", code="too_many_schedules")
        self.delayed += 1

        def due() -> None:
            self.delayed -= 1
            self._tell(type_, data)

        self._loop.after(delay_s, due)

    # --- cron jobs ------------------------------------------------------------------------------------------
    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all jobs."""
        return tuple(self._jobs)

    @property
    def manifest(self) -> dict[str, Value]:
        """All jobs as the journal keeps them."""
        return {job_id: {name: getattr(job.spec, name) for name in _FIELDS} for job_id, job in self._jobs.items()}

    def put(self, spec: Cron) -> AnyOp:
        """Begin a job, in the place of one with the same id; return the op that keeps it.

        Raises InvalidRequest (unknown_time_zone), AgentError (too_many_jobs, invalid_effect) or MessageTooLarge, and then the
        old one goes on.
        """
        if spec.job_id not in self._jobs and len(self._jobs) >= JOBS_MAX:
            raise AgentError(f"an agent has at most {JOBS_MAX} cron jobs", code="too_many_jobs")
        job = _Job(spec, parse_cron(spec.cron), zone_of(spec.timezone))
        op = PutEntry((JOBS_KEY,), spec.job_id, {name: getattr(spec, name) for name in _FIELDS})
        try:
            check_change(len(encode_ops((op,))))
        except InvalidOp as error:
            raise AgentError(f"the job {spec.job_id} cannot be kept: {error}", code="invalid_effect") from None
        self._end(spec.job_id)
        self._jobs[spec.job_id] = job
        self._arm(job)
        return op

    def cancel(self, id: str) -> AnyOp | None:
        """End a job; return the op that forgets it, None when there is none."""
        return DeletePath((JOBS_KEY, id)) if self._end(id) else None

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Begin the jobs that the journal kept; what cannot be read any more is left out."""
        for job_id, fields in kept.items():
            try:
                self.put(Cron(**{name: fields[name] for name in _FIELDS}, job_id=job_id))
            except (InvalidRequest, AgentError, KeyError, TypeError):
                continue

    def _end(self, id: str) -> bool:
        job = self._jobs.pop(id, None)
        if job is not None and job.timer is not None:
            job.timer.cancel()
        return job is not None

    def _arm(self, job: _Job) -> None:
        """Find out when it is next, and look again then, or in a minute."""
        at = datetime.now(job.zone)
        job.due = job.due or job.expression.next_after(at)
        if job.due is None:  # 30 February: it never comes
            return
        wait_s = (job.due.astimezone(UTC) - at.astimezone(UTC)).total_seconds()
        job.timer = self._loop.after(min(max(0.0, wait_s), _LOOK_S), lambda: self._look(job))

    def _look(self, job: _Job) -> None:
        """Tell the agent if it is time, and arm for the next one first: what comes of it is not the job's concern."""
        at = datetime.now(job.zone)
        assert job.due is not None, "an armed job has a time"
        is_due = at.astimezone(UTC) >= job.due.astimezone(UTC)
        back = job.expression.next_after(at)
        if is_due or (back is not None and back.astimezone(UTC) < job.due.astimezone(UTC)):
            job.due = None  # it came, or the clock was put back: from now on
        self._arm(job)
        if is_due:
            self._tell(job.spec.type, job.spec.data)


def zone_of(name: str) -> Any:
    """Return a time zone. Raises InvalidRequest, code unknown_time_zone."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(f"there is no time zone {name!r} here", code="unknown_time_zone") from None
