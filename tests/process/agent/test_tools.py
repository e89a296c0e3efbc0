"""A session's tools, through real processes: built-in ones, a program's own, how each ends, and what is kept of it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pytest
from pydantic import BaseModel, Field

from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import (
    AsyncHost,
    Host,
    InvalidRequest,
    Limits,
    Sandbox,
    Session,
    SessionDied,
    ToolCrashed,
    ToolOutOfMemory,
    ToolRaised,
    ToolResultInvalid,
    ToolTimedOut,
    tool,
)
from procession.agent import Agent
from procession.agent_proc.tool_life import TEXT_CHARS_MAX
from procession.agent_proc.tool_worker import CONTENT_CHARS_MAX

pytestmark = pytest.mark.process


class Weather(BaseModel):
    city: str
    degrees: float


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Trip:
    """Its annotations are texts, which name what no other process has."""

    seen: list[Weather]


class Leg(NamedTuple):
    weather: Weather


class CounterState(BaseModel):
    n: int = 0


class Counter(Agent[CounterState]): ...


@tool
def weather(city: str, unit: Literal["C", "F"] = "C") -> Weather:
    """Tell the weather of a city."""
    print("looking out of the window")
    return Weather(city=city, degrees=20.5 if unit == "C" else 68.9)


@tool
def move(by: Annotated[int, Field(ge=0)], at: Point) -> Point:
    return Point(at.x + by, at.y)


@tool
def look_back(trip: Trip, leg: Leg) -> Trip:
    return Trip([*trip.seen, leg.weather])


@tool
async def later(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


@tool
def hang(seconds: float = 60.0) -> None:
    select.select([], [], [], seconds)


@tool
def leave_behind(marker: str) -> int:
    """Leave a process that would outlive its worker, in a session of its own."""
    return subprocess.Popen(["sleep", "600"], env={"MARK": marker}, start_new_session=True).pid


@tool
def crash() -> None:
    ctypes.string_at(0)


@tool
def raise_this(text: str) -> None:
    raise LookupError(text)


@tool
def eat() -> int:
    return len(bytearray(512 << 20))


@tool
def unsendable() -> object:
    return object()


@tool
def secret() -> str:
    return f"key sk-{'a1' * 16} here"


@tool
def long_text(count: int) -> str:
    return "x" * count


@tool
def leave() -> None:
    raise SystemExit(3)


OWN: list[Callable[..., object]] = [
    weather,
    move,
    look_back,
    later,
    hang,
    leave_behind,
    crash,
    raise_this,
    eat,
    unsendable,
    secret,
    long_text,
    leave,
]


@pytest.fixture(scope="module")
def tool_host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), tools=OWN) as opened:
        opened.remove_session(opened.start_session().id)
        yield opened


@pytest.fixture
def session(tool_host: Host) -> Iterator[Session]:
    """A code session with tools of our own; what it answers at the end is what its host has too."""
    made = tool_host.start_session()
    yield made
    assert made.get_state() == made.committed_state()
    tool_host.remove_session(made.id)


def project_of(session: Session) -> Path:
    return Path(session.get_session().project_path)


def refused(session: Session, name: str, **args: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        session.call_tool(name, args)
    assert caught.value.ran == "no"
    return caught.value


# --- every built-in tool once for real ------------------------------------------------------------------------------
@pytest.mark.contract("1.10 read_file")
@pytest.mark.contract("1.10 write_file")
def test_a_file_is_written_read_and_edited_in_its_order(session: Session) -> None:
    made = session.call_tool("write_file", {"path": "src/a.py", "content": "x = 1\ny = 2\n"})
    assert (made["created"], (project_of(session) / "src/a.py").read_text()) == (True, "x = 1\ny = 2\n")
    assert session.call_tool("read_file", {"path": "src/a.py"}).splitlines() == ["     1→x = 1", "     2→y = 2"]
    session.call_tool("edit_file", {"path": "src/a.py", "old_string": "x = 1", "new_string": "x = 3"})
    edits = [{"old_string": "x = 3", "new_string": "x = 4"}, {"old_string": "y = 2", "new_string": "y = 5"}]
    session.call_tool("multi_edit_file", {"path": "src/a.py", "edits": edits})
    assert (project_of(session) / "src/a.py").read_text() == "x = 4\ny = 5\n"
    assert session.files.was_read("src/a.py")
    assert list(session.get_state()["file_writes"]) == ["src/a.py"]


@pytest.mark.contract("1.3 file_was_read?")
def test_a_file_that_was_not_read_is_not_written_over(session: Session) -> None:
    (project_of(session) / "there.txt").write_text("old")
    assert refused(session, "write_file", path="there.txt", content="new").code == "read_before_write_required"
    assert (
        refused(session, "edit_file", path="there.txt", old_string="o", new_string="n").code
        == "read_before_write_required"
    )
    session.call_tool("read_file", {"path": "there.txt"})
    session.call_tool("write_file", {"path": "there.txt", "content": "new"})
    assert (project_of(session) / "there.txt").read_text() == "new"


def test_what_was_read_is_known_after_the_process_died(session: Session) -> None:
    (project_of(session) / "there.txt").write_text("old")
    session.call_tool("read_file", {"path": "there.txt"})
    session.kill()
    session.call_tool("write_file", {"path": "there.txt", "content": "new"})
    assert (project_of(session) / "there.txt").read_text() == "new"


@pytest.mark.contract("1.10 list_dir")
def test_folders_are_listed_and_searched(session: Session) -> None:
    for name, text in (("b.py", "import os\n"), ("sub/c.py", "import sys\n"), ("notes.txt", "import nothing\n")):
        session.call_tool("write_file", {"path": name, "content": text})
    assert session.call_tool("list_directory")["entries"] == ["b.py", "notes.txt", "sub/"]
    assert session.call_tool("glob", {"pattern": "**/*.py"})["paths"] == ["b.py", "sub/c.py"]
    found = session.call_tool("grep", {"pattern": "import (os|sys)", "include": "*.py"})
    assert "b.py:1:import os" in str(found)
    assert "notes.txt" not in str(found)


def test_a_command_runs_in_the_project_and_its_exit_code_is_its_result(session: Session) -> None:
    done = session.call_tool("exec", {"command": "pwd; echo oops >&2; exit 3"})
    assert (done["exit_code"], done["stdout"].strip(), done["stderr"]) == (3, str(project_of(session)), "oops\n")
    assert session.call_tool("exec", {"command": ["printf", "%s", "a b"]})["stdout"] == "a b"


@pytest.mark.contract("1.10 git")
def test_git_runs_in_the_project_and_refuses_what_destroys(session: Session) -> None:
    session.call_tool("git", {"subcommand": "init", "args": ["-q"]})
    session.call_tool("write_file", {"path": "a", "content": "a"})
    assert session.call_tool("git", {"subcommand": "status", "args": ["--short"]})["stdout"] == "?? a\n"
    assert refused(session, "git", subcommand="reset", args=["--hard"]).code


@pytest.mark.contract("1.10 run_lua")
def test_python_keeps_its_names_between_calls(session: Session) -> None:
    assert session.call_tool("python", {"code": "x = 20"}).get("value") is None
    assert session.call_tool("python", {"code": "print('hi')\nx + 1"})["value"] == "21"
    failed = session.call_tool("python", {"code": "1 / 0"})
    assert failed["error_type"] == "ZeroDivisionError"
    with pytest.raises(ToolTimedOut):
        session.call_tool("python", {"code": "import time\ntime.sleep(60)"}, timeout=0.3)
    assert [call.status for call in session.get_tool_calls()] == ["completed", "completed", "completed", "timeout"]


def test_todos_are_kept_by_the_agent_itself(session: Session) -> None:
    session.call_tool("todo", {"todos": [{"content": "first"}, {"content": "second", "status": "in_progress"}]})
    assert [(todo.content, todo.status) for todo in session.get_todos()] == [
        ("first", "pending"),
        ("second", "in_progress"),
    ]
    assert refused(session, "todo", todos=[{"status": "pending"}]).code == "missing_parameter"
    assert len(session.get_todos()) == 2


@pytest.mark.contract("1.5 remember", "1.5 recall", "1.5 forget")
def test_something_is_remembered_recalled_and_forgotten(session: Session) -> None:
    kept = session.call_tool("remember", {"content": "the tests run with make check", "memory_type": "convention"})
    session.call_tool("remember", {"content": "the parser is slow"})
    found = session.call_tool("recall", {"query": "tests"})
    assert [one["id"] for one in found] == [kept["id"]]
    session.call_tool("forget", {"memory_id": kept["id"], "reason": "not any more"})
    assert session.call_tool("recall", {"query": "tests"}) == []


@pytest.mark.contract("1.10 path rules")
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../x", "path_escapes_boundary"),
        ("%2e%2e/x", "path_escapes_boundary"),
        ("/etc/hostname", "path_outside_boundary"),
        ("away/x", "symlink_escapes_boundary"),
        (".jido_code/settings.json", "protected_settings_file"),
    ],
)
def test_a_path_that_leads_out_of_the_project_is_refused(
    session: Session, tmp_path: Path, path: str, code: str
) -> None:
    (tmp_path / "x").write_text("secret")
    (project_of(session) / "away").symlink_to(tmp_path)
    for name, more in (("read_file", {}), ("write_file", {"content": "new"})):
        assert refused(session, name, path=path, **more).code == code
    assert (tmp_path / "x").read_text() == "secret"


# --- a program's own ------------------------------------------------------------------------------------------------
def test_a_model_comes_back_as_one_and_arguments_are_read_as_declared(session: Session) -> None:
    assert session.call_tool("weather", {"city": "Rome"}) == Weather(city="Rome", degrees=20.5)
    assert session.call_tool("weather", {"city": "Rome", "unit": "F"}).degrees == 68.9
    assert session.call_tool("move", {"by": 2, "at": {"x": 1, "y": 5}}) == Point(3, 5)
    assert session.call_tool("later", {"text": "awaited"}) == "AWAITED"


def test_a_class_of_ours_may_hold_another_whatever_its_annotations_are(session: Session) -> None:
    rome = {"city": "Rome", "degrees": 20.5}
    back = session.call_tool("look_back", {"trip": {"seen": [rome]}, "leg": {"weather": rome}})
    assert back == Trip([Weather(city="Rome", degrees=20.5)] * 2)
    error = refused(session, "look_back", trip={"seen": [{"city": 1}]}, leg=[rome])
    assert (error.code, "trip.seen[0].degrees" in error.message) == ("missing_parameter", True)


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("weather", {}, "missing_parameter"),
        ("weather", {"city": "Rome", "units": "C"}, "unknown_parameter"),
        ("weather", {"city": 3}, "invalid_type"),
        ("weather", {"city": "Rome", "unit": "K"}, "invalid_choice"),
        ("move", {"by": -1, "at": {"x": 1, "y": 1}}, "invalid_value"),
    ],
)
@pytest.mark.contract("2.5 argument checks")
def test_wrong_arguments_are_refused_before_anything_runs(
    session: Session, name: str, args: dict[str, object], code: str
) -> None:
    error = refused(session, name, **args)
    assert error.code == code
    assert error.hint.startswith(f"{name} takes")
    assert session.logs() == []
    (call,) = session.get_tool_calls()
    assert (call.status, call.started_at, str(call.error).startswith(code)) == ("error", None, True)


def test_an_unknown_tool_is_told_with_its_neighbours(session: Session) -> None:
    error = refused(session, "wether", city="Rome")
    assert (error.code, "weather" in error.hint) == ("unknown_tool", True)
    assert session.get_tool_calls() == []


def test_what_a_tool_prints_is_heard_and_kept(session: Session) -> None:
    heard: list[bytes] = []
    session.call_tool("weather", {"city": "Rome"}, on_output=lambda chunk: heard.append(chunk.data))
    assert b"".join(heard) == b"looking out of the window\n"
    assert b"".join(chunk.data for chunk in session.logs()) == b"looking out of the window\n"


def test_a_tool_of_one_session_is_not_anothers(tool_host: Host, session: Session) -> None:
    @tool
    def only_here(n: int) -> int:
        return n + 1

    with tool_host.temporary_session(tools=[only_here]) as other:
        assert other.call_tool("only_here", {"n": 1}) == 2
        assert other.call_tool("weather", {"city": "Rome"}) == Weather(city="Rome", degrees=20.5)
    assert refused(session, "only_here", n=1).code == "unknown_tool"


def test_what_is_no_tool_is_refused_before_a_session_is_started(tool_host: Host) -> None:
    def plain(n: int) -> int:
        return n

    @tool(name="read_file")
    def mine(path: str) -> str:
        return path

    for tools, code in (([plain], "invalid_tool"), ([mine], "already_registered"), (weather, "invalid_tools")):
        with pytest.raises(InvalidRequest) as caught:
            tool_host.start_session(tools=tools)  # type: ignore[arg-type]
        assert caught.value.code == code
    with pytest.raises(InvalidRequest, match="two tools are named"):
        Host(sandbox=Sandbox.off(), tools=[weather, tool(name="weather")(lambda: None)])
    assert tool_host.list_sessions() == []


def test_a_tool_cannot_take_a_session_or_a_host_with_it(tool_host: Host, session: Session) -> None:
    @tool
    def reads() -> str:
        return session.id

    @tool
    def starts() -> str:
        return tool_host.start_session().id

    for own, said in (
        (reads, "variable 'session' of its closure is a Session,"),
        (starts, "'tool_host' of its closure is a Host,"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            tool_host.start_session(tools=[own])
        assert (caught.value.code, said in caught.value.message) == ("unpicklable_argument", True)
        assert "epoll" not in str(caught.value)
    with pytest.raises(InvalidRequest, match=r"^args\[0\]\['files'\] is a SessionFiles,"):
        session.run(len, {"files": session.files})


# --- how a call ends ------------------------------------------------------------------------------------------------
def test_a_tool_that_hangs_is_ended_with_all_it_started(session: Session) -> None:
    began = time.monotonic()
    with pytest.raises(ToolTimedOut) as caught:
        session.call_tool("hang", timeout=0.3)
    assert time.monotonic() - began < 5
    assert caught.value.ran == "yes"
    (call,) = session.get_tool_calls()
    assert (call.status, call.duration_ms is not None and call.duration_ms >= 250) == ("timeout", True)


def test_what_a_tool_leaves_behind_ends_with_it(session: Session) -> None:
    pid = session.call_tool("leave_behind", {"marker": "left"})
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the process it left is gone")
    done = session.call_tool("exec", {"command": "setsid sleep 600 >/dev/null 2>&1 & echo $!"})
    left = int(done["stdout"])
    wait_until(lambda: not os.path.exists(f"/proc/{left}"), "the process it left is gone")


def test_each_end_has_its_error_and_the_session_lives(session: Session) -> None:
    pid = pid_of(session)
    with pytest.raises(ToolCrashed) as crashed:
        session.call_tool("crash")
    assert crashed.value.report is not None
    assert crashed.value.report.signal == "SIGSEGV"
    with pytest.raises(ToolRaised, match="nothing there") as raised:
        session.call_tool("raise_this", {"text": "nothing there"})
    assert raised.value.exception_type == "LookupError"
    with pytest.raises(ToolOutOfMemory):
        session.call_tool("eat", limits=Limits(memory="128M"))
    with pytest.raises(ToolCrashed):
        session.call_tool("leave")
    with pytest.raises(ToolResultInvalid):
        session.call_tool("unsendable")
    assert [call.status for call in session.get_tool_calls()] == ["error"] * 5
    assert pid_of(session) == pid


def test_a_call_that_its_session_dies_in_is_closed_as_unknown(session: Session) -> None:
    running = session.execute_tool_async("hang", {"seconds": 60}, timeout=50)
    wait_until(lambda: [call.status for call in session.get_tool_calls()] == ["running"], "it runs")
    mine = session.add_tool_call("somebody_elses")
    session.kill()
    with pytest.raises(SessionDied):
        running.result(10)
    assert [call.status for call in session.get_tool_calls()] == ["running", "pending"]  # its next process closes it
    session.ping()
    closed, other = session.get_tool_calls()
    assert (closed.status, str(closed.error).startswith("tool_outcome_unknown")) == ("error", True)
    assert (other.id, other.status) == (mine.id, "pending")


def test_a_cancelled_call_is_ended_and_said_so(session: Session) -> None:
    running = session.execute_tool_async("hang", timeout=50)
    wait_until(lambda: [call.status for call in session.get_tool_calls()] == ["running"], "it runs")
    assert running.cancel()
    wait_until(running.cancelled, "it is cancelled")
    wait_until(lambda: [call.status for call in session.get_tool_calls()] == ["error"], "it is kept as ended")


# --- what is kept ---------------------------------------------------------------------------------------------------
@pytest.mark.contract("0.9 tool calls have a life")
def test_a_call_is_kept_with_its_times_and_its_result_in_words(session: Session) -> None:
    session.call_tool("weather", {"city": "Rome"})
    (call,) = session.get_tool_calls()
    assert (call.name, call.arguments, call.status) == ("weather", {"city": "Rome"}, "completed")
    assert call.result == '{"city":"Rome","degrees":20.5}'
    assert call.started_at is not None
    assert call.ended_at is not None
    assert call.timestamp <= call.started_at <= call.ended_at


def test_what_is_kept_is_bounded_and_has_no_secrets(session: Session) -> None:
    assert session.call_tool("secret") == f"key sk-{'a1' * 16} here"
    assert session.call_tool("long_text", {"count": 100_000}) == "x" * 100_000
    session.call_tool("write_file", {"path": "big", "content": "y" * 50_000})
    secret_call, long_call, write_call = session.get_tool_calls()
    assert secret_call.result == "key [REDACTED:model_api_key] here"
    assert str(long_call.result).startswith("x" * CONTENT_CHARS_MAX + "\n... (")
    assert len(write_call.arguments["content"]) < TEXT_CHARS_MAX + 20
    assert (project_of(session) / "big").stat().st_size == 50_000


def test_calls_are_told_to_who_listens_and_only_valid_ones_announced(session: Session) -> None:
    with session.signals(follow=True) as told:
        refused(session, "weather")
        session.call_tool("weather", {"city": "Rome"})
        seen = []
        for signal in told:
            if signal.type.startswith("procession.tool."):
                seen.append((signal.type.removeprefix("procession.tool."), signal.data["tool_name"]))
                if len(seen) == 3:
                    break
    assert seen == [("error", "weather"), ("call", "weather"), ("result", "weather")]


# --- the faces ------------------------------------------------------------------------------------------------------
def test_tools_are_listed_and_described_for_both_apis(session: Session) -> None:
    listed = {one.name: one for one in session.tools()}
    assert {"read_file", "exec", "todo", "weather"} <= listed.keys()
    assert (listed["exec"].tier, listed["exec"].builtin, listed["weather"].builtin) == ("execute", True, False)
    (openai,) = session.tool_schemas("openai", ["weather"])
    assert openai["function"]["parameters"]["properties"]["unit"]["enum"] == ["C", "F"]
    (anthropic,) = session.tool_schemas("anthropic", ["weather"])
    assert anthropic["input_schema"] == openai["function"]["parameters"]
    assert len(session.tool_schemas("openai")) == len(listed)
    for api, only, code in (("gemini", None, "unknown_api"), ("openai", ["nothing"], "unknown_tool")):
        with pytest.raises(InvalidRequest) as caught:
            session.tool_schemas(api, only)  # type: ignore[arg-type]
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("only", "said"), [("weather", "only=['weather']"), (b"weather", "bytes"), (3, "3"), ([3], "3")]
)
def test_names_of_tools_are_a_list_of_texts(session: Session, only: object, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        session.tool_schemas("openai", only)  # type: ignore[arg-type]
    assert (caught.value.code, said in str(caught.value)) == ("invalid_tools", True)


def test_an_agent_of_ones_own_has_no_tools_that_only_a_code_session_can_carry_out(
    tool_host: Host, session: Session
) -> None:
    of_code_sessions = {"todo", "remember", "recall", "forget"}
    everything = {one.name for one in session.tools()}
    with tool_host.temporary_session(agent=Counter) as other:
        assert {one.name for one in other.tools()} == everything - of_code_sessions
        assert len(other.tool_schemas("openai")) == len(everything) - len(of_code_sessions)
        assert refused(other, "todo", todos=[]).code == "not_a_code_session"
    assert of_code_sessions <= everything


def test_a_name_that_has_no_form_in_bytes_is_refused(session: Session) -> None:
    assert refused(session, "\ud800").code == "not_encodable"


@pytest.mark.parametrize("args", [3, ["a"], "path", {1: 2}, {None: "a"}])
def test_arguments_that_are_no_mapping_of_names_are_refused(session: Session, args: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        session.call_tool("read_file", args)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_arguments"


def test_the_async_face_has_the_same_tools() -> None:
    async def go() -> None:
        async with AsyncHost(sandbox=Sandbox.off(), tools=[weather, hang]) as host:
            session = await host.start_session()
            assert await session.call_tool("weather", {"city": "Rome"}) == Weather(city="Rome", degrees=20.5)
            task = session.execute_tool_async("weather", {"city": "Oslo"})
            assert (await task).city == "Oslo"
            with pytest.raises(ToolTimedOut):
                await session.call_tool("hang", timeout=0.2)
            assert len(await session.tools()) == len(await session.tool_schemas("openai"))
            (result,) = await session.execute_tool_calls({"name": "weather", "arguments": {"city": "Bern"}})
            assert (result.status, result.content) == ("ok", '{"city":"Bern","degrees":20.5}')
            heard: list[bytes] = []

            async def hear(chunk: object) -> None:
                heard.append(chunk.data)  # type: ignore[attr-defined]

            await session.call_tool("weather", {"city": "Rome"}, on_output=hear)
            assert heard == [b"looking out of the window\n"]

    asyncio.run(go())
