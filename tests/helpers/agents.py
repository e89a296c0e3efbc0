"""Agents for tests of the agent server, and the few lines that talk to one by its rows of the operations table."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from pydantic import BaseModel

from procession import Session
from procession.agent import (
    Agent,
    CallAgent,
    Change,
    Cron,
    CronCancel,
    Emit,
    MaxErrors,
    Reply,
    RunInstruction,
    Schedule,
    Stop,
    StopOnError,
    ToSession,
    action,
)
from procession.api.core import plans
from procession.ipc.core.agent_records import AgentStatus
from procession.ipc.core.operations import AwaitBody, DebugBody, SendBody
from procession.ipc.core.values import encode_value


class CounterState(BaseModel):
    count: int = 0
    notes: list[str] = []
    status: str = "working"
    last_answer: Any = None
    error: Any = None
    asker: str = ""


class Counter(Agent[CounterState]):
    """Counts, fails, schedules and finishes on request."""

    queue_max = 300

    @action("counter.increment")
    def increment(self, by: int = 1) -> Change:
        count = self.state.count + by
        return Change.set(count=count).replying(count)

    @action("counter.note")
    def note(self, text: str) -> Change:
        return Change.set(notes=[*self.state.notes, text])

    @action("counter.fail")
    def fail(self, text: str = "no") -> Change:
        raise ValueError(text)

    @action("counter.leave")
    def leave(self) -> Change:
        raise SystemExit(3)

    @action("counter.spoil")
    def spoil(self) -> Change:
        self.state.notes.append("in place")
        return Change.set(count=99)

    @action("counter.finish")
    def finish(self, failed: bool = False) -> Change:
        if failed:
            return Change.set(status="failed", error="it broke")
        return Change.set(status="completed", last_answer=self.state.count)

    @action("counter.emit")
    def emit(self, to: str = "self", count: int = 1, by: int = 1) -> Change:
        return Change().asking(*[Emit("counter.increment", {"by": by}, to)] * count)  # type: ignore[arg-type]

    @action("counter.for_ever")
    def for_ever(self) -> Change:
        return Change().asking(Emit("counter.for_ever", None, "self"))

    @action("counter.later")
    def later(self, ms: int, by: int = 1) -> Change:
        return Change().asking(Schedule(ms, "counter.increment", {"by": by}))

    @action("counter.cron")
    def cron(self, cron: str = "* * * * *", job: str = "job", timezone: str = "UTC") -> Change:
        return Change().asking(Cron(cron, "counter.increment", {"by": 1}, job, timezone))

    @action("counter.cron_cancel")
    def cron_cancel(self, job: str = "job") -> Change:
        return Change().asking(CronCancel(job))

    @action("counter.step")
    def step(self, by: int) -> Change:
        return Change().asking(RunInstruction("increment", {"by": by}, "stepped", {"by": by}))

    @action()
    def stepped(self, status: str, instruction: dict[str, Any], meta: dict[str, Any], result: Any = None) -> Change:
        return Change.set(notes=[*self.state.notes, f"{status} {result} {meta['by']} {instruction['action']}"])

    @action("counter.ask")
    def ask(self) -> Change:
        assert self.signal is not None
        return Change.set(asker=self.signal.id).later()

    @action("counter.tell")
    def tell(self, value: Any) -> Change:
        return Change().asking(Reply(self.state.asker, value))

    @action("counter.stop")
    def stop(self, reason: str = "done here") -> Change:
        return Change().asking(Stop(reason))

    @action("counter.spin")
    def spin(self) -> Change:
        while True:
            pass


class Strict(Counter):
    error_policy = StopOnError()


class Patient(Counter):
    error_policy = MaxErrors(3)


class Ticking(Counter):
    schedules = (
        Schedule(20, "counter.increment", {"by": 1000}),
        Cron("0 0 1 1 *", "counter.increment", job_id="yearly"),
    )


def act(session: Session, name: str, timeout_s: float = 5.0, /, **parameters: object) -> Any:
    return session._do(plans.act(session.id, name, parameters, timeout_s))


def send(
    session: Session, kind: str, data: Any = None, *, wait: bool = True, timeout_s: float = 5.0, **fields: Any
) -> Any:
    """Give the session's agent a signal; with `wait` return what came of it, else its id."""
    signal = {"id": str(uuid.uuid4()), "source": "/tests", "type": kind, "data": data, **fields}
    answer = session._do(plans.signal(session.id, encode_value(signal), kind, wait=wait, timeout_s=timeout_s))
    return answer if wait else signal["id"]


def state_of(session: Session) -> dict[str, Any]:
    """Return the agent's state, which has to be the host's copy of it too, unless it changes just now."""
    before: dict[str, Any] = session._do(plans.ask(session.id, "get_state", {}))
    hosts = session._do(plans.state(session.id))
    after: dict[str, Any] = session._do(plans.ask(session.id, "get_state", {}))
    assert before != after or hosts == after
    return after


def result_of(session: Session, signal_id: str = "", *, timeout_s: float = 5.0) -> Any:
    request = plans._request("await_result", session.id, AwaitBody(id=signal_id), timeout_s)
    return session._do(plans.Plan(request, plans._value))


def status_of(session: Session) -> AgentStatus:
    request = plans._request("agent_status", session.id)
    return session._do(plans.Plan(request, lambda response: msgspec.msgpack.decode(response.body, type=AgentStatus)))


def debug_events(session: Session, *, keep: int | None = None, limit: int | None = None) -> Any:
    request = plans._request("debug_events", session.id, DebugBody(keep=keep, limit=limit))
    return session._do(plans.Plan(request, plans._value))


class CallerState(BaseModel):
    asker: str = ""
    answers: list[dict[str, Any]] = []


class Caller(Agent[CallerState]):
    """Asks other agents, on request, and answers with what they answered."""

    @action("caller.ask")
    def ask(self, of: str, path: list[str], timeout_s: float = 5.0) -> Change:
        """Ask session `of`, which asks the next of `path`, and so on; the last one answers with its moment's id."""
        assert self.signal is not None
        data = {"of": path[0], "path": path[1:], "timeout_s": timeout_s} if path else None
        kind = "caller.ask" if path else "caller.answer"
        call = CallAgent(ToSession(of), kind, data, "answered", timeout_s, {"asker": self.signal.id})
        return Change().asking(call).later()

    @action("caller.answer")
    def answer(self) -> Change:
        return Change().replying("the end")

    @action("caller.refuse")
    def refuse(self) -> Change:
        raise ValueError("not me")

    @action("caller.never")
    def never(self) -> Change:
        return Change().later()

    @action("caller.ask_for")
    def ask_for(self, of: str, kind: str, timeout_s: float = 5.0) -> Change:
        assert self.signal is not None
        call = CallAgent(ToSession(of), kind, None, "answered", timeout_s, {"asker": self.signal.id})
        return Change().asking(call).later()

    @action()
    def answered(
        self, status: str, call: dict[str, Any], meta: dict[str, Any], result: Any = None, reason: Any = None
    ) -> Change:
        told = {"status": status, "result": result, "reason": reason, "to": call["to"]}
        return Change.set(answers=[*self.state.answers, told]).asking(Reply(meta["asker"], result or told))


# --- responders: of a code session ------------------------------------------------------------------------------------
def say(session: Session, text: str, *, timeout_s: float = 5.0, pieces: list[str] | None = None) -> Any:
    """Send a message and return its answer; `pieces` gets what was streamed of it."""
    request = plans._request("send_message", session.id, SendBody(text=text), timeout_s)
    if pieces is not None:
        request.on_item = lambda chunk: pieces.append(chunk.text) if chunk.stream == "stdout" else None  # type: ignore[union-attr]
    return session._do(plans.Plan(request, plans._value))


def conversation(session: Session) -> list[tuple[str, str]]:
    """Return who said what; nothing is being said, and the host has the same."""
    state = state_of(session)
    assert state["is_streaming"] is False
    return [(message["role"], message["content"]) for message in state["messages"]]
