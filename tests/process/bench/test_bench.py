"""`python -m bench` measures, writes its table and its JSON, and says by its exit code only whether something broke."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY

BENCH_TIMEOUT_S = 50.0


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *args],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=BENCH_TIMEOUT_S,
    )


@pytest.mark.process
@pytest.mark.slow
def test_a_group_is_measured_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench("--quick", "--only", "P1,P7", "--json", str(file))
    assert done.returncode == 0, done.stderr
    told = json.loads(file.read_text())
    assert told["broken"] == []
    by_key = {row["key"]: row for row in told["rows"]}
    assert set(by_key) == {"P1/owner", "P1/any", "P1/peer", "P7/idle"}
    assert all(len(row["ours"]) >= 5 for row in by_key.values())
    assert by_key["P1/owner"]["ratio"] > 1
    assert 0.5 < min(by_key["P7/idle"]["ours"]) < 50
    assert "raw pipe ping-pong" in done.stdout


@pytest.mark.process
def test_a_goal_that_there_is_not_is_a_usage_error() -> None:
    done = bench("--only", "P99")
    assert done.returncode == 2
    assert "no such goal: P99" in done.stderr
