"""Many hosts, sessions, clients and faults in virtual time: the real code, checked against the laws afterwards.

Each seed is a run of its own and the same every time. `make check` plays 2 000, a soak more; one that fails says how to play it
again: `make simulate SEED=<n>`. Seeds that once failed stand in seeds.txt.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from helpers.simulation.engine import remove_folder
from helpers.simulation.world import World

SEEDS = 2_000
SOAK_SEEDS = 200_000
GROUPS = 40
"""Tests among which they are shared out: so that two workers have both."""
FIRST = 1_000_000
"""Away from the seeds that are kept."""
KEPT = [
    int(line.split()[0])
    for line in Path(__file__).with_name("seeds.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def play(seed: int) -> Counter[str]:
    """Play a seed; what breaks says how to play it alone."""
    try:
        return Counter(vars(World(seed).play()))
    except Exception as problem:
        problem.add_note(f"play it again: make simulate SEED={seed}")
        raise


@pytest.fixture(autouse=True)
def no_folder() -> object:
    yield
    remove_folder()


@pytest.mark.guarantee("R-02", "R-04", "R-17", "R-29", "R-30", "R-36", "R-49", "R-53", "R-54", "R-61", "R-62")
@pytest.mark.timeout(0 if os.environ.get("PROCESSION_SOAK") else 120)
@pytest.mark.parametrize("group", range(GROUPS))
def test_no_law_is_broken(group: int, soak_factor: int) -> None:
    count = (SOAK_SEEDS if soak_factor > 1 else SEEDS) // GROUPS
    total: Counter[str] = Counter()
    for seed in range(FIRST + group * count, FIRST + (group + 1) * count):
        total += play(seed)
    assert total["deaths"] > count  # of processes: they did not just sit there
    assert total["hosts"] > count
    assert total["acknowledged"] > total["calls"] // 3
    print(dict(total))


@pytest.mark.parametrize("seed", KEPT)
def test_what_was_found_once_does_not_come_back(seed: int) -> None:
    play(seed)


def test_a_seed_is_the_same_run_every_time() -> None:
    first, second = World(7), World(7)
    assert first.play() == second.play()
    assert first.story == second.story
