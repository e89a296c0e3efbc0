"""The faces against the table of operations: every row reachable, and the same verbs and parameters on both faces."""

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.fake_backend import FakeBackend, encode
from procession import (
    AsyncHost,
    AsyncProcess,
    AsyncSession,
    Host,
    Process,
    Sandbox,
    Session,
    SessionNotFound,
    ToolCrashed,
)
from procession.api import session as session_module
from procession.api import tool_plans
from procession.api.core import plans
from procession.api.link import Link
from procession.ipc.core.backend import Outcome, Request, Response
from procession.ipc.core.operations import OPERATIONS, ExecDone, Nothing, StartBody
from procession.ipc.core.records import ProcessInfo, RunReport, SessionStatus
from procession.ipc.core.values import encode_value

PAIRS = [(Host, AsyncHost), (Session, AsyncSession), (Process, AsyncProcess)]


def verbs_of(face: type) -> set[str]:
    return {name for name in dir(face) if not name.startswith("_")}


@pytest.mark.parametrize(("sync_face", "async_face"), PAIRS)
def test_no_verb_is_missing_from_one_face(sync_face: type, async_face: type) -> None:
    assert verbs_of(sync_face) == verbs_of(async_face)


def parameters(verb: Callable[..., object]) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(verb).parameters.values()]


def shared_verbs() -> Iterator[Any]:
    for sync_face, async_face in PAIRS:
        for name in sorted(verbs_of(sync_face)):
            if callable(getattr(sync_face, name)):
                yield pytest.param(sync_face, async_face, name, id=f"{sync_face.__name__}.{name}")


@pytest.mark.parametrize(("sync_face", "async_face", "name"), list(shared_verbs()))
def test_a_verb_has_the_same_parameters_on_both_faces(sync_face: type, async_face: type, name: str) -> None:
    assert parameters(getattr(sync_face, name)) == parameters(getattr(async_face, name))


@pytest.mark.parametrize(("sync_face", "async_face"), PAIRS)
def test_the_faces_are_made_alike(sync_face: type, async_face: type) -> None:
    assert parameters(sync_face.__init__) == parameters(async_face.__init__)  # type: ignore[misc]


STATUS = SessionStatus(id="i", name="n", phase="ready", incarnation=3, calls=1, uptime_s=12.41)
REF = {"id": "i", "name": "n"}
RECORD = {
    **REF, "project_path": "/p", "config": {}, "language": "go", "connection_status": "connected",
    "created_at": datetime(2025, 1, 1, tzinfo=UTC), "updated_at": datetime(2025, 1, 1, tzinfo=UTC),
}  # fmt: skip

#: operation -> how a user reaches it
REACHED_BY: dict[str, Callable[[Host, Session, Process], object]] = {
    "ping": lambda h, s, p: s.ping(),
    "echo": lambda h, s, p: s.echo(b"x"),
    "modules": lambda h, s, p: s.modules(),
    "run": lambda h, s, p: s.run(len, "abc"),
    "exec": lambda h, s, p: s.exec(["true"]),
    "run_code": lambda h, s, p: s.run_code("1"),
    "start": lambda h, s, p: s.start(["true"]),
    "interrupt": lambda h, s, p: s.interrupt(),
    "processes": lambda h, s, p: s.processes(),
    "process_wait": lambda h, s, p: p.wait(),
    "process_signal": lambda h, s, p: (p.interrupt(), p.terminate(), p.kill()),
    "process_write": lambda h, s, p: [f() for f in (lambda: p.write("x"), p.close_stdin)],
    "act": lambda h, s, p: s.clear_messages(),
    "ask": lambda h, s, p: s.query_state("x", None),
    "signal": lambda h, s, p: (s.call("a.b"), s.context),
    "await_result": lambda h, s, p: s.await_result("id"),
    "agent_status": lambda h, s, p: s.agent_status(),
    "tool": lambda h, s, p: s.call_tool("read_file", {"path": "a"}),
    "tools": lambda h, s, p: s.tools(),
    "permissions": lambda h, s, p: s.permissions(),
    "audit": lambda h, s, p: h.audit(),
    "connect": lambda h, s, p: s.connect(),
    "follow_agent_status": lambda h, s, p: s.follow_agent_status(),
    "debug_events": lambda h, s, p: s.debug_events(),
    "send_message": lambda h, s, p: s.send_message("hello"),
    "state": lambda h, s, p: s.committed_state(),
    "start_session": lambda h, s, p: h.start_session(sandbox=Sandbox.off()),
    "find_session": lambda h, s, p: h.session("n"),
    "list_sessions": lambda h, s, p: h.list_sessions(),
    "resume_session": lambda h, s, p: h.resume_session("n"),
    "export_session": lambda h, s, p: s.export(ARCHIVE, overwrite=True),
    "import_session": lambda h, s, p: h.import_session(ARCHIVE),
    "fork_session": lambda h, s, p: s.fork(),
    "remove_session": lambda h, s, p: h.remove_session("n"),
    "stop_session": lambda h, s, p: (s.stop(), h.stop_session("n")),
    "kill_session": lambda h, s, p: s.kill(),
    "hibernate_session": lambda h, s, p: s.hibernate(),
    "restart_session": lambda h, s, p: s.restart(),
    "status": lambda h, s, p: s.status(),
    "story": lambda h, s, p: s.story(),
    "last_report": lambda h, s, p: s.last_report(),
    "calls": lambda h, s, p: s.calls(),
    "cancel": lambda h, s, p: s.cancel("c1"),
    "logs": lambda h, s, p: (s.logs(), p.logs()),
    "events": lambda h, s, p: (s.events(), h.events()),
    "signals": lambda h, s, p: s.signals(),
    "children": lambda h, s, p: s.children(),
    "aside": lambda h, s, p: [f() for f in (s.set_aside, lambda: s.retry_signal("i"), lambda: s.drop_signal("i"))],
    "attach": lambda h, s, p: s.attach().__enter__(),
    "touch": lambda h, s, p: s.touch(),
    "statistics": lambda h, s, p: h.statistics(),
    "shutdown": lambda h, s, p: h.shutdown(),
    "restart_host": lambda h, s, p: h.restart_host(),
}


ARCHIVE = "a.procession"
"""In the test's own folder."""


#: What no user asks for, since the answer holds only while calls are kept back.
ASKED_BY_THE_HOST = {"quiet"}


def answers(request: Request) -> Outcome:
    """Answer any operation with the least that its result type takes."""
    least: dict[type, dict[str, object]] = {
        SessionStatus: msgspec.to_builtins(STATUS),
        ProcessInfo: {"id": "p1", "argv": ["true"], "pid": 2, "running": True, "started_s_ago": 0.0},
    }
    for name, body in (
        ("SessionRef", REF), ("ModuleList", {"modules": []}), ("ExecDone", {"exit_code": 0}), ("CancelDone", {"verdict": "x"}),
        ("RunDone", {"report": {}}), ("StoryDone", {"status": least[SessionStatus]}), ("Statistics", {"pid": 1, "uptime_s": 0}),
        ("AgentStatus", {"agent": "a", "status": "idle"}), ("ToolDone", {"report": {}}), ("Permissions", {"tier": "write"}),
    ):  # fmt: skip
        if request.op.result.__name__ == name:
            return Response(encode(body))
    answered = {"send_message": "hello", "debug_events": [], "tools": [], "connect": RECORD}.get(request.op.name)
    payload = None if answered is None else encode_value(answered)
    if payload is not None:
        return Response(encode({"report": {}}), payload)
    return Response(encode(least.get(request.op.result, {})))


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(answers)


@pytest.fixture
def host(backend: FakeBackend) -> Host:
    made = Host.__new__(Host)
    made._link = Link(backend, is_local=False, sandbox=Sandbox.off())
    return made


@pytest.fixture
def session(host: Host) -> Session:
    return Session(host._link, "i", "n")


def test_every_operation_of_the_table_is_reached_by_a_verb() -> None:
    assert set(REACHED_BY) | ASKED_BY_THE_HOST == set(OPERATIONS)


@pytest.mark.parametrize("name", REACHED_BY)
def test_a_verb_makes_its_row_s_request(
    name: str, host: Host, session: Session, backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ARCHIVE).touch()
    row = OPERATIONS[name]
    process = Process(session, ProcessInfo(id="p1", argv=("true",), pid=2, running=True, started_s_ago=0.0))
    REACHED_BY[name](host, session, process)
    for request in backend.requests:
        if name == "attach" and request.op.name == "touch":
            continue  # which says first whether there is such a session
        assert request.op is row
        assert isinstance(request.body, row.params)
        if row.timeout_s is not None:
            assert request.timeout_s is not None
            assert request.timeout_s >= row.timeout_s
        assert request.session in (
            {"", "i", "n"} if name == "events" else {""} if row.params is StartBody else {"", "i", "n"}
        )
    assert backend.requests


# --- handles --------------------------------------------------------------------------------------------------------


def test_handles_are_equal_by_id(host: Host) -> None:
    one, same, other = Session(host._link, "i", "n"), Session(host._link, "i", "other"), Session(host._link, "j", "n")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "i"


def test_repr_shows_the_last_known_state_and_asks_nobody_far_away(session: Session, backend: FakeBackend) -> None:
    assert repr(session) == "<Session n>"
    assert backend.requests == []
    session.status()
    assert repr(session) == "<Session n ready inc=3 calls=1 up=12.4s>"
    assert len(backend.requests) == 1


def test_repr_of_a_local_session_is_of_now_and_survives_its_end(host: Host, backend: FakeBackend) -> None:
    host._link.is_local = True
    session = Session(host._link, "i", "n")
    assert repr(session) == "<Session n ready inc=3 calls=1 up=12.4s>"
    backend.rule = lambda _: SessionNotFound("gone")
    assert repr(session) == "<Session n>"


def test_an_error_names_its_session(session: Session, backend: FakeBackend) -> None:
    backend.rule = lambda _: SessionNotFound("gone")
    with pytest.raises(SessionNotFound) as caught:
        session.ping()
    assert caught.value.session == "i"


def test_the_fast_path_of_echo_sends_what_it_is_given(session: Session, backend: FakeBackend) -> None:
    backend.rule = lambda request: Response(encode(Nothing()), request.payload)
    assert session.echo("ä") == "ä".encode()
    assert backend.requests[0].payload == "ä".encode()


def test_a_checked_command_that_failed_raises_with_its_output(session: Session, backend: FakeBackend) -> None:
    done = ExecDone(exit_code=-11, report=RunReport(signal="SIGSEGV", ended="signal"))
    backend.rule = lambda _: Response(encode(done), encode([b"out", b"line 1\nline 2\n"]), "c7")
    result = session.exec(["prog", "x"])
    assert (result.exit_code, result.stdout, result.ok) == (-11, b"out", False)
    with pytest.raises(ToolCrashed, match=r"'prog x' ended with SIGSEGV:\nline 1\nline 2$") as caught:
        session.exec(["prog", "x"], check=True)
    assert (caught.value.report, caught.value.call_id, caught.value.session) == (done.report, "c7", "i")
    assert caught.value.code == "command_failed"


def test_output_of_a_callback_that_raises_is_not_lost(session: Session, backend: FakeBackend) -> None:
    from procession import OutputChunk

    seen: list[bytes] = []

    def on_output(chunk: OutputChunk) -> None:
        seen.append(chunk.data)
        raise ZeroDivisionError

    def rule(request: Request) -> Outcome:
        assert request.on_item is not None
        for data in (b"1", b"2"):
            request.on_item(OutputChunk(stream="stdout", data=data))
        return Response(encode(ExecDone(exit_code=0)), encode([b"12", b""]))

    backend.rule = rule
    with pytest.raises(ZeroDivisionError):
        session.exec(["true"], on_output=on_output)
    assert seen == [b"1"]


def test_a_process_is_found_by_its_output_s_call() -> None:
    assert [session_module.call_of(process) for process in ("p12", "7", "p", "")] == [12, 7, None, None]


def test_an_answer_that_cannot_be_read_is_an_error_not_a_crash(session: Session, backend: FakeBackend) -> None:
    from procession import ToolResultInvalid

    backend.rule = lambda _: Response(b"\xc1")
    with pytest.raises(ToolResultInvalid):
        session.status()
    backend.rule = lambda _: Response(encode(ExecDone(exit_code=0)), b"\x91")
    with pytest.raises(ToolResultInvalid):
        session.exec(["true"])


def test_plans_are_one_builder_a_row() -> None:
    built = {
        "exec": "exec_command",
        "restart_session": "restart",
        "hibernate_session": "hibernate",
        "kill_session": "kill",
        "stop_session": "stop",
        "tool": "call_tool",
    }
    for name in REACHED_BY:
        where = tool_plans if name in ("tool", "tools", "permissions", "audit") else plans
        assert callable(getattr(where, built.get(name, name)))
