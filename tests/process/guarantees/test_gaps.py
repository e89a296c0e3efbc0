"""R-69: everything is stopped for a while, host and all, and goes on: nobody is taken for stuck, overdue or idle afterwards."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest

from helpers.cli import environment, line_of
from helpers.hosts import tree_below
from helpers.proc import ProcessSeen, look_at
from helpers.sources import REPOSITORY
from helpers.stopping import continue_process, stop_process
from helpers.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(180)]

HOST = """
import json, sys, threading, time
from procession import Host, Sandbox

limit_s, stay_s, idle_s = map(float, sys.argv[1:4])
preload = sys.argv[4:]
for name in preload:
    __import__(name)

STAY = f"for _ in range({int(stay_s * 100)}): time.sleep(0.01)"  # so long it has to be there; what is stopped is not

def work(stay):
    import time
    print("up", flush=True)
    exec(stay, {"time": time})
    return "worked"

host = Host(sandbox=Sandbox.off(), preload=preload)
sessions = [host.start_session(idle_timeout=idle_s), *(host.start_session() for _ in range(2))]
up = threading.Semaphore(0)
told = {}
runs = sessions[1].submit(work, STAY, timeout=limit_s, on_output=lambda _: up.release())

def cell():
    result = sessions[2].run_code(f"print('up', flush=True)\\nimport time\\n{STAY}\\n'worked'", timeout=limit_s,
        on_output=lambda _: up.release())
    told["cell"] = result.value or result.error

cells = threading.Thread(target=cell)
cells.start()
up.acquire()
up.acquire()
look = lambda: [(one.pid, one.incarnation, one.phase) for one in (session.status() for session in sessions)]
before = look()
print("ready", flush=True)
sys.stdin.readline()
try:
    told["run"] = runs.result()
except Exception as error:
    told["run"] = repr(error)
cells.join()
events = [(event.type, event.data) for event in host.events()]
print(json.dumps({"told": told, "before": before, "after": look(), "events": events}), flush=True)
host.close()
"""


def stop_all(tree: list[ProcessSeen]) -> None:
    for seen in tree:
        stop_process(seen.pid)


def continue_all(tree: list[ProcessSeen]) -> None:
    """Wake the owners first, and see that they are awake: they find everything below them still stopped."""
    for seen in tree:
        continue_process(seen.pid)
        wait_until(partial(is_awake, seen), f"{seen} wakes")


def is_awake(process: ProcessSeen) -> bool:
    seen = look_at(process.pid)
    return seen is None or seen.state != "T"


def told_after(gap_s: float, *arguments: float | str, workers_first: bool = False) -> Any:
    """Stop a host and all below it for so long; return what it tells afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST, *map(str, arguments)],
        env=environment({"PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY / "tests")])}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as host:
        assert host.stdin is not None
        assert line_of(host.stdout) == "ready\n"
        top = look_at(host.pid)
        assert top is not None
        tree = [top, *sorted(tree_below(host.pid), key=lambda seen: seen.start_ticks)]
        assert len(tree) >= 1 + 1 + 3 * 2 + 2 * 2, [str(seen) for seen in tree]
        try:
            stop_all(tree[::-1] if workers_first else tree)
            time.sleep(gap_s)  # payload: the time in which nobody is there
        finally:
            continue_all(tree)
        host.stdin.write(b"\n")
        host.stdin.flush()
        told = json.loads(line_of(host.stdout))
        assert host.wait(20) == 0
    return told


@pytest.mark.guarantee("R-69")
@pytest.mark.parametrize("workers_first", [False, True], ids=["host first", "workers first"])
@pytest.mark.parametrize(
    ("gap_s", "arguments"),
    [
        pytest.param(4.0, (3.5, 2.0, 4.0, "helpers.short_gaps"), id="short"),
        pytest.param(60.0, (20.0, 5.0, 40.0), id="minute", marks=pytest.mark.soak),
    ],
)
def test_what_was_stopped_with_its_host_goes_on(
    gap_s: float, arguments: tuple[float | str, ...], workers_first: bool
) -> None:
    """A run, a cell and an idle session, all with less time left than they are stopped for."""
    told = told_after(gap_s, *arguments, workers_first=workers_first)
    assert told["told"] == {"run": "worked", "cell": "'worked'"}
    assert told["after"] == told["before"]
    kinds = {kind for kind, _ in told["events"]}
    assert not kinds & {"session.ended", "session.stuck", "zygote.lost", "host.lag", "session.breach"}, told["events"]
    gaps = [data["seconds"] for kind, data in told["events"] if kind == "host.gap"]
    assert len(gaps) == 1
    assert gap_s - 1.0 <= gaps[0] <= gap_s + 3.0
