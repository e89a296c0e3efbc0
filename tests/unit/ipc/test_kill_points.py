"""A point kills whoever is armed for it, the time it is told, and once where a file arms it; otherwise nothing happens."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.runs import SOURCE
from procession.ipc import kill_points

REACHING = """
import sys
from procession.ipc import kill_points
for point in sys.argv[1:]:
    kill_points.reach(point)
    print(point, flush=True)
"""


def reaching(setting: str, *points: str) -> tuple[int, list[str]]:
    """Reach these points in a process that is armed so; its exit code and the points that it went on from."""
    done = subprocess.run(
        [sys.executable, "-c", REACHING, *points],
        env={**os.environ, "PYTHONPATH": str(SOURCE), kill_points.VARIABLE: setting},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode in (0, -signal.SIGKILL, 1), done.stderr
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(
    ("setting", "lives"),
    [("", 3), ("mid_step", 1), ("after_report", 0), ("after_report:2", 2), ("after_report:3", 3), ("mid_stop", 3)],
)
def test_the_armed_point_kills_the_time_it_is_told(setting: str, lives: int) -> None:
    points = ["after_report", "mid_step", "after_report"]
    assert reaching(setting, *points) == (-signal.SIGKILL if lives < 3 else 0, points[:lives])


def test_a_file_kills_one_process_once(tmp_path: Path) -> None:
    order = tmp_path / "order"
    points = ["mid_step", "mid_step"]
    assert reaching(str(order), *points) == (0, points)
    order.write_text("mid_step:2\n")
    assert reaching(str(order), *points) == (-signal.SIGKILL, points[:1])
    assert not order.exists()
    assert reaching(str(order), *points) == (0, points)


def test_a_name_that_no_point_has_is_told_at_once() -> None:
    assert reaching("mid_nothing") == (1, [])
