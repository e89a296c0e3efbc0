"""`@isolated` and IsolatedExecutor: a fresh fork for every call, from wherever Python code can stand."""

import asyncio
import concurrent.futures
import dataclasses
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pydantic
import pytest

from helpers.runs import python_for, run_python
from helpers.waiting import wait_until
from procession import (
    InvalidRequest,
    IsolatedExecutor,
    Sandbox,
    SandboxUnavailable,
    ToolCrashed,
    ToolOutOfMemory,
    ToolRaised,
    ToolResultInvalid,
    ToolTimedOut,
    isolated,
)
from procession.api.default_host import _grounds
from procession.api.isolated import MAP_WINDOW
from procession.testing import shutdown_default_host

pytestmark = pytest.mark.process

OFF = Sandbox.off()
counter = 0


class Line(pydantic.BaseModel):
    text: str
    price: float


class Invoice(pydantic.BaseModel):
    """The model beside the function, in a module that no worker can import."""

    number: int
    lines: list[Line] = []


@dataclasses.dataclass
class Total:
    invoice: Invoice
    factorial: int


@isolated(sandbox=OFF, timeout=20)
def bump() -> int:
    global counter
    counter += 1
    return counter


@isolated(sandbox=OFF, timeout=20)
def parse(text: str) -> Invoice:
    return Invoice(number=int(text), lines=[Line(text=text, price=1.5)])


@isolated(sandbox=OFF, timeout=20)
def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


@isolated(sandbox=OFF, timeout=20)
def total(text: str) -> Total:
    return Total(parse(text), factorial(int(text)))


@isolated(sandbox=OFF, timeout=20)
def pid() -> int:
    return os.getpid()


@isolated(sandbox=OFF, timeout=20)
def crash_on(number: int, bad: int) -> int:
    if number == bad:
        os.abort()
    return number


@isolated(sandbox=OFF, timeout=20)
async def later(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@isolated(sandbox=OFF, timeout=20)
def all_four_ways(n: int) -> list[int]:
    """Inside a worker every way runs in place: the same process."""

    @isolated
    def here(_: int = 0) -> int:
        return os.getpid()

    own = {here(), here.submit().result(), *here.map(range(n)), asyncio.run(here.aio())}
    return [len(own), int(own == {os.getpid()})]


class Machine:
    """An isolated method; the instance travels with each call."""

    def __init__(self, step: int) -> None:
        self.step = step

    @isolated(sandbox=OFF, timeout=20)
    def advance(self, n: int) -> int:
        return n + self.step


# --- a call ---------------------------------------------------------------------------------------------------------


def test_every_call_is_a_fresh_fork() -> None:
    assert (bump(), bump(), counter) == (1, 1, 0)
    pids = {pid() for _ in range(5)}
    assert len(pids) == 5
    assert os.getpid() not in pids


def test_a_function_beside_its_model_a_recursive_one_and_one_that_calls_another() -> None:
    assert parse("7") == Invoice(number=7, lines=[Line(text="7", price=1.5)])
    assert factorial(10) == 3_628_800
    assert total("4") == Total(parse("4"), 24)


def test_the_four_ways_give_the_same() -> None:
    assert factorial(5) == factorial.submit(5).result(20) == asyncio.run(factorial.aio(5)) == next(factorial.map([5]))
    assert later(1) == asyncio.run(later.aio(1)) == 2  # type: ignore[comparison-overlap]


def test_inside_a_worker_all_four_ways_run_in_place() -> None:
    assert all_four_ways(2) == [1, 1]


def test_lambdas_closures_methods_and_installed_functions() -> None:
    base = 5
    assert isolated(sandbox=OFF)(lambda x: x + base)(2) == 7
    assert Machine(3).advance(4) == 7
    assert Machine.advance.fn.__name__ == "advance"
    assert isolated(sandbox=OFF)(math.gcd)(12, 18) == 6


def test_it_looks_like_its_function() -> None:
    assert (parse.__name__, parse.__doc__, parse.__wrapped__) == ("parse", None, parse.fn)  # type: ignore[attr-defined]
    assert repr(parse) == "<isolated parse>"


def test_what_it_does_is_told_as_always() -> None:
    @isolated(sandbox=OFF, timeout=0.3)
    def sleeps() -> None:
        time.sleep(60)  # payload: ended at its deadline

    @isolated(sandbox=OFF, memory="128M")
    def eats() -> int:
        return len(bytearray(1 << 30))

    @isolated(sandbox=OFF)
    def wrong() -> int:
        return "x"  # type: ignore[return-value]

    @isolated(sandbox=OFF, returns=Invoice)
    def declared(n):
        return {"number": n}

    with pytest.raises(ToolTimedOut):
        sleeps()
    with pytest.raises((ToolOutOfMemory, ToolRaised), match=r"[Mm]emory"):
        eats()
    with pytest.raises(ToolResultInvalid):
        wrong()
    with pytest.raises(ToolCrashed):
        crash_on(1, 1)
    assert declared(3) == Invoice(number=3)
    with pytest.raises(InvalidRequest, match=r"args\[0\]"):
        factorial(threading.Lock())  # type: ignore[arg-type]


def test_without_a_sandbox_stated_it_refuses_and_says_how() -> None:
    @isolated
    def bare() -> int:
        return 1

    with pytest.raises(SandboxUnavailable, match=r"Sandbox\.off\(\)"):
        bare()
    with pytest.raises(SandboxUnavailable):
        bare.submit()
    assert not _grounds


def test_bad_options_are_refused_where_they_are_written() -> None:
    for options in ({"timeout": -1}, {"timeout": None}, {"memory": "lots"}, {"sandbox": "off"}, {"returns": "int"}):
        with pytest.raises(InvalidRequest):
            isolated(**options)
    with pytest.raises(InvalidRequest):
        isolated(5)  # type: ignore[call-overload]


# --- many calls -----------------------------------------------------------------------------------------------------


def test_map_keeps_the_order_and_takes_no_more_than_its_window() -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for number in range(60):
            taken += 1
            yield number

    results = factorial.map(numbers())
    assert taken == 0
    for number, result in enumerate(results):
        assert result == math.factorial(number)
        assert taken <= number + 1 + MAP_WINDOW
    assert taken == 60


def test_map_takes_several_iterables() -> None:
    assert list(isolated(sandbox=OFF)(pow).map([2, 3, 4], [5, 2])) == [32, 9]


def test_map_raises_in_its_place_and_stops() -> None:
    results = crash_on.map(range(100), [3] * 100)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ToolCrashed):
        next(results)
    assert list(results) == []


def meet(folder: str, count: int) -> int:
    """Return once `count` calls are here at the same time."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + 15
    while len(os.listdir(folder)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("alone")
    return os.getpid()


def test_eight_threads_run_in_parallel(tmp_path: Path) -> None:
    together = isolated(sandbox=OFF, timeout=20)(meet)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        pids = list(threads.map(lambda _: together(str(tmp_path), 8), range(8)))
    assert len(set(pids)) == 8


def test_a_cancelled_future_ends_its_worker(tmp_path: Path) -> None:
    @isolated(sandbox=OFF)
    def hang(path: str) -> None:
        Path(path).touch()
        time.sleep(60)  # payload: ended from outside

    future = hang.submit(str(tmp_path / "begun"))
    wait_until((tmp_path / "begun").exists, "the worker began")
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    assert future.stopped_as is not None
    assert future.stopped_as.code == "cancelled_in_session"


def test_a_cancelled_task_ends_its_worker_and_says_so(tmp_path: Path) -> None:
    @isolated(sandbox=OFF)
    def hang(path: str) -> None:
        Path(path).touch()
        time.sleep(60)  # payload: ended from outside

    async def main() -> None:
        task = asyncio.create_task(hang.aio(str(tmp_path / "begun")))
        deadline = time.monotonic() + 20
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert any("cancelled_in_session" in note for note in caught.value.__notes__)

    asyncio.run(main())


# --- wherever code stands -------------------------------------------------------------------------------------------

SCRIPT = """
    from procession import isolated, Sandbox
    import dataclasses
    COUNT = 0
    @dataclasses.dataclass
    class Point:
        x: int
    @isolated(sandbox=Sandbox.off())
    def move(p: Point, by=lambda: 2) -> Point:
        global COUNT
        COUNT += 1
        return Point(p.x + by() + COUNT)
    print(move(Point(1)), move(Point(1)))
"""


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(dedent(SCRIPT))
    python = python_for(None)
    command = [python.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, env=python.environment(None, None))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Point(x=4) Point(x=4)\n", "")


def test_functions_typed_into_an_interpreter_travel() -> None:
    python = python_for(None)
    lines = dedent(SCRIPT).replace("    return Point(p.x", "    return Point(p.x").strip().split("\n")
    typed = "\n".join(lines).replace("class Point:\n    x: int\n", "class Point:\n    x: int\n\n")
    typed = typed.replace("COUNT)\n", "COUNT)\n\n") + "\n"
    done = subprocess.run(
        [python.executable, "-iq"], input=typed, capture_output=True, text=True, timeout=40,
        env=python.environment(None, None),
    )  # fmt: skip
    assert "Point(x=4) Point(x=4)" in done.stdout, done.stderr


def test_functions_of_a_notebook_travel() -> None:
    cells = """
        import types, sys
        notebook = types.ModuleType("__main__")
        sys.modules["__main__"] = notebook
        for cell in (
            "from procession import isolated, Sandbox\\nK = 5",
            "@isolated(sandbox=Sandbox.off())\\ndef f(x) -> int:\\n    return x * K",
            "print(f(2))\\nK = 7",
            "print(f(2))",
        ):
            exec(compile(cell, "<cell>", "exec"), vars(notebook))
    """
    done = run_python(dedent(cells))
    assert (done.returncode, done.stdout) == (0, "10\n14\n"), done.stderr


def test_it_works_inside_a_running_loop() -> None:
    async def main() -> list[int]:
        blocking = factorial(3)
        several = await asyncio.gather(*(factorial.aio(n) for n in range(5)))
        return [blocking, *several]

    assert asyncio.run(main()) == [6, 1, 1, 2, 6, 24]


def test_it_works_in_a_child_that_the_program_forked() -> None:
    code = """
        import os
        from procession import isolated, Sandbox
        @isolated(sandbox=Sandbox.off())
        def f(x): return x + 1
        assert f(1) == 2
        child = os.fork()
        assert f(2) == 3
        if child:
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            assert f(3) == 4
            print("both")
    """
    done = run_python(dedent(code))
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr


def test_it_works_in_multiprocessing_children_and_pools() -> None:
    code = """
        import multiprocessing
        from procession import isolated, Sandbox
        @isolated(sandbox=Sandbox.off())
        def f(x): return x + 1
        def work(x): return f(x)
        if __name__ == "__main__":
            f(0)
            pool = multiprocessing.get_context("fork").Pool(2)
            print(pool.map(work, range(4)))
            pool.close()  # a pool that is terminated kills its children, and nobody can clean up after a kill
            pool.join()
    """
    done = run_python(dedent(code))
    assert (done.returncode, done.stdout) == (0, "[1, 2, 3, 4]\n"), done.stderr


@pytest.mark.slow
def test_it_works_under_pytest_xdist(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    (tmp_path / "test_many.py").write_text(
        dedent("""
        import pytest
        from procession import isolated, Sandbox
        SEEN = []
        @isolated(sandbox=Sandbox.off())
        def f(x) -> int:
            SEEN.append(x)
            return len(SEEN)
        @pytest.mark.parametrize("n", range(6))
        def test_one(n):
            assert f(n) == 1
            assert SEEN == []
        """)
    )
    python = python_for(None)
    done = subprocess.run(
        [python.executable, "-m", "pytest", "-q", "-n2", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True, text=True, timeout=60, env=python.environment(None, None), cwd=tmp_path,
    )  # fmt: skip
    assert "6 passed" in done.stdout, done.stdout + done.stderr


def test_ctrl_c_ends_the_work_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        dedent("""
        import os, time, pathlib
        from procession import isolated, Sandbox
        @isolated(sandbox=Sandbox.off())
        def hang(folder):
            pathlib.Path(folder, "pid").write_text(str(os.getpid()))
            pathlib.Path(folder, "begun").touch()
            time.sleep(60)
        try:
            hang(os.path.dirname(__file__))
        except KeyboardInterrupt as interrupt:
            pid = int(pathlib.Path(os.path.dirname(__file__), "pid").read_text())
            print(os.path.exists(f"/proc/{pid}"), *interrupt.__notes__)
        """)
    )
    python = python_for(None)
    program = subprocess.Popen(
        [python.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True,
        env=python.environment(None, None),
    )  # fmt: skip
    wait_until((tmp_path / "begun").exists, "the worker began", timeout_s=30)
    program.send_signal(signal.SIGINT)
    said, _ = program.communicate(timeout=30)
    assert said.startswith("False "), said
    assert "cancelled" in said


def test_the_default_host_can_be_shut_down_and_comes_back() -> None:
    first = factorial(3)
    shutdown_default_host()
    assert not _grounds
    shutdown_default_host()
    assert factorial(3) == first


def test_a_ground_that_was_lost_is_replaced() -> None:
    assert factorial(3) == 6
    (ground,) = _grounds.values()
    ground.session.stop()
    assert factorial(3) == 6
    (other,) = _grounds.values()
    assert other is not ground


# --- IsolatedExecutor -----------------------------------------------------------------------------------------------


def test_the_executor_is_an_executor() -> None:
    with IsolatedExecutor(2, sandbox=OFF) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert list(executor.map(pow, [2, 3], [5, 2], chunksize=7)) == [32, 9]
        futures = [executor.submit(pow, n, 2) for n in range(10)]
        assert concurrent.futures.wait(futures, 30).not_done == set()
        assert [future.result() for future in futures] == [n * n for n in range(10)]
        assert executor.submit(lambda timeout: timeout, timeout=5).result(20) == 5
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 1, 1)


def test_one_crash_fails_one_future() -> None:
    with IsolatedExecutor(2, sandbox=OFF) as executor:
        futures = [executor.submit(crash_on.fn, n, 2) for n in range(5)]
        assert isinstance(futures[2].exception(30), ToolCrashed)
        assert [futures[n].result(30) for n in (0, 1, 3, 4)] == [0, 1, 3, 4]
        assert isinstance(executor.submit(print, threading.Lock()).exception(0), InvalidRequest)
        assert executor.submit(pow, 2, 2).result(30) == 4


def test_only_max_workers_are_under_way(tmp_path: Path) -> None:
    def count(folder: str) -> int:
        mine = Path(folder, str(os.getpid()))
        mine.touch()
        seen = 0
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            seen = max(seen, len(os.listdir(folder)))
        mine.unlink()
        return seen

    with IsolatedExecutor(2, sandbox=OFF) as executor:
        assert max(executor.map(count, [str(tmp_path)] * 8)) <= 2
    with IsolatedExecutor(20, sandbox=OFF) as executor:
        (tmp_path / "all").mkdir()
        assert len(set(executor.map(meet, [str(tmp_path / "all")] * 20, [20] * 20))) == 20


def test_asyncio_runs_in_it() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with IsolatedExecutor(sandbox=OFF) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, pow, n, 2) for n in range(4)))

    assert asyncio.run(main()) == [0, 1, 4, 9]


def test_waiting_futures_can_be_cancelled_and_dropped(tmp_path: Path) -> None:
    def hold(folder: str) -> None:
        Path(folder, "begun").touch()
        while not Path(folder, "go").exists():
            pass

    executor = IsolatedExecutor(1, sandbox=OFF)
    held = executor.submit(hold, str(tmp_path))
    waiting = [executor.submit(pow, 2, 2) for _ in range(3)]
    wait_until((tmp_path / "begun").exists, "the worker began")
    assert waiting[0].cancel()
    assert waiting[0].cancelled()
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in waiting] == [True] * 3
    assert not held.done()
    (tmp_path / "go").touch()
    executor.shutdown()
    assert held.done()
    assert held.result() is None


def test_an_executor_refuses_bad_arguments() -> None:
    for workers in (0, -1, True, 1.5):
        with pytest.raises(InvalidRequest):
            IsolatedExecutor(workers, sandbox=OFF)  # type: ignore[arg-type]
    with IsolatedExecutor() as executor, pytest.raises(SandboxUnavailable):
        executor.submit(pow, 1, 1)


def test_nothing_is_left_when_a_program_just_ends() -> None:
    code = """
        import asyncio
        from procession import AsyncHost, Host, isolated, Sandbox
        off = Sandbox.off()
        async def main():
            host = AsyncHost(sandbox=off)
            s = await host.start_session()
            print(await s.run(lambda: 1))
        asyncio.run(main())
        host = Host(sandbox=off)
        print(host.start_session().run(lambda: 2), isolated(sandbox=off)(lambda: 3)())
    """
    done = run_python(dedent(code))  # the leak guard sees what it leaves: processes, and temporary folders
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2 3\n", ""), done.stderr
