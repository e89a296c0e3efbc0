"""Law 8: signals go through pidfds. A bare pid may have been given to somebody else (R-67)."""

import ast
from pathlib import Path

import pytest

from helpers.sources import Source, local_names, resolved, room_sources

BARE = frozenset("os.kill os.killpg psutil.Process".split())
"""Calls that signal whoever has a number."""

NAMES_OF_POPEN = frozenset({"send_signal", "terminate", "kill"})
"""Methods that do the same below: subprocess looks first whether its child lives, which is no pidfd."""

WORKING_ROOMS = ("host", "agent_proc", "ipc")

MAY = {
    # kill(-1) inside a signal scope that was proved a line above reaches the domain, and nothing else.
    (Path("agent_proc/kill_domain.py"), "_signal_scope"): "os.kill(-1, number)",
    # To itself: a child signal put back because there is more to reap; a kill point of the tests.
    (Path("agent_proc/keeper.py"), "_reap"): "os.kill(self.pid, signal.SIGCHLD)",
    (Path("agent_proc/zygote.py"), "_reap"): "os.kill(os.getpid(), signal.SIGCHLD)",
    (Path("ipc/kill_points.py"), "_die"): "os.kill(os.getpid(), signal.SIGKILL)",
    # No descriptor was left for a pidfd of it; it is a child that only this thread reaps, so the number is its own.
    (Path("agent_proc/zygote.py"), "_fork_keeper"): "os.kill(pid, signal.SIGKILL)",
}


def bare_signals(source: Source) -> list[tuple[str, str, int]]:
    """List (function, call, line) of everything in a file that signals by a number."""
    found: list[tuple[str, str, int]] = []
    names = local_names(source)

    def walk(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            if isinstance(child, ast.Call):
                called = resolved(child.func, names)
                method = child.func.attr if isinstance(child.func, ast.Attribute) else ""
                if called in BARE or (method in NAMES_OF_POPEN and "subprocess" in names):
                    found.append((function, ast.unparse(child), child.lineno))
            elif (
                isinstance(child, ast.Attribute | ast.Name)
                and resolved(child, names) in BARE
                and not (isinstance(node, ast.Call) and node.func is child)
            ):
                found.append((function, ast.unparse(child), child.lineno))  # handed on under another name
            walk(child, inner)

    walk(source.tree(), "")
    return found


@pytest.mark.guarantee("R-67")
@pytest.mark.parametrize("source", room_sources(*WORKING_ROOMS), ids=str)
def test_nobody_is_signalled_by_a_bare_pid(source: Source) -> None:
    offences = [
        f"{source}:{line} {call} in {function}()"
        for function, call, line in bare_signals(source)
        if MAY.get((source.path, function)) != call
    ]
    assert offences == [], "send it through a pidfd"


def test_every_exception_still_is_one() -> None:
    seen = {
        (source.path, function): call
        for source in room_sources(*WORKING_ROOMS)
        for function, call, _ in bare_signals(source)
    }
    assert {place: call for place, call in MAY.items() if seen.get(place) != call} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import os\ndef f(p):\n    os.kill(p, 9)",
        "from os import kill as k\nk(1, 9)",
        "import os\nend = os.killpg",
        "import subprocess\ndef f(child):\n    child.terminate()",
    ],
)
def test_the_law_catches(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.py").write_text(text)
    monkeypatch.setattr("helpers.sources._parse", lambda _path: ast.parse(text))
    assert bare_signals(Source(Path("x.py")))
