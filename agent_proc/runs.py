"""One `run` or `exec`: queued, forked under its own keeper, ended at its deadline, answered once; and their queue.

    queued --slot free--> live --its tree is gone--> answered
      |                    '--deadline, cancel, shutdown: SIGTERM, grace, SIGKILL to the tree, then the same arrow
      '--deadline: ExpiredInQueue   cancel: not_sent   shutdown: SessionNotRunning

Rules: a call is answered exactly once, and a live one only after its tree is gone; deadlines count from receipt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from procession.agent_proc.command import CommandOrder, run_command
from procession.agent_proc.context import ArenaFull, Context
from procession.agent_proc.core.outcome import judge, judge_command, report
from procession.agent_proc.guest import Guest
from procession.agent_proc.loop import Timer, monotonic
from procession.agent_proc.worker import RunOrder, run_worker
from procession.ipc.core.errors import ErrorData, InvalidRequest, ProcessionError, to_data
from procession.ipc.core.file_names import from_bytes
from procession.ipc.core.limits import Limits, merge
from procession.ipc.core.messages import Arena, Call, Payload
from procession.ipc.core.operations import ExecBody, ExecDone, RunBody, RunDone

_pack_bytes: Final = msgspec.msgpack.Encoder().encode


class QueuedCall(ABC):
    """A call that waits for its turn; what runs, cells and waits have in common."""

    op = "run"

    def __init__(self, context: Context, call: Call) -> None:
        self.context = context
        self.seq = call.seq
        self.timeout_s = call.timeout_s
        self.received_at = monotonic()
        self.is_answered = False
        self._is_over = False  # it is only the answer that waits
        self._deadline: Timer | None = None
        if call.timeout_s is not None:
            self._deadline = context.loop.deadline(self.received_at + max(0.0, call.timeout_s), self.expire)
        context.calls[call.seq] = self

    @property
    @abstractmethod
    def is_live(self) -> bool:
        """Whether it was begun."""

    @abstractmethod
    def leave_queue(self) -> None:
        """Make sure that it is never begun."""

    @abstractmethod
    def end(self, cause: str) -> None:
        """End what was begun; the answer follows once it is over."""

    def grant(self, stream: int, count: int) -> None:  # noqa: B027 - most have no stream
        """Take a grant for one of its streams."""

    def expire(self) -> None:
        """Act on the deadline."""
        if self._is_over:
            return
        if self.is_live:
            self.end("deadline")
            return
        text = f"{self.op}: still queued in the session after {self.timeout_s:g} s; it was not started"
        self._give_up(ErrorData(kind="ExpiredInQueue", message=text, ran="no", elapsed_s=self.elapsed_s))

    def cancel(self) -> None:
        """Act on the caller's wish."""
        if self._is_over:
            return
        if self.is_live:
            self.end("cancelled")
            return
        self._give_up(not_sent(self.op))

    def shutdown(self) -> None:
        """Act on the end of the session."""
        if self._is_over:
            return
        if self.is_live:
            self.end("shutdown")
            return
        text = f"{self.op}: the session was stopped before this was started"
        self._give_up(ErrorData(kind="SessionNotRunning", message=text, ran="no"))

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was received."""
        return monotonic() - self.received_at

    def _give_up(self, error: ErrorData) -> None:
        self.leave_queue()
        self.refuse(error)

    def answer(self, body: msgspec.Struct, payload: bytes | Payload = None, *, streamed: bool = False) -> None:
        """Answer the call; bytes without room in the arena wait for some, and its deadline is over."""
        try:
            packed = self.context.pack_payload(payload) if isinstance(payload, bytes) else payload
        except ArenaFull:
            self._is_over = True
            self.context.on_arena_room.append(partial(self.answer, body, payload, streamed=streamed))
            return
        if not self._close():
            return
        self.context.answer(self.seq, body, packed, streamed=streamed)

    def refuse(self, error: ErrorData, *, streamed: bool = False) -> None:
        """Answer the call with an error."""
        if self._close():
            self.context.refuse(self.seq, error, streamed=streamed)

    def abandon(self) -> None:
        """Never answer: somebody else has."""
        self._close()

    def _close(self) -> bool:
        if self.is_answered:
            return False
        self.is_answered = True
        if self._deadline is not None:
            self._deadline.cancel()
        return True


def not_sent(op: str) -> ErrorData:
    """Return the answer to a call that was cancelled before it was begun."""
    return ErrorData(kind="CallCancelled", message=f"{op}: cancelled before it was started", code="not_sent", ran="no")


class Job(QueuedCall):
    """A `run` or an `exec`."""

    lossless = False

    def __init__(self, context: Context, call: Call, label: str, limits: Limits, queue: RunQueue) -> None:
        self.op = call.op
        self._queue = queue
        self.limits = merge(limits, context.limits)
        self.guest = Guest(context, label, self.limits, self._over)
        self._live = False
        super().__init__(context, call)

    @property
    def is_live(self) -> bool:
        return self._live

    def begin(self) -> None:
        """Fork it; a fork that is refused is its answer."""
        self.context.page.mark_started(self.seq)
        try:
            self.fork()
        except ProcessionError as error:
            self.refuse(to_data(error))
        except OSError as error:
            self.refuse(no_resources(self.op, error))
        else:
            self._live = True
            self.guest.output.begin(self.seq, self.limits.output_bytes, lossless=self.lossless)

    @abstractmethod
    def fork(self) -> None:
        """Start the guest."""

    @abstractmethod
    def conclude(self, *, streamed: bool) -> None:
        """Answer, now that the guest is over."""

    def leave_queue(self) -> None:
        self._queue.drop(self)

    def end(self, cause: str) -> None:
        assert cause in {"deadline", "cancelled", "shutdown"}
        self.guest.stop(cause)  # type: ignore[arg-type]

    def grant(self, stream: int, count: int) -> None:
        if self._live:
            self.guest.output.grant(stream, count)

    def _over(self) -> None:
        self._live = False
        self._queue.release(self)
        self.conclude(streamed=self.guest.output.finish())


class RunJob(Job):
    """A function, run in a worker of its own."""

    def __init__(self, context: Context, call: Call, body: RunBody, queue: RunQueue) -> None:
        self._order = RunOrder(
            call.payload,
            context.arena_in_fd if isinstance(call.payload, Arena) else -1,
            merge(body.limits, context.limits),
            body.lossy,
            context.booted.import_paths,
            context.booted.payload_bytes_max,
        )
        super().__init__(context, call, body.label or "run", body.limits, queue)

    def fork(self) -> None:
        order = self._order
        self.guest.start(partial(run_worker, order), keep=(order.arena_in_fd,) if order.arena_in_fd >= 0 else ())

    def conclude(self, *, streamed: bool) -> None:
        facts = self.guest.facts(self.timeout_s)
        run_report = report(facts)
        error = judge(facts, run_report)
        if error is not None:
            self.guest.result.discard()
            self.refuse(error, streamed=streamed)
            return
        self.answer(RunDone(report=run_report), self.guest.result.payload(), streamed=streamed)


class ExecJob(Job):
    """A command, run to its end."""

    def __init__(self, context: Context, call: Call, body: ExecBody, queue: RunQueue) -> None:
        self._order = command_order(context, call, body)
        super().__init__(context, call, body.argv[0], body.limits, queue)
        self.lossless = body.lossless

    def fork(self) -> None:
        order = self._order
        keep = (order.arena_in_fd,) if order.arena_in_fd >= 0 else ()
        self.guest.start(partial(run_command, order), keep=keep, runs_user_code=False)

    def conclude(self, *, streamed: bool) -> None:
        facts = self.guest.facts(self.timeout_s)
        run_report = report(facts)
        error = judge_command(facts, run_report)
        if error is not None:
            self.refuse(error, streamed=streamed)
            return
        out, err = self.guest.output.stdout.ring, self.guest.output.stderr.ring
        exit_code = facts.exit_code
        assert exit_code is not None
        body = ExecDone(exit_code=exit_code, stdout_dropped=out.dropped, stderr_dropped=err.dropped, report=run_report)
        self.answer(body, _pack_bytes([out.content(), err.content()]), streamed=streamed)


def command_order(context: Context, call: Call, body: ExecBody) -> CommandOrder:
    """Return what the child of a command needs. Raises ProcessionError for what no command can be."""
    if not body.argv or not body.argv[0] or (body.argv_bytes and not body.argv_bytes[0]):
        raise invalid("a command needs a name", "empty_command")
    argv = tuple(map(from_bytes, body.argv_bytes)) or body.argv
    if body.shell:
        argv = ("/bin/sh", "-c", *argv)
    cwd = from_bytes(body.cwd_bytes) if body.cwd_bytes else body.cwd
    env = {**context.env, **(body.env or {})}
    if any("\0" in text for text in (*argv, cwd or "", *env, *env.values())):
        raise invalid("a command, its folder and its environment hold no NUL bytes", "null_byte")
    if any("=" in name or not name for name in env):
        raise invalid("the name of an environment variable is not empty and holds no '='", "bad_variable")
    arena_in_fd = context.arena_in_fd if isinstance(call.payload, Arena) else -1
    return CommandOrder(argv, cwd, env, merge(body.limits, context.limits), call.payload, arena_in_fd)


def invalid(text: str, code: str) -> ProcessionError:
    """Return the error for a request that is refused as it is."""
    return InvalidRequest(text, code=code)


def no_resources(op: str, error: OSError) -> ErrorData:
    """Return the answer to a call for which the system had no process or descriptor left."""
    return ErrorData(
        kind="HostOverloaded",
        message=f"{op}: the system refused: {error.strerror or error}",
        code="resources",
        ran="no",
    )


class RunQueue:
    """Runs and commands: so many at once, the others in the order they came."""

    def __init__(self, changed: Callable[[int], None]) -> None:
        self.parallel_max = 1
        """How many may be live at once; the Boot says it."""
        self._waiting: deque[Job] = deque()
        self._live: set[Job] = set()
        self._changed = changed

    def add(self, job: Job) -> None:
        """Take a job, and begin it when there is a slot."""
        self._waiting.append(job)
        self._fill()

    def drop(self, job: Job) -> None:
        """Forget a job that waits."""
        self._waiting.remove(job)

    def release(self, job: Job) -> None:
        """Take the slot of a job that is over."""
        self._live.discard(job)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._live) < self.parallel_max:
            job = self._waiting.popleft()
            job.begin()
            if job.is_live:
                self._live.add(job)
        self._changed(len(self._live))
