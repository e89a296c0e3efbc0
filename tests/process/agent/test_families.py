"""Families of agents with real processes: children, orphans, adoption, and signals from session to session."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.agents import send, state_of
from helpers.cli import procession
from helpers.hosts import SLACK, EventWatch, alive, median, pid_of, tree_below, zygote_pids
from helpers.proc import look_at
from helpers.waiting import wait_until
from procession import AsyncHost, Host, Limits, Sandbox, Session, SessionNotFound, SessionStatus
from procession.agent import (
    AdoptChild,
    Agent,
    AppendItems,
    CallAgent,
    Change,
    Emit,
    SpawnAgent,
    Stop,
    StopChild,
    ToChild,
    ToSession,
    action,
)
from procession.api.core import plans
from procession.host import families
from procession.host.core import family

pytestmark = pytest.mark.process

STARTED, EXIT = "procession.agent.child.started", "procession.agent.child.exit"
ERROR, ORPHANED = "procession.agent.error", "procession.agent.orphaned"


class MemberState(BaseModel):
    told: list[Any] = []
    number: int = 0


class Member(Agent[MemberState]):
    """Keeps what it is told, and does with others what it is asked to."""

    def _note(self, *what: Any) -> Change:
        return Change((AppendItems(("told",), (list(what),), keep_last=10_000),))

    @action(STARTED)
    def started(self, **data: Any) -> Change:
        return self._note(STARTED, data)

    @action(EXIT)
    def exited(self, **data: Any) -> Change:
        return self._note(EXIT, data)

    @action(ORPHANED)
    def orphaned(self, **data: Any) -> Change:
        return self._note(ORPHANED, data)

    @action(ERROR)
    def refused(self, **data: Any) -> Change:
        return self._note(ERROR, data)

    @action("member.hello")
    def hello(self, text: str) -> Change:
        return self._note("hello", text)

    @action("member.spawn")
    def spawn(self, tag: str, agent: str = "", **fields: Any) -> Change:
        return Change().asking(SpawnAgent(agent or f"{Member.__module__}:Member", tag, **fields))

    @action("member.adopt")
    def adopt(self, child: str, tag: str) -> Change:
        return Change().asking(AdoptChild(child, tag, {"from": "a test"}))

    @action("member.stop_child")
    def stop_child(self, tag: str, reason: str = "normal") -> Change:
        return Change().asking(StopChild(tag, reason))

    @action("member.leave")
    def leave(self, reason: str) -> Change:
        return Change().asking(Emit("member.hello", {"text": "goodbye"}, "parent"), Stop(reason))

    @action("member.tell")
    def tell(self, to: str, who: str = "", text: str = "", count: int = 0) -> Change:
        whom: Any = {"child": ToChild, "session": ToSession}[to](who) if who else to
        texts = [text] if not count else map(str, range(count))
        return Change().asking(*(Emit("member.hello", {"text": one}, whom) for one in texts))

    @action("member.announce")
    def announce(self, count: int = 1, text: str = "news") -> Change:
        return Change().asking(*(Emit("member.news", {"text": text, "at": at}, None, "here") for at in range(count)))

    @action("member.poison")
    def poison(self, to: str) -> Change:
        return Change().asking(
            Emit("member.die", {}, ToChild(to)), Emit("member.hello", {"text": "after"}, ToChild(to))
        )

    @action("member.poison_once")
    def poison_once(self, to: str) -> Change:
        emits = [Emit(f"member.{kind}", {"text": kind}, ToChild(to)) for kind in ("hello", "die_once", "hello")]
        return Change().asking(*emits)

    @action("member.die")
    def die(self) -> Change:
        os.kill(os.getpid(), signal.SIGKILL)
        return Change()

    @action("member.die_once")
    def die_once(self, text: str) -> Change:
        if not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._note("hello", text)

    @action("member.add")
    def add(self, by: int) -> Change:
        if by < 0:
            raise ValueError("only forwards")
        return Change.set(number=self.state.number + by).replying({"number": self.state.number + by})

    @action("member.ask")
    def ask(self, tag: str, by: int = 1, timeout_s: float = 5.0) -> Change:
        return Change().asking(
            CallAgent(ToChild(tag), "member.add", {"by": by}, "answered", timeout_s=timeout_s, meta={"m": tag})
        )

    @action()
    def answered(self, status: str, meta: Any, call: Any, result: Any = None, reason: Any = None) -> Change:
        return self._note("answer", {"status": status, "meta": meta, "result": result, "reason": reason})


Member.children = (Member,)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"], max_sessions=200) as opened:
        opened.remove_session(
            opened.start_session(agent=Member).id
        )  # its zygote is the fixture's, not the first test's
        yield opened


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Session]]:
    """Start members; they and all that came of them are gone afterwards."""

    def start(**settings: Any) -> Session:
        return host.start_session(agent=Member, **settings)

    yield start
    for one in host.list_sessions(all=True):
        with suppress(SessionNotFound):  # a child that goes with its parent, or on its own
            host.remove_session(one.id)


@pytest.fixture
def boss(start: Callable[..., Session]) -> Session:
    return start(name="boss")


def told(session: Session, kind: str) -> list[Any]:
    """Return what a member was told of one kind, oldest first: as its host knows it, whether it runs just now or not."""
    state = session._do(plans.state(session.id)) or {"told": []}
    return [what for name, what in state["told"] if name == kind]


def wait_told(session: Session, kind: str, count: int = 1) -> Any:
    """Wait until a member was told something so often; return what it was told last."""
    wait_until(lambda: len(told(session, kind)) >= count, f"{count} times {kind}", timeout_s=15)
    return told(session, kind)[count - 1]


def spawn(host: Host, parent: Session, tag: str, **fields: Any) -> Session:
    """Have a member start a child, and wait until it is there."""
    before = len(told(parent, STARTED))
    send(parent, "member.spawn", {"tag": tag, **fields})
    found: str = wait_told(parent, STARTED, before + 1)["session"]
    return host.session(found)


def crash(session: Session) -> None:
    """Kill a session's process and wait until it has another one."""
    before = session.status().incarnation
    os.kill(pid_of(session), signal.SIGKILL)
    wait_until(lambda: session.status().incarnation > before and session.status().phase == "ready", "it is back")


def wait_phase(session: Session, phase: str) -> SessionStatus:
    wait_until(lambda: session.status().phase == phase, f"{session} is {phase}", timeout_s=15)
    return session.status()


@pytest.mark.contract("2.2 SpawnAgent", "3 parent/child")
# --- children ---------------------------------------------------------------------------------------------------------
def test_a_child_is_a_session_of_its_own_and_its_parent_is_told(host: Host, start: Callable[..., Session]) -> None:
    boss = start(name="boss", limits=Limits(memory="300M"))
    child = spawn(host, boss, "helper", meta={"task": [1, 2]}, state={"number": 7})
    assert told(boss, STARTED) == [
        {"tag": "helper", "session": child.id, "name": "boss/helper", "incarnation": 1, "meta": {"task": [1, 2]}}
    ]
    assert [(one.tag, one.session, one.name, one.phase) for one in boss.children()] == [
        ("helper", child.id, "boss/helper", "ready")
    ]
    seen, parent = child.status(), boss.status()
    assert (seen.parent, seen.orphaned_from, parent.parent) == (boss.id, None, None)
    assert seen.pid != parent.pid
    assert seen.project != parent.project
    assert (seen.sandbox, seen.restart) == (parent.sandbox, "transient")
    assert state_of(child)["number"] == 7
    assert host._link.backend.registry.get(child.id).limits.memory == 300 << 20  # type: ignore[attr-defined]


def test_a_child_shares_its_parent_s_folder_when_that_is_shared_and_only_then(
    host: Host, start: Callable[..., Session], tmp_path: Path
) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    shared.mkdir()
    alone.mkdir()
    sharing = start(project=shared, exclusive=False)
    assert spawn(host, sharing, "a").status().project == str(shared)
    keeping = start(project=alone)
    child = spawn(host, keeping, "a")
    assert child.status().project not in (str(alone), str(shared))


@pytest.mark.contract("2.2 SpawnAgent")
def test_a_child_has_the_name_it_is_given_and_else_one_that_fits(host: Host, start: Callable[..., Session]) -> None:
    boss = start(name="b" * 50)
    assert spawn(host, boss, "a", name="Anna").name == "Anna"
    assert spawn(host, boss, "b").name == "…" + "b" * 47 + "/b"


@pytest.mark.contract("3 parent/child")
def test_a_tag_in_use_is_refused_and_the_child_that_has_it_stays(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    send(boss, "member.spawn", {"tag": "a"})
    refused = wait_told(boss, ERROR)
    assert (refused["code"], refused["context"]) == ("tag_in_use", "directive")
    assert ([one.session for one in boss.children()], told(boss, EXIT)) == ([child.id], [])


@pytest.mark.contract("2.2 SpawnAgent")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"agent": "no_such_module_anywhere:Thing"}, "no_such_module_anywhere"),
        ({"agent": "json:JSONDecoder"}, "JSONDecoder"),
        ({"state": {"number": "many"}}, "number"),
        ({"name": "n" * 51}, "at most 50 characters"),
    ],
)
def test_a_spawn_that_fails_is_an_exit_with_the_reason_and_leaves_nothing(
    host: Host, boss: Session, fields: dict[str, Any], reason: str
) -> None:
    send(boss, "member.spawn", {"tag": "a", "meta": {"m": 1}, **fields})
    exited = wait_told(boss, EXIT)
    assert (exited["tag"], exited["how"], exited["meta"]) == ("a", "start_failed", {"m": 1})
    assert reason in exited["reason"]
    wait_until(lambda: [one.id for one in host.list_sessions(all=True)] == [boss.id], "nothing is left of it")
    assert (boss.children(), told(boss, STARTED)) == ([], [])
    assert spawn(host, boss, "a").status().phase == "ready"


def test_a_family_has_bounds(host: Host, boss: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "CHILDREN_MAX", 2)
    monkeypatch.setattr(family, "GENERATIONS_MAX", 2)
    first = spawn(host, boss, "a")
    spawn(host, boss, "b")
    send(boss, "member.spawn", {"tag": "c"})
    assert wait_told(boss, ERROR)["code"] == "too_many_children"
    send(first, "member.spawn", {"tag": "a"})
    assert wait_told(first, ERROR)["code"] == "family_too_deep"


def test_the_host_has_no_room_for_a_child_and_says_so(start: Callable[..., Session]) -> None:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"], max_sessions=1) as small:
        boss = small.start_session(agent=Member)
        send(boss, "member.spawn", {"tag": "a"})
        exited = wait_told(boss, EXIT)
        assert (exited["how"], exited["session"]) == ("start_failed", None)
        assert "1 sessions" in exited["reason"]


@pytest.mark.contract("3 parent/child")
# --- crashes ----------------------------------------------------------------------------------------------------------
def test_a_child_that_crashes_comes_back_as_the_same_child(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    crash(child)
    again = wait_told(boss, STARTED, 2)
    assert (again["session"], again["incarnation"]) == (child.id, 2)
    send(child, "member.tell", {"to": "parent", "text": "here again"})
    assert wait_told(boss, "hello") == "here again"
    assert told(boss, EXIT) == []


@pytest.mark.contract("3 parent/child")
def test_a_parent_that_crashes_keeps_its_children(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    pid = pid_of(child)
    crash(boss)
    assert (pid_of(child), child.status().parent) == (pid, boss.id)
    assert [one.tag for one in boss.children()] == ["a"]
    send(child, "member.tell", {"to": "parent", "text": "still yours"})
    assert wait_told(boss, "hello") == "still yours"
    send(boss, "member.tell", {"to": "child", "who": "a", "text": "still mine"})
    assert wait_told(child, "hello") == "still mine"


@pytest.mark.contract("3 parent/child")
def test_a_child_that_is_not_restarted_is_gone(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a", restart="temporary")
    os.kill(pid_of(child), signal.SIGKILL)
    exited = wait_told(boss, EXIT)
    assert (exited["session"], exited["how"]) == (child.id, "failed")
    assert "SIGKILL" in exited["reason"]
    assert (boss.children(), child.status().parent) == ([], None)
    assert spawn(host, boss, "a").id != child.id


@pytest.mark.contract("3 parent/child")
@pytest.mark.parametrize(("verb", "how"), [("stop", "stopped"), ("kill", "killed"), ("remove", "stopped")])
def test_a_child_that_somebody_else_ends_is_gone_too(host: Host, boss: Session, verb: str, how: str) -> None:
    child = spawn(host, boss, "a")
    {"stop": child.stop, "kill": child.kill, "remove": lambda: host.remove_session(child.id)}[verb]()
    exited = wait_told(boss, EXIT)
    assert (exited["session"], exited["how"], boss.children()) == (child.id, how, [])


@pytest.mark.contract("2.2 StopChild", "3 stop child")
# --- stop means stopped -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("restart", ["transient", "permanent"])
def test_a_child_that_is_stopped_stays_stopped(host: Host, boss: Session, restart: str) -> None:
    child = spawn(host, boss, "a", restart=restart)
    send(boss, "member.stop_child", {"tag": "a", "reason": "enough of it"})
    exited = wait_told(boss, EXIT)
    assert (exited["how"], exited["reason"]) == ("stopped", "enough of it")
    seen = child.status()
    assert (seen.phase, seen.reason, seen.restarts, seen.incarnation) == ("stopped", "enough of it", 0, 1)
    assert boss.children() == []
    send(boss, "member.stop_child", {"tag": "a"})  # nobody has it: ignored
    send(boss, "member.tell", {"to": "child", "who": "a"})
    assert wait_told(boss, ERROR)["code"] == "child_not_found"


@pytest.mark.contract("3 stop child")
def test_a_child_that_is_stopped_while_it_starts_is_an_exit_and_leaves_nothing(host: Host, boss: Session) -> None:
    for _ in range(5):
        before = len(told(boss, EXIT))
        send(boss, "member.spawn", {"tag": "a"}, wait=False)
        send(boss, "member.stop_child", {"tag": "a", "reason": "on second thoughts"}, wait=False)
        exited = wait_told(boss, EXIT, before + 1)
        assert (exited["how"], exited["reason"]) == ("stopped", "on second thoughts")
        assert boss.children() == []


@pytest.mark.contract("2.2 Stop")
def test_an_agent_leaves_in_order_and_its_last_words_come_before_its_end(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a", restart="permanent")
    send(child, "member.leave", {"reason": "all done"})
    assert wait_told(boss, EXIT)["reason"] == "all done"
    assert [name for name, _ in state_of(boss)["told"]] == [STARTED, "hello", EXIT]
    seen = wait_phase(child, "stopped")
    assert (seen.reason, seen.restarts) == ("all done", 0)


def test_children_that_are_over_are_listed_up_to_a_number(
    host: Host, boss: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "ENDED_CHILDREN_KEPT", 2)
    children = []
    for number in range(4):
        children.append(spawn(host, boss, "a", restart="temporary"))
        if number % 2:
            send(boss, "member.stop_child", {"tag": "a"})
        else:
            os.kill(pid_of(children[-1]), signal.SIGKILL)
        wait_told(boss, EXIT, number + 1)
    wait_until(
        lambda: [one.id for one in host.list_sessions(all=True)] == [boss.id, *(one.id for one in children[2:])],
        "the last two are listed",
    )


# --- a parent that is gone --------------------------------------------------------------------------------------------
def end(host: Host, session: Session, verb: str) -> None:
    """End a session by a verb, or (crash) so that its policy gives it up."""
    match verb:
        case "stop":
            session.stop()
        case "kill":
            session.kill()
        case "remove":
            host.remove_session(session.id)
        case _:
            os.kill(pid_of(session), signal.SIGKILL)
            wait_phase(session, "failed")


VERBS = ["stop", "kill", "remove", "crash"]


@pytest.mark.contract("3 orphan rules")
@pytest.mark.parametrize("verb", VERBS)
def test_a_child_stops_with_its_parent_unless_told_otherwise(
    host: Host, start: Callable[..., Session], verb: str
) -> None:
    boss = start(restart="temporary" if verb == "crash" else "transient")
    child = spawn(host, boss, "a", restart="permanent")
    end(host, boss, verb)
    seen = wait_phase(child, "stopped") if verb == "crash" else child.status()
    assert (seen.phase, seen.parent, seen.orphaned_from, seen.restarts) == ("stopped", None, None, 0)
    assert seen.reason.startswith("parent_down: ")
    report = child.last_report()
    assert report is not None
    assert (report.how() == "exit code 0") == (verb in ("stop", "remove"))  # in the way its parent ended


@pytest.mark.contract("3 orphan rules")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("rule", ["continue", "emit_orphan"])
def test_a_child_goes_on_without_its_parent_and_remembers_it(
    host: Host, start: Callable[..., Session], rule: str, verb: str
) -> None:
    boss = start(restart="temporary" if verb == "crash" else "transient")
    child = spawn(host, boss, "a", on_parent_death=rule)
    pid = pid_of(child)
    end(host, boss, verb)
    wait_until(lambda: child.status().orphaned_from == boss.id, "it is an orphan")
    seen = child.status()
    assert (seen.phase, seen.pid, seen.parent) == ("ready", pid, None)
    if rule == "emit_orphan":
        orphaned = wait_told(child, ORPHANED)
        assert (orphaned["parent"], bool(orphaned["reason"])) == (boss.id, True)
    send(child, "member.tell", {"to": "parent", "text": "anybody there?"})
    send(child, "member.tell", {"to": "self", "text": "nobody"})
    assert wait_told(child, "hello") == "nobody"
    assert (told(child, ERROR), len(told(child, ORPHANED))) == ([], 1 if rule == "emit_orphan" else 0)


@pytest.mark.contract("3 parent/child")
def test_three_deep_are_all_gone_with_the_root_s_kill(host: Host, boss: Session) -> None:
    members = [boss]
    for tag in ("a", "b", "c"):
        members.append(spawn(host, members[-1], tag, restart="permanent"))
    beside = spawn(host, boss, "beside")
    below = tree_below(*zygote_pids(host))
    pids = {pid_of(one) for one in (*members, beside)}
    assert pids <= {seen.pid for seen in below}
    boss.kill()
    assert [one.status().phase for one in (*members, beside)] == ["down"] + ["stopped"] * 4
    wait_until(lambda: not alive(below), "every process is gone", timeout_s=5)
    assert all(look_at(pid) is None for pid in pids)
    assert [one.status().incarnation for one in members] == [1] * 4


def test_a_parent_that_comes_back_after_a_kill_begins_without_children(host: Host, boss: Session) -> None:
    spawn(host, boss, "a")
    boss.kill()
    assert boss.echo(b"good morning") == b"good morning"  # which wakes it
    assert (boss.children(), boss.status().phase) == ([], "ready")
    assert spawn(host, boss, "a").status().parent == boss.id


def test_a_host_that_closes_tells_nobody_and_leaves_nothing() -> None:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as closing:
        boss = closing.start_session(agent=Member)
        child = spawn(closing, boss, "a")
        spawn(closing, child, "b", on_parent_death="emit_orphan")
        below = tree_below(*zygote_pids(closing))
    assert alive(below) == []


@pytest.mark.contract("2.2 AdoptChild", "3 adoption")
# --- adoption ---------------------------------------------------------------------------------------------------------
def test_a_live_session_without_a_parent_is_adopted_and_is_a_child_like_any_other(
    host: Host, boss: Session, start: Callable[..., Session]
) -> None:
    other = start(name="other")
    send(boss, "member.adopt", {"child": "other", "tag": "mine"})
    adopted = wait_told(boss, STARTED)
    assert adopted == {
        "tag": "mine", "session": other.id, "name": "other", "incarnation": 1, "meta": {"from": "a test"},
    }  # fmt: skip
    assert other.status().parent == boss.id
    crash(other)
    assert wait_told(boss, STARTED, 2)["incarnation"] == 2
    boss.stop()
    assert wait_phase(other, "stopped").reason.startswith("parent_down: ")


@pytest.mark.contract("3 adoption")
def test_an_orphan_is_adopted_and_is_an_orphan_no_more(
    host: Host, boss: Session, start: Callable[..., Session]
) -> None:
    first = start()
    child = spawn(host, first, "a", on_parent_death="continue")
    first.stop()
    assert child.status().orphaned_from == first.id
    send(boss, "member.adopt", {"child": child.id, "tag": "a"})
    wait_told(boss, STARTED)
    seen = child.status()
    assert (seen.parent, seen.orphaned_from) == (boss.id, None)


@pytest.mark.contract("3 adoption")
@pytest.mark.parametrize(
    "code",
    ["tag_in_use", "child_not_found", "child_not_alive", "already_attached", "cannot_adopt_self", "adoption_cycle"],
)
def test_an_adoption_that_cannot_be_is_refused_by_name(
    host: Host, boss: Session, start: Callable[..., Session], code: str
) -> None:
    child, other = spawn(host, boss, "a"), start()
    who, whom = boss, other.id
    match code:
        case "child_not_found":
            whom = "nobody at all"
        case "child_not_alive":
            other.stop()
        case "already_attached":
            whom = child.id
        case "cannot_adopt_self":
            whom = boss.id
        case "adoption_cycle":
            who, whom = child, boss.id
    send(who, "member.adopt", {"child": whom, "tag": "a" if code == "tag_in_use" else "new"})
    assert wait_told(who, ERROR)["code"] == code
    assert (other.status().parent, boss.status().parent, child.status().parent) == (None, None, boss.id)


@pytest.mark.contract("2.2 Emit")
# --- signals from session to session ----------------------------------------------------------------------------------
def test_a_signal_reaches_whom_it_is_for(host: Host, boss: Session, start: Callable[..., Session]) -> None:
    a, b, other = spawn(host, boss, "a"), spawn(host, boss, "b"), start(name="other")
    send(boss, "member.tell", {"to": "children", "text": "both"})
    send(boss, "member.tell", {"to": "child", "who": "b", "text": "one"})
    send(a, "member.tell", {"to": "session", "who": "other", "text": "by name"})
    send(b, "member.tell", {"to": "session", "who": other.id, "text": "by id"})
    send(a, "member.tell", {"to": "parent", "text": "up"})
    assert (wait_told(a, "hello"), wait_told(b, "hello", 2), wait_told(boss, "hello")) == ("both", "one", "up")
    wait_told(other, "hello", 2)
    assert (told(b, "hello"), set(told(other, "hello"))) == (["both", "one"], {"by name", "by id"})


@pytest.mark.contract("2.2 Emit")
def test_many_signals_keep_their_order(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    send(boss, "member.tell", {"to": "child", "who": "a", "count": 200})
    wait_told(child, "hello", 200)
    assert told(child, "hello") == [str(number) for number in range(200)]


def test_whom_nobody_knows_is_told_to_the_sender(host: Host, boss: Session, start: Callable[..., Session]) -> None:
    stopped = start()
    stopped.stop()
    send(boss, "member.tell", {"to": "session", "who": "nobody"})
    assert wait_told(boss, ERROR)["code"] == "not_found"
    send(boss, "member.tell", {"to": "session", "who": stopped.id})
    assert wait_told(boss, ERROR, 2)["code"] == "stopped"
    assert stopped.status().phase == "stopped"


def test_a_signal_wakes_a_session_that_was_killed(boss: Session, start: Callable[..., Session]) -> None:
    other = start()
    other.kill()
    send(boss, "member.tell", {"to": "session", "who": other.id, "text": "good morning"})
    wait_phase(other, "ready")
    assert wait_told(other, "hello") == "good morning"


@pytest.mark.contract("3 cast")
def test_a_mailbox_that_is_full_is_told_and_what_was_taken_arrives(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    pid = pid_of(child)
    os.kill(pid, signal.SIGSTOP)
    send(boss, "member.tell", {"to": "child", "who": "a", "count": 300})
    refused = wait_told(boss, ERROR, 300 - 256)
    assert refused["code"] == "mailbox_full"
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: child.status().calls == 0, "it has taken them", timeout_s=15)
    assert (told(child, "hello"), len(told(boss, ERROR))) == ([str(number) for number in range(256)], 44)


def test_what_the_host_tells_is_not_lost_in_a_mailbox_that_is_full(host: Host, boss: Session) -> None:
    child, other = spawn(host, boss, "a"), spawn(host, boss, "b")
    pid = pid_of(boss)
    os.kill(pid, signal.SIGSTOP)
    send(child, "member.tell", {"to": "parent", "count": 256})
    send(child, "member.tell", {"to": "parent", "text": "one too many"})
    assert wait_told(child, ERROR)["code"] == "mailbox_full"
    other.kill()
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: boss.status().calls + boss.status().queued == 0, "it has taken all of it", timeout_s=15)
    assert wait_told(boss, EXIT)["session"] == other.id
    assert len(told(boss, "hello")) == 256


def test_a_flood_of_signals_is_slowed_and_loses_nothing_and_the_others_do_not_notice(
    boss: Session, start: Callable[..., Session]
) -> None:
    other = start()
    for _ in range(3):
        send(boss, "member.announce", {"count": 1_000})
    took = []
    while not (kept := boss.signals()) or kept[-1].number < 3_000:
        began = time.monotonic()
        other.echo(b"x")
        took.append(time.monotonic() - began)
    assert [one.number for one in kept] == list(range(2_001, 3_001))
    assert median(took) < 0.01 * SLACK


# --- at least once ----------------------------------------------------------------------------------------------------
def test_a_signal_that_a_process_died_with_is_given_to_the_next_in_its_place(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    send(boss, "member.poison_once", {"to": "a"})
    wait_told(child, "hello", 3)
    assert told(child, "hello") == ["hello", "die_once", "hello"]
    assert child.status().restarts == 1


def test_a_signal_that_was_running_at_two_deaths_is_set_aside_and_told(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    with EventWatch(host) as watch:
        send(boss, "member.poison", {"to": "a"})
        aside = watch.wait("session.signal_set_aside", child)
        assert aside.event.data["about"] == "signal"
        assert wait_told(child, "hello") == "after"
        assert (child.status().restarts, len(watch.of("session.signal_set_aside"))) == (2, 1)


def test_what_a_session_is_told_while_it_is_down_waits_for_it(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    pid = pid_of(child)
    os.kill(pid, signal.SIGSTOP)
    send(boss, "member.tell", {"to": "child", "who": "a", "count": 50})
    send(boss, "member.tell", {"to": "self", "text": "sent"})
    wait_told(boss, "hello")
    os.kill(pid, signal.SIGKILL)
    wait_told(child, "hello", 50)
    assert told(child, "hello") == [str(number) for number in range(50)]


@pytest.mark.contract("2.3 sources")
# --- subscribers ------------------------------------------------------------------------------------------------------
def test_signals_to_subscribers_are_numbered_kept_and_followed(boss: Session) -> None:
    assert boss.signals() == []
    send(boss, "member.announce", {"count": 3})
    wait_until(lambda: len(boss.signals()) == 3, "they are there")
    kept = boss.signals()
    assert [(one.number, one.data["at"], one.dropped) for one in kept] == [(1, 0, 0), (2, 1, 0), (3, 2, 0)]
    first = kept[0]
    assert (first.type, first.source, first.subject, first.session) == (
        "member.news", f"/procession/session/{boss.id}", "here", boss.id,
    )  # fmt: skip
    assert [one.number for one in boss.signals(since=2)] == [3]
    with boss.signals(follow=True, since=1) as resumed, boss.signals(follow=True) as fresh:
        send(boss, "member.announce")
        assert [next(resumed).number for _ in range(3)] == [2, 3, 4]
        assert next(fresh).number == 4
    crash(boss)
    send(boss, "member.announce")
    wait_until(lambda: [one.number for one in boss.signals(since=4)] == [5], "numbers go on")


def test_a_reader_who_was_away_is_told_what_it_lost(boss: Session) -> None:
    for _ in range(3):
        send(boss, "member.announce", {"count": 500})
    wait_until(lambda: boss.signals()[-1].number == 1_500, "all of them", timeout_s=15)
    kept = boss.signals(since=100)
    assert (len(kept), kept[0].number, kept[0].dropped) == (1_000, 501, 400)


def test_a_client_reads_signals_and_children_too(tmp_path: Path) -> None:
    with (
        Host(tmp_path / "host", sandbox=Sandbox.off(), preload=["pydantic"]) as served,
        Host.connect(tmp_path / "host") as client,
    ):
        boss = served.start_session(agent=Member)
        child = spawn(served, boss, "a")
        seen = client.session(boss.id)
        assert [(one.tag, one.session) for one in seen.children()] == [("a", child.id)]
        assert client.session(child.id).status().parent == boss.id
        with seen.signals(follow=True) as following:
            send(boss, "member.announce", {"text": "x" * 100_000})
            assert len(next(following).data["text"]) == 100_000
        assert [one.number for one in seen.signals()] == [1]
        assert asyncio.run(_look_in_a_loop(tmp_path / "host", boss.id)) == ([1], 1, ["a"])
        shown = [procession("inspect", one.id, "--data-dir", tmp_path / "host").out for one in (boss, child)]
        assert (child.id in shown[0], f"{boss.name}/a" in shown[0], boss.id in shown[1]) == (True, True, True)
        served.remove_session(boss.id)


async def _look_in_a_loop(data_dir: Path, boss: str) -> tuple[list[int], int, list[str]]:
    async with AsyncHost.connect(data_dir) as client:
        seen = await client.session(boss)
        async with seen.signals(follow=True, since=0) as following:
            first = await anext(following)
        return [one.number for one in await seen.signals()], first.number, [one.tag for one in await seen.children()]


# --- calls of one agent by another ------------------------------------------------------------------------------------
def test_an_agent_is_told_what_another_one_answered(host: Host, boss: Session) -> None:
    spawn(host, boss, "a", state={"number": 40})
    send(boss, "member.ask", {"tag": "a", "by": 2})
    assert wait_told(boss, "answer") == {"status": "ok", "meta": {"m": "a"}, "result": {"number": 42}, "reason": None}
    send(boss, "member.ask", {"tag": "a", "by": -1})
    failed = wait_told(boss, "answer", 2)
    assert (failed["status"], "only forwards" in failed["reason"]["message"]) == ("error", True)
    send(boss, "member.ask", {"tag": "nobody"})
    assert wait_told(boss, "answer", 3)["reason"]["code"] == "child_not_found"


def test_a_call_of_an_agent_that_does_not_answer_ends_at_its_deadline(host: Host, boss: Session) -> None:
    child = spawn(host, boss, "a")
    pid = pid_of(child)
    os.kill(pid, signal.SIGSTOP)
    send(boss, "member.ask", {"tag": "a", "timeout_s": 0.2})
    assert wait_told(boss, "answer")["status"] == "error"
    os.kill(pid, signal.SIGCONT)
