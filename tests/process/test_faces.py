# ruff: noqa: ASYNC240 - a look at a file is no blocking that a test could notice
"""One suite over the four faces: the same verbs, the same results, the same errors, with real processes below."""

import asyncio
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.four_faces import FACES, OFF, play
from helpers.runs import run_python
from procession import (
    AlreadyExists,
    AsyncHost,
    CallTimedOut,
    HostLost,
    InvalidRequest,
    Limits,
    OutputChunk,
    PermissionDenied,
    Sandbox,
    SandboxUnavailable,
    SessionNotFound,
    SessionNotRunning,
    ToolCrashed,
    ToolRaised,
    ToolResultInvalid,
    ToolTimedOut,
)

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
        with pytest.raises(SessionNotRunning):
            await s.run(add, 1)
        assert s.id not in [status.id for status in await host.list_sessions()]
        assert s.id in [status.id for status in await host.list_sessions(all=True)]
        again = await host.resume_session(s.id)
        assert again == s
        assert await s.run(add, 1) == 3
        assert (await host.stop_session("ends")).left == 0
        await host.remove_session(s.id)
        with pytest.raises(SessionNotFound):
            await s.status()
        assert await host.list_sessions(all=True) == []

    on_face(scenario)


def test_finding_sessions(on_face: Play, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()

    async def scenario(host: Any) -> None:
        s = await host.get_or_start_session("mine", tmp_path / "p")
        assert await host.get_or_start_session("mine") == s
        assert await host.session("mine") == await host.session(s.id) == s
        namesake = await host.start_session(name="mine")
        assert namesake != s
        assert await host.session("mine") == s
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
        with pytest.raises(SandboxUnavailable, match=r"Sandbox\.off\(\)"):
            await host.start_session(sandbox=Sandbox.standard())
        assert await s.run(add, 1) == 3
        assert len(await host.list_sessions()) == 1

    on_face(scenario)


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
