"""`import procession` is cheap: in a few milliseconds, with nothing heavy loaded. Fresh interpreters, not this one."""

import json
from statistics import median

import pytest

from helpers.runs import run_python

IMPORT_MS_MAX = 60.0  # performance.md; a program pays it at every start, whether it uses procession or not
ROUNDS = 5
HEAVY = {"pydantic", "asyncio", "typer", "rich", "psutil"}

MEASURE = """
import sys, time
began = time.perf_counter()
import procession
spent_ms = (time.perf_counter() - began) * 1000
import json
print(json.dumps([spent_ms, sorted(sys.modules)]))
"""


@pytest.mark.process
def test_import_takes_at_most_sixty_milliseconds_and_loads_nothing_heavy() -> None:
    spent_ms = []
    for _ in range(ROUNDS):
        done = run_python(MEASURE)
        assert done.returncode == 0, done.stderr
        elapsed_ms, modules = json.loads(done.stdout)
        spent_ms.append(elapsed_ms)
        assert set(modules) & HEAVY == set()
    assert median(spent_ms) <= IMPORT_MS_MAX


@pytest.mark.process
@pytest.mark.parametrize("name", ["Host", "isolated", "Sandbox", "Limits", "ToolTimedOut"])
def test_a_name_of_the_sync_face_loads_nothing_heavy(name: str) -> None:
    done = run_python(f"import sys, json; from procession import {name}; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) & HEAVY == set()
