"""Long-lived commands: `start` begins one, others list it, wait for it, signal it and write to it; the session's end ends it.

Rules: `start` is answered when the command has really been executed; a wait that is given up leaves the process alone; the
last 64 that ended stay listed with their exit code and report. One that is to be kept running is started again by the policy
that sessions have, once everything that it had started is gone.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import partial
from typing import Final, assert_never

from procession.agent_proc.command import CommandOrder, run_command
from procession.agent_proc.context import Context
from procession.agent_proc.core.outcome import Facts, judge_command, not_started, report
from procession.agent_proc.core.worker_messages import NotRun
from procession.agent_proc.feeder import Feeder
from procession.agent_proc.guest import INTERRUPT, KILL, TERM, Guest
from procession.agent_proc.loop import Timer, monotonic
from procession.agent_proc.runs import QueuedCall, command_order, no_resources
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import (
    ErrorData,
    InvalidRequest,
    MailboxFull,
    ProcessionError,
    SessionLimitReached,
    cut,
    to_data,
)
from procession.ipc.core.file_names import shown
from procession.ipc.core.messages import Born, Call, Notice
from procession.ipc.core.operations import LaunchBody, Nothing, ProcessList, ProcessSignalBody, ProcessWriteBody
from procession.ipc.core.records import ProcessInfo, RunReport
from procession.ipc.core.restart_policy import (
    Exit,
    ExitKind,
    GiveUp,
    Leave,
    Restart,
    RestartHistory,
    RestartPolicy,
    RestartType,
    decide,
)

#: Commands one session may have running at once besides its runs; each holds seven descriptors and two processes.
PROCESSES_MAX: Final = 64
#: Ended ones that stay listed.
ENDED_KEPT: Final = 64
#: Input a command has not read yet; beyond it a write is refused, so that the session's memory stays bounded.
STDIN_BYTES_MAX: Final = 4 * MiB
_ORDERS: Final = {"interrupt": INTERRUPT, "terminate": TERM, "kill": KILL}


class StartCall(QueuedCall):
    """The call of `start`, until the command has been executed."""

    op = "start"

    def __init__(self, context: Context, call: Call) -> None:
        self.process: Process | None = None
        super().__init__(context, call)

    @property
    def is_live(self) -> bool:
        return self.process is not None

    def leave_queue(self) -> None:
        """It never queues."""

    def end(self, cause: str) -> None:
        assert self.process is not None
        assert cause in {"deadline", "cancelled", "shutdown"}
        self.process.guest.stop(cause)  # type: ignore[arg-type]

    def grant(self, stream: int, count: int) -> None:
        if self.process is not None:
            self.process.guest.output.grant(stream, count)


class WaitCall(QueuedCall):
    """A call that waits for the end of a process."""

    op = "process_wait"

    def __init__(self, context: Context, call: Call, process: Process) -> None:
        self.op = call.op
        self._process = process
        super().__init__(context, call)
        process.waiters.append(self)

    @property
    def is_live(self) -> bool:
        return True

    def leave_queue(self) -> None:
        """It never queues."""

    def end(self, cause: str) -> None:
        if self in self._process.waiters:
            self._process.waiters.remove(self)
        if cause == "deadline":
            text = f"{self.op}: {self._process.id} was still running after {self.timeout_s:g} s; it goes on"
            self.refuse(
                ErrorData(kind="CallTimedOut", message=text, code="timeout", ran="yes", elapsed_s=self.elapsed_s)
            )
        else:
            self.refuse(
                ErrorData(
                    kind="CallCancelled",
                    message=f"{self.op}: no longer waiting for {self._process.id}",
                    code="cancelled_in_session",
                    ran="maybe",
                    elapsed_s=self.elapsed_s,
                )
            )


class Process:
    """One long-lived command."""

    def __init__(
        self, processes: Processes, context: Context, order: CommandOrder, call: StartCall, restart: RestartType
    ) -> None:
        self._processes = processes
        self._call = call
        self._order = order
        self.id = f"p{call.seq}"  # a number no other process of the session ever has, over all its incarnations
        self.argv = tuple(map(shown, order.argv))
        self.seq = call.seq
        self.report: RunReport | None = None
        self.exit_code: int | None = None
        self.waiters: list[WaitCall] = []
        self._context = context
        self._policy = None if restart == "temporary" else RestartPolicy(type=restart)
        self._history = RestartHistory()
        self._again: Timer | None = None
        self.is_asked = False
        """Somebody ended it: it is not started again."""
        self._launch()

    def _launch(self) -> None:
        """Fork it. Raises ProcessionError or OSError; then there is none."""
        order = self._order
        guest = Guest(self._context, self.argv[0], order.limits, self._over)
        guest.on_born = self._born
        stdin_r, stdin_w = os.pipe2(os.O_CLOEXEC)
        try:
            guest.start(partial(run_command, order), stdin=stdin_r, runs_user_code=False)
        except BaseException:
            os.close(stdin_w)
            raise
        self.guest = guest
        self.stdin = Feeder(self._context.loop, stdin_w)
        guest.output.begin(self.seq, order.limits.output_bytes)
        guest.result.on_over = self._executed

    @property
    def is_running(self) -> bool:
        """Whether its tree is still there, or will be again."""
        return not self.guest.is_over or self._again is not None

    def info(self) -> ProcessInfo:
        """Return what is known of it now."""
        return ProcessInfo(
            id=self.id,
            argv=self.argv,
            pid=None if self.guest.is_over else self.guest.pid or None,
            running=self.is_running,
            started_s_ago=monotonic() - self.guest.started_at,
            restarts=self._history.restarts,
            exit_code=self.exit_code,
            report=self.report,
        )

    def _born(self, _record: Born) -> None:
        self._executed()

    def _executed(self) -> None:
        """Answer `start` once the command has been executed and its pid is known."""
        if self.guest.pid and self.guest.result.over and self.guest.result.message is None:
            self._call.answer(self.info())

    def _over(self) -> None:
        self.stdin.close()
        streamed = self.guest.output.finish()
        facts = self.guest.facts(self._call.timeout_s)
        self.report = report(facts)
        self.exit_code = facts.exit_code
        if self._call.is_answered and self._is_begun_again(facts):
            return
        never_ran = isinstance(facts.message, NotRun) and not self._call.is_answered
        self._processes.ended(self, forget=never_ran)
        if never_ran and isinstance(facts.message, NotRun):
            self._call.refuse(not_started(facts.message, facts.elapsed_s))
        elif not self._call.is_answered and (error := judge_command(facts, self.report)) is not None:
            self._call.refuse(error, streamed=streamed)
        else:
            self._call.answer(self.info(), streamed=streamed)  # does nothing when `start` was answered long ago
        self._tell_waiters()

    def _tell_waiters(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.answer(self.info(), streamed=True)

    # --- being kept running ---------------------------------------------------------------------------------
    def order(self, how: bytes) -> None:
        """Carry out what somebody asks of it; an end that is asked for is for good."""
        if how != INTERRUPT:
            self.is_asked = True
            if self._again is not None:
                self._again.cancel()
                self._give_up()
        self.guest.kill(how)

    def shutdown(self) -> None:
        """End it with its session."""
        self.order(TERM)
        self.guest.stop("shutdown")

    def _is_begun_again(self, facts: Facts) -> bool:
        """Decide about an end that nobody asked for; True when there will be another process."""
        if self._policy is None or self.is_asked or self._context.stopping:
            return False
        assert facts.timeout_s is None or facts.cause != "deadline", "it has none once it runs"
        kind = _kind_of(facts)
        how = Exit(kind, report(facts).how())
        self._history, decision = decide(self._policy, self._history, how, monotonic(), facts.elapsed_s, _no_jitter)
        match decision:
            case Restart(after_s=after_s):
                self._tell("process_restarting", f"{how}; again in {after_s:g} s")
                self._again = self._context.loop.after(after_s, self._launch_again)
                return True
            case GiveUp(reason=reason):
                self._tell("process_given_up", reason)
                return False
            case Leave():
                return False
            case _:
                assert_never(decision)

    def _launch_again(self) -> None:
        self._again = None
        try:
            self._launch()
        except (ProcessionError, OSError) as error:
            self._tell("process_given_up", f"it cannot be started again: {error}")
            self._give_up()

    def _give_up(self) -> None:
        self._again = None
        self._processes.ended(self, forget=False)
        self._tell_waiters()

    def _tell(self, kind: str, text: str) -> None:
        self._context.send(Notice(self._context.incarnation, kind, cut(f"{self.id} {self.argv[0]}: {text}", 300)))


def _no_jitter() -> float:
    """One command of one session: there is no herd to scatter."""
    return 0.0


def _kind_of(facts: Facts) -> ExitKind:
    if isinstance(facts.message, NotRun):
        return ExitKind.START_FAILED
    if facts.ended is not None and facts.ended.cause == "memory":
        return ExitKind.MEMORY
    code = facts.exit_code
    return (
        ExitKind.KEEPER_LOST
        if code is None
        else ExitKind.SIGNAL
        if code < 0
        else ExitKind.NONZERO
        if code
        else ExitKind.NORMAL
    )


class Processes:
    """All commands of the session that were started and not forgotten."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: OrderedDict[str, Process] = OrderedDict()

    def start(self, call: Call, body: LaunchBody) -> None:
        """Begin a command."""
        running = [process for process in self._known.values() if process.is_running]
        if len(running) >= PROCESSES_MAX:
            raise SessionLimitReached(
                f"{PROCESSES_MAX} processes are running in this session already", code="process_limit"
            )
        if call.payload is not None:
            raise InvalidRequest("start takes no input: write to the process instead", code="no_input")
        order = command_order(self._context, call, body)
        work = StartCall(self._context, call)
        self._context.page.mark_started(call.seq)
        try:
            work.process = Process(self, self._context, order, work, body.restart)
        except ProcessionError as error:
            work.refuse(to_data(error))
            return
        except OSError as error:
            work.refuse(no_resources(work.op, error))
            return
        self._known[work.process.id] = work.process

    def ended(self, process: Process, *, forget: bool) -> None:
        """Take note of an end, and forget the oldest ended ones."""
        if forget:
            self._known.pop(process.id, None)
            return
        over = [one.id for one in self._known.values() if not one.is_running]
        for name in over[:-ENDED_KEPT]:
            del self._known[name]

    def shutdown(self) -> None:
        """Begin to end all of them."""
        for process in list(self._known.values()):
            process.shutdown()

    def grant(self, seq: int, stream: int, count: int) -> None:
        """Take a grant for the output of the process that call `seq` started."""
        for process in self._known.values():
            if process.seq == seq and process.is_running:
                process.guest.output.grant(stream, count)

    @property
    def running(self) -> int:
        """How many run, or are to be started again."""
        return sum(process.is_running for process in self._known.values())

    def listing(self) -> ProcessList:
        """List them, the oldest first."""
        return ProcessList(processes=tuple(process.info() for process in self._known.values()))

    def _find(self, name: str) -> Process:
        process = self._known.get(name)
        if process is None:
            raise InvalidRequest(f"there is no process {name!r}", code="no_such_process")
        return process

    def wait(self, call: Call, name: str) -> None:
        """Answer when the process has ended."""
        process = self._find(name)
        if process.is_running:
            WaitCall(self._context, call, process)
        else:
            self._context.answer(call.seq, process.info(), streamed=True)  # its last output may still be in line

    def signal(self, call: Call, body: ProcessSignalBody) -> None:
        """Interrupt the command, or end its tree; the latter is answered when it has ended."""
        process = self._find(body.process)
        if process.is_running:
            process.order(_ORDERS[body.how])
            if body.how != "interrupt" and process.is_running:
                WaitCall(self._context, call, process)
                return
        self._context.answer(call.seq, process.info(), streamed=True)

    def write(self, call: Call, body: ProcessWriteBody) -> None:
        """Hand bytes to the command's standard input."""
        process = self._find(body.process)
        if not process.stdin.is_open:
            raise InvalidRequest(f"the input of {process.id} is closed", code="input_closed")
        data = self._context.read_payload(call.payload)
        if process.stdin.waiting + len(data) > STDIN_BYTES_MAX:
            raise MailboxFull(f"{process.id} has not read its input yet", code="input_full")
        process.stdin.feed(data, close=body.close)
        self._context.answer(call.seq, Nothing())
