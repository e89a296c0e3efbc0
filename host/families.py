"""Families of agents, and signals between sessions: what a session asks the host to do with others, done one message a line.

    Deliver CallAgent ──▶ the mailbox of another session, or the ring of the sender's subscribers
    Spawn Adopt StopChild Leave ──▶ the family (core/family.py) decides ──▶ sessions are started, ended, told

It is *not* where anything about a family is decided, and it never decodes what a session says: a signal, a child's meta and
an answer are bytes, spliced in behind everything else so that bytes that are none spoil only the signal they are in.
Rules: the reactor's thread only, but for `family`, a value; what cannot be done is told to whoever asked for it, as
procession.agent.error, and only an event when that one is gone; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from procession.host import clock, registry
from procession.host.core.family import (
    Action,
    End,
    Exited,
    Family,
    How,
    Orphaned,
    Started,
    Tie,
    child_name,
    orphan_rule,
)
from procession.host.core.journal_entries import PutNote
from procession.ipc.core.backend import Outcome, Request, Response
from procession.ipc.core.bounds import STOP_GRACE_S, TIMEOUT_S_MAX
from procession.ipc.core.errors import (
    InvalidRequest,
    MailboxFull,
    MessageTooLarge,
    OutcomeUnknown,
    ProcessionError,
    SessionDied,
    SessionNotFound,
    cut,
)
from procession.ipc.core.messages import Adopt, AskTool, CallAgent, Deliver, Effect, Leave, Spawn, StopChild
from procession.ipc.core.operations import OPERATIONS, ChildList, SignalBody, StartBody, ToolBody
from procession.ipc.core.records import ChildInfo

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

ENDED_CHILDREN_KEPT: Final = 32
"""Of a host: sessions that were started as children and are over are listed, with their data, until so many came after."""
_TEXT_CHARS_MAX: Final = 2_000
_SOURCE: Final = "/procession/host"
_SIGNAL, _TOOL = OPERATIONS["signal"], OPERATIONS["tool"]
_NIL: Final = b"\xc0"
_HOW: Final[dict[str, How]] = {"stopped": "stopped", "down": "killed", "failed": "failed"}
"""A phase in which a session is at rest, and so gone for its family."""
_encode = msgspec.msgpack.Encoder().encode

Scalar = str | int | None
NOTE: Final = "families"
"""Under which it is kept whose child is whose."""


class _KeptTie(msgspec.Struct, array_like=True, frozen=True):
    parent: str
    tag: str
    child: str
    meta: bytes
    rule: str


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    ties: tuple[_KeptTie, ...]
    spawned: tuple[str, ...]


_read_ties = msgspec.msgpack.Decoder(_Kept).decode


class Families:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self.family = Family()
        self._engine = engine
        self._starting: set[str] = set()
        self._spawned: set[str] = set()
        self._asleep: set[str] = set()
        """Who was put to sleep, and has not been up since."""
        self._ended: dict[str, None] = {}
        self._ending: dict[str, int] = {}
        """How many children are being ended because this session is gone."""
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._kept = b""

    # --- over restarts of the host --------------------------------------------------------------------------
    def restore(self, data: bytes | None) -> None:
        """Take up whose child is whose from a former host; ties to sessions that are not there any more are gone."""
        if data is None:
            return
        kept = _read_ties(data)
        known = self._engine.registry.get
        for tie in kept.ties:
            if known(tie.parent) is not None and known(tie.child) is not None:
                self.family = self.family.join(Tie(tie.parent, tie.tag, tie.child, tie.meta, orphan_rule(tie.rule)))
        self._spawned = {one for one in kept.spawned if known(one) is not None}
        self._kept = data

    def save(self) -> None:
        """Keep whose child is whose, when that is new."""
        journal = self._engine.journal
        if journal is None:
            return
        ties = tuple(
            _KeptTie(tie.parent, tie.tag, tie.child, tie.meta, tie.on_parent_death) for tie in self.family.ties.values()
        )
        data = _encode(_Kept(ties, tuple(sorted(self._spawned))))
        if data != self._kept:
            self._kept = data
            journal.submit([PutNote(NOTE, data)], "memory", None)

    # --- looking (any thread) -------------------------------------------------------------------------------
    def children(self, session: str) -> ChildList:
        """List a session's children."""
        found: list[ChildInfo] = []
        for tie in self.family.children_of(session):
            child = self._engine.registry.get(tie.child)
            if child is not None:
                found.append(ChildInfo(tag=tie.tag, session=child.id, name=child.name, phase=child.phase))
        return ChildList(children=tuple(found))

    # --- what happens to sessions ---------------------------------------------------------------------------
    def moved(self, actor: SessionActor, phase: str) -> None:
        """A session is in another phase: tell its family what that means for it."""
        if self._engine.closed:
            return
        if phase == "ready":
            if actor.id in self._asleep:  # it was never gone
                self._asleep.discard(actor.id)
            else:
                self._do(self.family.ready(actor.id, actor.incarnation))
        elif phase == "hibernated":
            self._asleep.add(actor.id)
        elif phase in _HOW and actor.id not in self._starting:
            self._gone(actor, _HOW[phase], actor.why_at_rest)
            if actor.id in self._spawned and phase != "down":
                self._keep_ended(actor.id)
            self.save()

    def _gone(self, actor: SessionActor, how: How, reason: str) -> None:
        self.family, actions = self.family.gone(actor.id, how, cut(reason, _TEXT_CHARS_MAX))
        self._do(actions)

    def after(self, session: str, then: Callable[[], None]) -> None:
        """Call `then` once every session is over that is being ended because this one is."""
        if self._ending.get(session):
            self._waiting.setdefault(session, []).append(then)
        else:
            then()

    def forget(self, session: str) -> None:
        """A session is off the list."""
        self.family = self.family.forgotten(session)
        self._spawned.discard(session)
        self._asleep.discard(session)
        self._ended.pop(session, None)
        self.save()

    def _keep_ended(self, session: str) -> None:
        """List a child that is over, and let go of the one that has been longest."""
        self._ended.pop(session, None)
        self._ended[session] = None
        while len(self._ended) > ENDED_CHILDREN_KEPT:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._spawned.discard(oldest)
            old = self._engine.registry.get(oldest)
            if old is not None and old.phase in ("stopped", "failed"):  # else somebody resumed it
                self._engine.operations.remove(old, _nothing)

    # --- what the family decides ----------------------------------------------------------------------------
    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Started(tie, incarnation):
                    self._tell(tie.parent, "child.started", tie, incarnation=incarnation)
                case Exited(tie, how, reason):
                    self._tell(tie.parent, "child.exit", tie, reason=reason, how=how)
                case Orphaned(tie, reason):
                    data: dict[str, Scalar] = {"parent": tie.parent, "reason": reason}
                    self._post_own(tie.child, "orphaned", data)
                case End(tie, reason, gently):
                    self._end(tie, cut(f"parent_down: {reason}", _TEXT_CHARS_MAX), STOP_GRACE_S if gently else 0.0)
                case _:
                    assert_never(action)

    def _tell(self, parent: str, what: str, tie: Tie, **more: Scalar) -> None:
        child = self._engine.registry.get(tie.child)
        data: dict[str, Scalar] = {"tag": tie.tag, "session": tie.child, "name": "" if child is None else child.name}
        self._post_own(parent, what, data | more, ("meta", tie.meta))

    def _end(self, tie: Tie, reason: str, grace_s: float) -> None:
        child = self._engine.registry.get(tie.child)
        if child is None:
            return
        self._ending[tie.parent] = self._ending.get(tie.parent, 0) + 1

        def over(_: object) -> None:
            left = self._ending.pop(tie.parent) - 1
            if left:
                self._ending[tie.parent] = left
                return
            for then in self._waiting.pop(tie.parent, ()):
                then()

        self._engine.operations.end(child, grace_s, over, reason)

    # --- what a session asks for ----------------------------------------------------------------------------
    def take(self, actor: SessionActor, effect: Effect) -> None:
        """Carry out what a session's agent asked for; what cannot be is told to it."""
        if self._engine.closed:
            return
        try:
            match effect:
                case Deliver(to="subscribers", signal=signal):
                    actor.signals.add(signal)
                case Deliver(to="status", signal=status):
                    actor.statuses.add(status)
                case Deliver(to=to, who=who, signal=signal):
                    for target in self._targets(actor, to, who):
                        self._post(target, signal, partial(self._complain, actor))
                case CallAgent():
                    self._call(actor, effect)
                case AskTool():
                    self._run_tool(actor, effect)
                case Spawn():
                    self._spawn(actor, effect)
                case Adopt():
                    self._adopt(actor, effect)
                case StopChild(tag=tag, reason=reason):
                    tie = self.family.child(actor.id, tag)
                    child = None if tie is None else self._engine.registry.get(tie.child)
                    if child is not None:
                        self._engine.operations.end(child, STOP_GRACE_S, _ignore, cut(reason, _TEXT_CHARS_MAX))
                case Leave(reason=reason):
                    self._engine.operations.end(actor, STOP_GRACE_S, _ignore, cut(reason, _TEXT_CHARS_MAX))
                case _:
                    assert_never(effect)
        except ProcessionError as error:
            self._complain(actor, error)

    def _targets(self, actor: SessionActor, to: str, who: str) -> list[SessionActor]:
        """Find who is meant. Raises SessionNotFound, InvalidRequest (child_not_found, ambiguous_name, invalid_target)."""
        match to:
            case "parent":
                parent = self.family.parent_of(actor.id)
                found = [] if parent is None else [parent]
            case "children":
                found = [tie.child for tie in self.family.children_of(actor.id)]
            case "child":
                tie = self.family.child(actor.id, who)
                if tie is None:
                    raise InvalidRequest(f"this session has no child {who[:80]!r}", code="child_not_found")
                found = [tie.child]
            case "session":
                found = [self._engine.registry.find(who, within=actor.spec.partition).id]
            case _:
                raise InvalidRequest(f"nobody is meant by {to[:80]!r}", code="invalid_target")
        return [self._engine.registry.find(one) for one in found]

    def _spawn(self, actor: SessionActor, spawn: Spawn) -> None:
        """Start a child: with the parent's sandbox, limits and ways to import, in a folder of its own.

        In the parent's folder only if that was started to share it: an exclusive folder is one session's, and a child is another.
        """
        self._check_can_have_children(actor)
        rule = orphan_rule(spawn.on_parent_death)
        self.family.check(actor.id, spawn.tag)
        parent = actor.spec
        name = spawn.name or child_name(actor.name, spawn.tag)
        spec = StartBody(
            project=None if parent.exclusive else parent.project,
            exclusive=parent.exclusive,
            name=name,
            sandbox=parent.sandbox,
            limits=parent.limits,
            restart=spawn.restart,  # type: ignore[arg-type]
            import_paths=parent.import_paths,
            preload=parent.preload,
            parallel_runs=parent.parallel_runs,
            partition=parent.partition,
            agent=spawn.agent,
            agent_code=spawn.agent_code,
            state=spawn.state,
        )

        def start() -> None:
            self._check_can_have_children(actor)
            self.family.check(actor.id, spawn.tag)  # once more: there may have been a wait for a slot
            child = self._engine.operations.make(spec)
            self.family = self.family.join(Tie(actor.id, spawn.tag, child.id, spawn.meta, rule))
            self._spawned.add(child.id)
            self._starting.add(child.id)
            self.save()
            child.start(partial(self._started, child))

        def refused(error: ProcessionError) -> None:
            data: dict[str, Scalar] = {"tag": spawn.tag, "session": None, "name": name}
            why: dict[str, Scalar] = {"reason": cut(error.message, _TEXT_CHARS_MAX), "how": "start_failed"}
            self._post_own(actor.id, "child.exit", data | why, ("meta", spawn.meta))

        self._engine.slots.have(start, refused, but_not=actor.id)

    def _started(self, child: SessionActor, error: ProcessionError | None) -> None:
        """A child is there, or will never be: then nothing is left of it."""
        self._starting.discard(child.id)
        if error is None:
            return
        if error.code == "stopped":  # it was asked to end before it was there
            self._gone(child, "stopped", child.why_at_rest)
        else:
            self._gone(child, "start_failed", error.message)
        self._engine.operations.remove(child, _nothing)

    def _adopt(self, actor: SessionActor, adopt: Adopt) -> None:
        self._check_can_have_children(actor)
        try:
            child = self._engine.registry.find(adopt.child, within=actor.spec.partition)
        except SessionNotFound as error:
            raise InvalidRequest(error.message, code="child_not_found") from None
        tie = Tie(actor.id, adopt.tag, child.id, adopt.meta)
        self.family, actions = self.family.adopt(tie, is_alive=not child.is_ending, incarnation=child.incarnation)
        self.save()
        self._do(actions)

    @staticmethod
    def _check_can_have_children(actor: SessionActor) -> None:
        if actor.is_ending:
            raise InvalidRequest("a session that ends has no children", code="parent_not_alive")

    # --- calls of one agent by another ----------------------------------------------------------------------
    def _call(self, actor: SessionActor, call: CallAgent) -> None:
        answer = partial(self._call_is_over, actor, call.call_id)
        try:
            found = self._targets(actor, call.to, call.who)
            if len(found) != 1:
                raise InvalidRequest("this session has no parent", code="no_parent")
            if not 0 < call.timeout_s <= TIMEOUT_S_MAX:
                raise InvalidRequest("a call takes more than 0 seconds, and has a bound", code="invalid_timeout")
        except ProcessionError as error:
            answer(error)
            return
        request = Request(_SIGNAL, found[0].id, SignalBody(), call.signal, call.timeout_s, chain=call.chain)
        found[0].calls.submit(request, answer)

    def _call_is_over(self, actor: SessionActor, call_id: str, outcome: Outcome) -> None:
        """Tell the caller (any thread)."""
        self._engine.reactor.call_soon(partial(self._answer_call, actor, call_id, outcome))

    def _answer_call(self, actor: SessionActor, call_id: str, outcome: Outcome) -> None:
        data: dict[str, Scalar] = {"call_id": call_id}
        if isinstance(outcome, Response):
            raw = ("result", outcome.payload or _NIL)
        else:
            raw = ("reason", _encode({"code": outcome.code, "message": cut(outcome.message, _TEXT_CHARS_MAX)}))

        def unread(error: ProcessionError) -> None:
            if isinstance(outcome, Response) and isinstance(error, InvalidRequest | MessageTooLarge):
                self._call_is_over(actor, call_id, error)  # an answer that is none, or too much of one
            else:
                self.lost(actor, "call.answered", error)

        self._post(actor, _signal("agent.call.answered", data, raw), unread, wait=True, wakes=actor.is_asleep)

    # --- tools that an agent asks for -----------------------------------------------------------------------
    def _run_tool(self, actor: SessionActor, ask: AskTool) -> None:
        """Have a tool run in the session that asks for it, if it may; the outcome reaches its agent, whatever it is."""
        answer = partial(self._tool_is_over, actor, ask, clock.monotonic())
        if not 0 < ask.timeout_s <= TIMEOUT_S_MAX:
            answer(InvalidRequest("a tool takes more than 0 seconds, and has a bound", code="invalid_timeout"))
            return
        body = ToolBody(name=ask.tool, call_id=ask.call_id, by_model=True)
        self._engine.submit(Request(_TOOL, actor.id, body, ask.arguments, ask.timeout_s), answer)

    def _tool_is_over(self, actor: SessionActor, ask: AskTool, began: float, outcome: Outcome) -> None:
        """Tell the agent (any thread)."""
        self._engine.reactor.call_soon(partial(self._answer_tool, actor, ask, began, outcome))

    def _answer_tool(self, actor: SessionActor, ask: AskTool, began: float, outcome: Outcome) -> None:
        elapsed_ms = round((clock.monotonic() - began) * 1000)
        data: dict[str, Scalar] = {"call_id": ask.call_id, "tool_name": ask.tool, "duration_ms": elapsed_ms}
        if isinstance(outcome, Response):
            what, raw = "tool.result", ("result", outcome.payload or _NIL)
        else:
            code = "tool_outcome_unknown" if isinstance(outcome, OutcomeUnknown) else outcome.code
            message = cut(outcome.message, _TEXT_CHARS_MAX)
            what, raw = "tool.error", ("reason", _encode({"code": code, "message": message, "ran": outcome.ran}))

        def unread(error: ProcessionError) -> None:
            if isinstance(outcome, Response) and isinstance(error, InvalidRequest | MessageTooLarge):
                self._tool_is_over(actor, ask, began, error)  # a result that is none, or too much of one
            else:
                self.lost(actor, what, error)

        self._post(actor, _signal(what, data, raw), unread, wait=True, wakes=actor.is_asleep)

    # --- giving signals to sessions -------------------------------------------------------------------------
    def _post_own(
        self,
        session: str,
        what: str,
        data: dict[str, Scalar],
        raw: tuple[str, bytes] | None = None,
        *,
        wait: bool = True,
    ) -> None:
        """Give a session a signal that the host makes. wait: beside what its mailbox holds, for there are never many."""
        target = self._engine.registry.get(session)
        if target is not None and not target.is_ending:
            self._post(target, _signal(f"agent.{what}", data, raw), partial(self.lost, target, what), wait=wait)

    def _post(
        self,
        target: SessionActor,
        signal: bytes,
        failed: Callable[[ProcessionError], None],
        *,
        wait: bool = False,
        wakes: bool = True,
    ) -> None:
        """Give a session a signal, at least once: one that it dies with is given to its next process, once more.

        wakes: start a process for it; what a session that was killed had asked for waits until somebody else does.
        """

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, SessionDied):
                self._engine.reactor.call_soon(partial(self._set_aside, target, signal, outcome))
            elif isinstance(outcome, ProcessionError):  # told in its turn: this may be any thread
                self._engine.reactor.call_soon(partial(failed, outcome))

        target.calls.submit(
            Request(_SIGNAL, target.id, SignalBody(wait=False), signal, None, wait=wait, wakes=wakes), done
        )

    def _set_aside(self, target: SessionActor, signal: bytes, error: ProcessionError) -> None:
        if not self._engine.closed:
            target.casts.set_aside(registry.new_id(), "signal", signal, error)

    def _complain(self, sender: SessionActor, error: ProcessionError) -> None:
        """Tell a session that what its agent asked for was not done; an event, when it cannot be told."""
        if self._engine.closed:
            return
        code = "mailbox_full" if isinstance(error, MailboxFull) else error.code
        if sender.is_ending:
            self.lost(sender, "error", error)
            return
        message = cut(error.message, _TEXT_CHARS_MAX)
        self._post_own(sender.id, "error", {"code": code, "message": message, "context": "directive"}, wait=False)

    def lost(self, target: SessionActor, what: str, error: ProcessionError) -> None:
        """Tell that a signal reached nobody who could take it; it is over."""
        if not self._engine.closed:
            self._engine.events.emit(
                "session.signal_lost",
                target.id,
                target.incarnation,
                about=what,
                code=error.code,
                text=error.message[:500],
            )


def _signal(what: str, data: dict[str, Scalar], raw: tuple[str, bytes] | None = None) -> bytes:
    """Return a signal of the host's, encoded. raw: what a session said, still encoded; the last of it all, on purpose."""
    told: dict[str, object] = dict(data)
    if raw is not None:
        told[raw[0]] = msgspec.Raw(raw[1] or _NIL)
    return _encode(
        {
            "id": registry.new_id(),
            "source": _SOURCE,
            "type": f"procession.{what}",
            "time": datetime.fromtimestamp(clock.wall(), UTC),
            "data": told,
        }
    )


def _nothing() -> None:
    """Nobody waits for it."""


def _ignore(_: object) -> None:
    """Nobody waits for it."""
