# ruff: noqa: ASYNC240 - a look at a file is no blocking that a test could notice
"""One suite over the four faces: the same verbs, the same results, the same errors, with real processes below."""

import asyncio
import dataclasses
import functools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.four_faces import FACES, OFF, Awaited, play
from helpers.runs import run_python
from procession import (
    AlreadyExists,
    AsyncHost,
    CallTimedOut,
    Host,
    HostLost,
    InvalidRequest,
    Limits,
    OutputChunk,
    PermissionDenied,
    Sandbox,
    SandboxUnavailable,
    SessionNotFound,
    SessionNotRunning,
    StorageError,
    ToolCrashed,
    ToolRaised,
    ToolResultInvalid,
    ToolTimedOut,
)
from procession.ipc.core.bounds import RESULT_NODES_MAX

pytestmark = pytest.mark.process

Scenario = Callable[[Any], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(params=FACES)
def on_face(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Play a scenario on one of the four faces."""
    return lambda scenario: play(request.param, tmp_path, scenario)


@dataclasses.dataclass
class Row:
    n: int
    tags: set[str]


def make_row(n: int) -> Row:
    return Row(n, {"a"})


def add(a: int, b: int = 2) -> int:
    return a + b


def count_up(n: int) -> list[int]:
    return list(range(n))


def lies() -> int:
    return "three"  # type: ignore[return-value]


def test_run(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session(name="one")
        assert await s.run(add, 1) == 3
        assert await s.run(add, 1, b=5, timeout=10) == 6
        assert await s.run(make_row, 4) == Row(4, {"a"})
        assert await s.run(lambda: {"n": 5, "tags": {"x"}}, returns=Row) == Row(5, {"x"})
        assert await s.run(lambda: (1, {2}, b"3", None)) == (1, {2}, b"3", None)
        assert await s.run(os.getpid) != os.getpid()
        assert await s.run(add, 1, 1, limits=Limits(memory="512M"), wait=True) == 2
        with pytest.raises(ToolRaised) as raised:
            await s.run(lambda: {"a": 1}["missing"])
        assert (raised.value.ran, raised.value.session) == ("yes", s.id)
        assert isinstance(raised.value.__cause__, KeyError)
        assert raised.value.__cause__.args == ("missing",)
        with pytest.raises(ToolResultInvalid, match="expected int, found str") as lied:
            await s.run(lies)
        assert (lied.value.ran, lied.value.session) == ("yes", s.id)
        assert lied.value.report is not None
        assert (lied.value.report.ended, lied.value.report.processes_left) == ("exit", 0)
        with pytest.raises(ToolCrashed) as crashed:
            await s.run(os.abort)
        assert crashed.value.report is not None
        assert crashed.value.report.signal == "SIGABRT"
        with pytest.raises(ToolTimedOut) as late:
            await s.run(time.sleep, 60, timeout=0.2)
        assert isinstance(late.value, TimeoutError)
        assert late.value.report is not None
        assert late.value.report.processes_left == 0
        assert await s.run(add, 1) == 3

    on_face(scenario)


def test_a_result_holds_a_million_values_and_says_what_to_do_with_more(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        assert await s.run(lambda n: list(range(n)), 60_000) == list(range(60_000))
        assert await s.run(count_up, 60_000) == list(range(60_000))
        most = await s.run(count_up, RESULT_NODES_MAX - 1)
        assert len(most) == RESULT_NODES_MAX - 1
        for fn in (count_up, lambda n: list(range(n))):
            with pytest.raises(ToolResultInvalid) as refused:
                await s.run(fn, RESULT_NODES_MAX)
            assert (refused.value.code, refused.value.ran) == ("too_large", "yes")
            assert refused.value.message == "result is more than it may hold"
            hint = "the limit is 1000000 values in all; write it to a file and return the path"
            assert refused.value.hint == hint
            assert str(refused.value).count("the limit is") == 1
        with pytest.raises(ToolResultInvalid) as odd:
            await s.run(lambda: [1, (n for n in [2])])
        assert str(odd.value) == "result[1] is a generator (hint: return list(...) of it)"

    on_face(scenario)


def test_large_arguments_and_results(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        data = os.urandom(1 << 20)
        assert await s.run(lambda d: d[::-1], data) == data[::-1]
        assert await s.echo(data[: 200 * 1024]) == data[: 200 * 1024]

    on_face(scenario)


def test_output_is_streamed_to_the_caller(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        seen: list[OutputChunk] = []
        await s.exec("echo out; echo err >&2", on_output=seen.append)
        assert b"".join(c.data for c in seen if c.stream == "stdout") == b"out\n"
        assert b"".join(c.data for c in seen if c.stream == "stderr") == b"err\n"
        seen.clear()
        await s.run(print, "printed", on_output=seen.append)
        assert b"".join(c.data for c in seen) == b"printed\n"

        def broken(chunk: OutputChunk) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await s.exec("echo x", on_output=broken)

    on_face(scenario)


def print_lines(count: int, size: int = 1) -> str:
    for number in range(count):
        print(str(number) * size, flush=True)
    return "done"


@pytest.mark.parametrize("face", ["AsyncHost", "AsyncHost.connect"])
def test_an_async_on_output_is_awaited_for_each_piece_in_order_before_the_call_returns(
    face: str, tmp_path: Path
) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        told: list[bytes] = []

        class Taker:
            async def __call__(self, chunk: OutputChunk) -> None:
                await asyncio.sleep(0)
                told.append(chunk.data)
                await asyncio.sleep(0)

        async def take(chunk: OutputChunk) -> None:
            await Taker()(chunk)

        for on_output in (take, Taker()):
            for verb, what in (
                (s.run, functools.partial(print_lines, 50)),
                (s.submit, functools.partial(print_lines, 50)),
                (s.exec, "seq 0 49"),
                (s.run_code, "for n in range(50): print(n)"),
            ):
                told.clear()
                await verb(what, on_output=on_output)
                assert b"".join(told) == b"".join(b"%d\n" % number for number in range(50))
        told.clear()
        with pytest.raises(ToolCrashed):
            await s.exec("seq 0 2; exit 3", check=True, on_output=take)
        assert b"".join(told) == b"0\n1\n2\n"

        async def fails(chunk: OutputChunk) -> None:
            raise LookupError(chunk.text)

        with pytest.raises(LookupError, match="0"):
            await s.run(print_lines, 1, on_output=fails)

        begun = asyncio.Event()

        async def stuck(chunk: OutputChunk) -> None:
            begun.set()
            await asyncio.Event().wait()

        task = s.submit(print_lines, 1, on_output=stuck)
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [other for other in asyncio.all_tasks() if other is not asyncio.current_task()] == []
        assert await s.run(add, 1) == 3

    play(face, tmp_path, scenario)


def test_a_sync_face_says_that_it_awaits_no_on_output(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()

        async def take(chunk: OutputChunk) -> None:
            raise AssertionError("it is not called")

        if isinstance(host, Awaited):
            for verb, what in ((s.run, print), (s.exec, "true"), (s.run_code, "1"), (s.submit, print)):
                with pytest.raises(InvalidRequest, match="async def") as refused:
                    await verb(what, on_output=take)
                assert refused.value.code == "async_output"
        with pytest.raises(InvalidRequest, match="awaited"):
            await s.run(print_lines, 1, on_output=lambda chunk: take(chunk))
        assert await s.run(add, 1) == 3

    on_face(scenario)


def test_exec(on_face: Play, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "sub").mkdir(parents=True)

    async def scenario(host: Any) -> None:
        s = await host.start_session(project)
        result = await s.exec(["sh", "-c", "pwd; echo e >&2; exit 3"])
        assert (result.exit_code, result.text, result.stderr, result.ok) == (3, f"{project}\n", b"e\n", False)
        assert result.argv == ("sh", "-c", "pwd; echo e >&2; exit 3")
        assert (await s.exec("pwd", cwd="sub")).text == f"{project}/sub\n"
        assert (await s.exec("echo $A", env={"A": "ä"})).text == "ä\n"
        assert (await s.exec(["cat"], input="ü")).stdout == "ü".encode()
        assert (await s.exec(["wc", "-c"], input=b"x" * 100_000)).text.strip() == "100000"
        assert (await s.exec("kill -9 $$")).exit_code == -signal.SIGKILL
        with pytest.raises(ToolCrashed, match=r"'echo why >&2; false' ended with exit code 1:\nwhy"):
            await s.exec("echo why >&2; false", check=True)
        with pytest.raises(InvalidRequest) as missing:
            await s.exec(["no-such-command-at-all"])
        assert (missing.value.code, missing.value.ran) == ("command_not_found", "no")
        with pytest.raises(ToolTimedOut):
            await s.exec("sleep 60", timeout=0.2)

    on_face(scenario)


def test_where_there_is_no_process_there_is_no_pid(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        status = await s.status()
        assert status.pid > 0
        assert status.keeper_pid > 0
        p = await s.start(["sleep", "60"])
        assert (await p.status()).pid == p.pid > 0
        over = await p.kill()
        assert (over.running, over.pid, over.report.pid) == (False, None, p.pid)
        assert list(await s.processes()) == [p]
        await s.kill()
        down = await s.status()
        assert (down.phase, down.pid, down.keeper_pid) == ("down", None, None)
        assert down.asdict().get("pid", "left out") == "left out"
        await s.run(add, 1)
        assert (await s.status()).pid not in (None, status.pid)

    on_face(scenario)


def test_long_lived_commands(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        await s.ping()
        p = await s.start([sys.executable, "-uc", "print('begun')\nwhile line := input(): print('got', line)"])
        assert p.argv[0] == sys.executable
        assert (await p.status()).running
        assert await s.processes() == [p]
        with pytest.raises(CallTimedOut):
            await p.wait(timeout=0.1)
        await p.write("hello\n")
        async with p.logs(follow=True) as lines:
            text = ""
            async for chunk in lines:
                text += chunk.text
                if text == "begun\ngot hello\n":
                    break
        await p.write("\n")
        done = await p.wait()
        assert (done.running, done.exit_code) == (False, 0)
        assert "".join(c.text for c in await p.logs()) == "begun\ngot hello\n"
        for end, how in (("terminate", "SIGTERM"), ("kill", "SIGKILL"), ("interrupt", "SIGINT")):
            q = await s.start(["sleep", "60"])
            await getattr(q, end)()
            report = (await q.wait(timeout=10)).report
            assert report is not None
            assert report.signal == how
        r = await s.start(["cat"])
        await r.close_stdin()
        assert (await r.wait()).exit_code == 0

    on_face(scenario)


def test_run_code(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        first = await s.run_code("x = 20\nprint('hi')\nx + 1")
        assert (first.value, first.stdout, first.error, first.fresh) == ("21", "hi\n", None, True)
        again = await s.run_code("x * 2")
        assert (again.value, again.fresh) == ("40", False)
        failed = await s.run_code("1 / 0")
        assert (failed.ok, failed.error_type) == (False, "ZeroDivisionError")
        with pytest.raises(ToolTimedOut):
            await s.run_code("import time\ntime.sleep(60)", timeout=0.2)
        with pytest.raises(ToolCrashed):
            await s.run_code("import os; os._exit(3)")
        assert (await s.run_code("1")).fresh
        await s.interrupt()
        left = await s.run_code("import sys; sys.exit('no')")
        assert (left.exit_code, left.error_type, left.fresh) == (1, "SystemExit", False)
        again = await s.run_code("1")
        assert (again.exit_code, again.fresh) == (None, True)

    on_face(scenario)


def test_what_is_known_of_a_session(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session(name="known")
        status = await s.status()
        assert (status.id, status.name, status.phase, status.incarnation) == (s.id, "known", "ready", 1)
        assert repr(s).startswith(("<Session known ready inc=1 ", "<AsyncSession known ready inc=1 "))
        assert 0 < await s.ping() < 5
        assert await s.echo("x") == b"x"
        assert "procession.agent_proc.session" in await s.modules()
        await s.exec("echo kept")
        assert "kept\n" in "".join(c.text for c in await s.logs())
        ops = [call.op for call in await s.calls()]
        assert "exec" in ops
        types = [event.type for event in await s.events()]
        assert types
        assert {event.session for event in await s.events()} == {s.id}
        last = (await s.events())[-1].number
        assert await s.events(since=last) == []
        assert await s.cancel("nothing") == "unknown_call"
        assert (await s.story()).status.name == "known"
        assert (await host.statistics()).sessions == 1
        assert s.id in {event.session for event in await host.events()}

    on_face(scenario)


def test_following(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        async with s.logs(follow=True) as logs, host.events(follow=True) as events:
            await s.exec("echo followed")
            async for chunk in logs:
                if chunk.text == "followed\n":
                    break
            await s.restart()
            async for event in events:
                if event.session == s.id and event.incarnation == 2:
                    break

    on_face(scenario)


def test_submitted_calls(on_face: Play, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        first, second = s.submit(add, 1), s.submit(add, 2, timeout=5)
        assert (await first, await second) == (3, 4)
        failing = s.submit(os.abort)
        with pytest.raises(ToolCrashed):
            await failing

    on_face(scenario)


@pytest.mark.parametrize("face", ["Host", "Host.connect"])
def test_a_future_has_the_report_of_its_run(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        s = (await host.start_session()).handle
        good, bad = s.submit(add, 1), s.submit(os.abort)
        assert good.result(20) == 3
        assert (good.report().ended, good.report().tool, good.report().exit_code) == ("exit", "add", 0)
        assert good.report().peak_memory_bytes >= 0
        assert bad.report(20).signal == "SIGABRT"
        assert (
            s.submit(add, threading.main_thread, limits=Limits()).report(20).exit_code == 0
        )  # a TypeError is an answer
        await host.remove_session(s.id)
        assert s.submit(add, 1).report(20) is None

    play(face, tmp_path, scenario)


def test_a_running_call_is_cancelled_by_its_id(on_face: Play, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        going = s.submit(block, str(tmp_path / "begun"))
        await until_exists(tmp_path / "begun")
        (running,) = [call for call in await s.calls() if call.op == "run"]
        assert await s.cancel(running.id) == "cancelling"
        with pytest.raises(Exception, match="cancelled") as caught:
            await going
        assert getattr(caught.value, "ran", None) == "maybe"

    on_face(scenario)


def block(path: str) -> None:
    Path(path).touch()
    time.sleep(60)  # payload: ended from outside


async def until_exists(path: Path) -> None:
    """Wait for a file that a worker makes; the loop goes on."""
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        await asyncio.sleep(0)


def test_the_ends_of_a_session(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session(name="ends")
        receipt = await s.kill()
        assert receipt.left == 0
        assert await s.run(add, 1) == 3
        assert (await s.status()).incarnation == 2
        await s.restart()
        assert await s.run(add, 1) == 3
        assert (await s.status()).incarnation == 3
        assert (await s.last_report()) is not None
        assert (await s.stop()).left == 0
        with pytest.raises(SessionNotRunning, match=r"hint: resume_session\(\)"):
            await s.run(add, 1)
        assert s.id not in [status.id for status in await host.list_sessions()]
        assert s.id in [status.id for status in await host.list_sessions(all=True)]
        again = await host.resume_session(s.id)
        assert again == s
        assert await s.run(add, 1) == 3
        assert (await host.stop_session("ends")).left == 0
        await host.remove_session(s.id)
        with pytest.raises(SessionNotFound, match=r"hint: list_sessions\(all=True\)"):
            await s.status()
        assert await host.list_sessions(all=True) == []
        live = await host.start_session()
        began = (await host.events())[-1].number
        await host.remove_session(live.id)
        ends = [event.type for event in await host.events(began) if event.session == live.id]
        assert ends == ["session.ended", "session.stopped", "session.removed"]

    on_face(scenario)


def test_finding_sessions(on_face: Play, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()

    async def scenario(host: Any) -> None:
        s = await host.get_or_start_session("mine", tmp_path / "p")
        assert await host.get_or_start_session("mine") == s
        assert await host.session("mine") == await host.session(s.id) == s
        namesake = await host.start_session(name="mine")
        assert namesake != s
        for by_name in (host.session, host.stop_session, host.remove_session, host.resume_session):
            with pytest.raises(InvalidRequest, match=s.id) as either:
                await by_name("mine")
            assert either.value.code == "ambiguous_name"
            assert namesake.id in str(either.value)
        with pytest.raises(InvalidRequest, match=s.id):
            await host.get_or_start_session("mine")
        assert [status.phase for status in await host.list_sessions()] == ["ready", "ready"]
        await namesake.stop()
        assert await host.session("mine") == await host.get_or_start_session("mine") == s
        assert await host.resume_session("mine") == namesake
        await namesake.stop()
        await host.remove_session(namesake.id)
        with pytest.raises(AlreadyExists) as open_already:
            await host.start_session(tmp_path / "p")
        assert open_already.value.code == "project_already_open"
        with pytest.raises(SessionNotFound):
            await host.session("nobody")
        async with host.temporary_session() as t:
            folder = (await t.status()).project
            assert os.path.isdir(folder)
            assert await t.run(add, 1) == 3
        assert not os.path.exists(folder)
        with pytest.raises(SessionNotFound):
            await t.ping()
        assert [status.name for status in await host.list_sessions(all=True)] == ["mine"]

    on_face(scenario)


def test_bad_arguments_are_refused_and_nothing_is_lost(on_face: Play, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()

        async def refused(code: str, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
            with pytest.raises(InvalidRequest) as caught:
                await verb(*args, **kwargs)
            assert caught.value.code == code
            assert caught.value.ran == "no"

        await refused("not_callable", s.run, 5)
        await refused("unpicklable_argument", s.run, print, threading.Lock())
        for timeout in (-1, float("nan"), True, "5", None):
            await refused("invalid_timeout", s.run, add, 1, timeout=timeout)
        await refused("invalid_limit", s.run, add, 1, limits="256M")
        await refused("invalid_returns", s.run, add, 1, returns="int")
        await refused("invalid_command", s.exec, [])
        await refused("path_not_found", host.start_session, tmp_path / "nowhere")
        await refused("invalid_name", host.start_session, name=" ")
        await refused("invalid_session", host.session, "")
        half = "\ud800"
        await refused("invalid_command", s.exec, ["cat", half])
        await refused("invalid_command", s.start, f"cat {half}")
        await refused("path_not_found", s.exec, ["cat"], cwd=half)
        await refused("invalid_request", s.exec, ["cat"], env={half + "=": "1"})
        for env in ({half: "1"}, {"A": half}, {"A": "\udcff"}):
            await refused("not_encodable", s.exec, ["cat"], env=env)
        await refused("not_encodable", s.exec, ["cat"], input=half)
        await refused("not_encodable", s.run_code, f"{half!r} + '{half}'")
        await refused("not_encodable", s.echo, half)
        await refused("not_encodable", s.cancel, half)
        await refused("not_encodable", host.session, half)
        await refused("not_encodable", host.start_session, f"/tmp/{half}")
        for since in ("a", -4, 1.5, True, 1 << 63):
            for events in (host.events, s.events):
                await refused("invalid_since", events, since)
        with pytest.raises(SandboxUnavailable, match=r"Sandbox\.off\(\)"):
            await host.start_session(sandbox=Sandbox.standard())
        odd = types.FunctionType(add.__code__, globals(), argdefs=(2,))
        odd.__qualname__ = half
        assert await s.run(odd, 1) == 3
        assert await s.run(add, 1) == 3
        assert len(await host.list_sessions()) == 1

    on_face(scenario)


def test_names_of_files_that_are_no_utf8_work_in_commands(on_face: Play, tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/folder \xff")
    os.mkdir(folder)
    name = os.fsdecode(b"\xfe file")
    Path(folder, name).write_text("found")

    async def scenario(host: Any) -> None:
        s = await host.start_session()
        result = await s.exec(["cat", name], cwd=folder)
        assert (result.text, result.argv) == ("found", ("cat", name))
        assert (await s.exec(f"cat '{folder}/{name}'")).text == "found"
        missing = await s.exec(["cat", "no " + name], cwd=folder)
        assert missing.exit_code == 1
        with pytest.raises(InvalidRequest, match="there is no command") as unknown:
            await s.exec([name])
        str(unknown.value).encode()
        p = await s.start(["sleep", "60", name], cwd=Path(folder))
        assert (await p.status()).argv == ("sleep", "60", "\\udcfe file")
        assert (await p.kill()).report.tool == "sleep"

    on_face(scenario)


@pytest.mark.parametrize("make", [Host, Host.connect, AsyncHost, AsyncHost.connect])
@pytest.mark.parametrize("folder", ["", "\0", "/tmp/\0", "\ud800", b"/tmp", 5], ids=repr)
def test_a_folder_that_is_none_is_refused(make: Callable[..., Any], folder: Any) -> None:
    async def open_one() -> None:
        await make(folder)

    with pytest.raises(InvalidRequest, match="data_dir") as refused:
        asyncio.run(open_one()) if make in (AsyncHost, AsyncHost.connect) else make(folder)
    assert refused.value.code in {"invalid_data_dir", "not_encodable"}


def test_a_folder_that_cannot_be_looked_at_says_why(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        Host.connect(tmp_path / ("x" * 300))
    with pytest.raises(StorageError, match="File name too long"):
        Host(tmp_path / ("x" * 300))


def test_a_closed_host_says_so(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        await host.close()
        assert host.closed
        with pytest.raises((HostLost, SessionNotRunning)) as caught:
            await s.ping()
        assert caught.value.ran == "no"
        await host.close()

    on_face(scenario)


def test_a_host_can_be_told_to_end(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        assert host.pid == (await host.statistics()).pid == os.getpid()
        assert host.data_dir.is_dir()
        sync = getattr(host, "_host", host)
        if sync._link.is_local:
            await host.shutdown(grace=1)
            assert host.closed
        else:  # the test itself is the program that the host lives in
            with pytest.raises(PermissionDenied, match="only that program ends it"):
                await host.shutdown(grace=1)

    on_face(scenario)


def test_the_default_sandbox_is_refused_with_its_way_out() -> None:
    async def main() -> None:
        async with AsyncHost() as host:
            with pytest.raises(SandboxUnavailable, match=r"Sandbox\.off\(\)"):
                await host.start_session()

    asyncio.run(main())


@pytest.mark.parametrize("face", ["AsyncHost", "AsyncHost.connect"])
def test_a_cancelled_task_ends_its_work_and_says_so(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        task = s.submit(block, str(tmp_path / "begun"))
        await until_exists(tmp_path / "begun")
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert any("cancelled_in_session" in note for note in caught.value.__notes__)
        assert [call for call in await s.calls() if call.op == "run" and call.state != "over"] == []
        assert await s.run(add, 1) == 3

    play(face, tmp_path, scenario)


def test_a_cancelled_start_leaves_no_session() -> None:
    async def main() -> None:
        async with AsyncHost(sandbox=OFF) as host:
            task = asyncio.ensure_future(host.start_session())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            other = await host.start_session()
            assert await other.run(add, 1) == 3
            assert [status.id for status in await host.list_sessions(all=True)] == [other.id]

    asyncio.run(main())


def test_an_async_host_can_be_made_outside_of_a_loop_and_on_uvloop() -> None:
    pytest.importorskip("uvloop", reason="the uvloop extra is not installed")
    code = """
        import asyncio, uvloop
        from procession import AsyncHost, Sandbox
        host = AsyncHost(sandbox=Sandbox.off())
        assert repr(host) == "<AsyncHost not open yet>"
        async def main():
            assert await host is host
            s = await host.start_session()
            print(await s.run(lambda: 3), await s.echo(b"x"), (await s.exec("echo hi")).text)
            await host.close()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    """
    done = run_python(dedent(code))  # an interpreter of its own: uvloop keeps descriptors once it was loaded
    assert (done.returncode, done.stdout) == (0, "3 b'x' hi\n\n"), done.stderr
