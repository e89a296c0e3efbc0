"""Results that somebody may ask for later: of signals that were only taken in, and of an agent that is finished some day.

It is *not* where a result is made. Rules: a result is looked at, never taken, so any number may await it; it is kept for the
last `RESULTS_MAX` signals; who waits is answered once, at its deadline at the latest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from procession.agent_proc.agent.change import LATER
from procession.agent_proc.agent.completion import Completion, finished
from procession.agent_proc.agent.outcome import Answer, Done, Failed, Outcome
from procession.agent_proc.context import Context
from procession.agent_proc.loop import Timer, monotonic
from procession.ipc.core.agent_records import Finished, FinishedStatus
from procession.ipc.core.bounds import AWAIT_TIMEOUT_S, MAILBOX_COMMANDS_MAX, RESULT_NODES_MAX
from procession.ipc.core.errors import AgentError, ErrorData, MailboxFull, to_data
from procession.ipc.core.messages import Call
from procession.ipc.core.operations import AwaitDone
from procession.ipc.core.state_ops import Value
from procession.ipc.core.values import UnsupportedValue, encode_value

RESULTS_MAX: Final = 1_000
"""Results kept of signals that were cast: whoever asks does so soon."""
RESULT_FRESH_S: Final = AWAIT_TIMEOUT_S
"""How soon: a process with a result that is no older is not given back. Whoever asks has this patience for one to come, too."""


class _Waiter:
    """A call that waits. It is a Work of the context: cancelled, shut down and abandoned like any other."""

    def __init__(self, results: Results, call: Call, id: str) -> None:
        self.id = id
        self.seq = call.seq
        self._timeout_s = call.timeout_s
        self._results = results
        self.timer: Timer | None = None

    def _over(self) -> None:
        self._results.drop(self)
        if self.timer is not None:
            self.timer.cancel()

    def give(self, answer: Answer, status: FinishedStatus) -> None:
        """Answer it."""
        self._over()
        context = self._results.context
        if isinstance(answer, Failed):
            context.refuse(self.seq, to_data(answer.error))
            return
        try:
            data = encode_value(answer.value, nodes_max=RESULT_NODES_MAX)
        except UnsupportedValue as error:
            context.refuse(self.seq, to_data(AgentError(f"a result that cannot be sent: {error}")))
            return
        context.answer(self.seq, AwaitDone(status=status), context.pack_payload(data))

    def refuse(self, error: ErrorData) -> None:
        self._over()
        self._results.context.refuse(self.seq, error)

    def cancel(self) -> None:
        self.refuse(ErrorData(kind="CallCancelled", message="await: cancelled", code="cancelled_in_session", ran="no"))

    def shutdown(self) -> None:
        self.refuse(ErrorData(kind="SessionNotRunning", message="await: the session was stopped", ran="no"))

    def expire(self) -> None:
        what = f"signal {self.id} had no result" if self.id else "the agent was not finished"
        self.refuse(
            ErrorData(
                kind="CallTimedOut",
                message=f"{what} after {self._timeout_s:.3g} s; {self._results.standing()}",
                code="await_timeout",
                ran="no",
                hint="a result that comes later can still be awaited",
            )
        )

    def grant(self, stream: int, count: int) -> None:
        pass

    def abandon(self) -> None:
        self._over()


class Results:
    """See the module's text."""

    def __init__(self, context: Context, standing: Callable[[], str]) -> None:
        self.context = context
        self.standing = standing
        """Says in words how the agent is doing, for who waited for nothing."""
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._put_at = -RESULT_FRESH_S

    @property
    def is_fresh(self) -> bool:
        """Whether there is a result that nobody has waited for yet, and somebody still may."""
        return monotonic() - self._put_at < RESULT_FRESH_S

    @property
    def waits_for_completion(self) -> bool:
        """Whether somebody awaits the agent itself."""
        return "" in self._waiters

    def finished(self, state: Mapping[str, Value], where: Completion) -> Finished | None:
        """Return how the agent finished, None while it has not."""
        return finished(state, where)

    def wait(self, call: Call, id: str, state: Mapping[str, Value], where: Completion) -> None:
        """Answer a call once there is a result. Raises MailboxFull when too many wait."""
        if id in self._kept:
            _Waiter(self, call, id).give(self._kept[id], "completed")
            return
        done = finished(state, where) if not id else None
        if done is not None:
            _give_finished(_Waiter(self, call, id), done)
            return
        if sum(map(len, self._waiters.values())) >= MAILBOX_COMMANDS_MAX:
            raise MailboxFull(f"{MAILBOX_COMMANDS_MAX} calls await results of this agent already")
        waiter = _Waiter(self, call, id)
        self._waiters.setdefault(id, []).append(waiter)
        self.context.calls[call.seq] = waiter
        if call.timeout_s is not None:
            waiter.timer = self.context.loop.after(call.timeout_s, partial(waiter.expire))

    def drop(self, waiter: _Waiter) -> None:
        """Forget somebody who waits."""
        waiting = self._waiters.get(waiter.id, [])
        if waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._waiters[waiter.id]

    def comes_later(self, outcome: Outcome) -> bool:
        """Say whether the agent has yet to answer, by a Reply."""
        answer = outcome.answer
        return isinstance(answer, Done) and answer.value is LATER

    def of_signal(self, id: str, outcome: Outcome, *, is_ours: bool = False) -> None:
        """Keep what came of a signal, unless the agent has yet to answer it. is_ours: no caller gave it."""
        if not self.comes_later(outcome):
            self.put(id, outcome.answer, is_ours=is_ours)

    def put(self, id: str, answer: Answer, *, is_ours: bool = False) -> None:
        """Keep a result and answer all who await it. is_ours: nobody is about to."""
        self._kept[id] = answer
        self._kept.move_to_end(id)
        if len(self._kept) > RESULTS_MAX:
            self._kept.popitem(last=False)
        waiting = list(self._waiters.get(id, ()))
        if not waiting and not is_ours:
            self._put_at = monotonic()
        for waiter in waiting:
            waiter.give(answer, "completed")

    def state_changed(self, state: Mapping[str, Value], where: Completion) -> None:
        """Look whether the agent is finished now, and answer all who await that."""
        done = finished(state, where)
        if done is not None:
            for waiter in list(self._waiters.get("", ())):
                _give_finished(waiter, done)


def _give_finished(waiter: _Waiter, done: Finished) -> None:
    waiter.give(Done(done.value), done.status)
