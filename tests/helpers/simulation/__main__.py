"""Play one seed and tell its story, or many and count: `make simulate SEED=123`, `make simulate SEED=0-2999`."""

import sys
from collections import Counter

from helpers.simulation.engine import remove_folder
from helpers.simulation.world import World


def play_one(seed: int) -> int:
    """Play the seed that is named; the exit code says whether its laws held."""
    world = World(seed)
    try:
        counts = world.play()
    except Exception as problem:
        print("\n".join(world.story))
        for asked in world.history.asked:
            ends = ", ".join(f"{told.at - 1000:.4f} {told.outcome!r:.120}" for told in asked.told)
            print(f"{asked.at - 1000:8.4f} {asked.text} {asked.session[:8]} {asked.durability}: {ends}")
        print(f"{type(problem).__name__}: {problem}")
        return 1
    print("\n".join(world.story))
    print(counts)
    return 0


def play_many(first: int, last: int) -> int:
    """Play all of them, and say what they came to and which of them broke a law."""
    total: Counter[str] = Counter()
    broken: list[int] = []
    for seed in range(first, last + 1):
        try:
            total += Counter(vars(World(seed).play()))
        except Exception as problem:
            broken.append(seed)
            print(f"{seed}: {type(problem).__name__}: {problem}")
    ends = total["deaths"] + total["hosts"] - (last - first + 1 - len(broken))
    print(
        f"{last - first + 1} seeds, {total['calls']} calls, {total['acknowledged']} acknowledged; {ends} kills, of them "
        f"{total['hosts'] - (last - first + 1 - len(broken))} of hosts; laws broken by {len(broken)} seeds {broken[:20]}"
    )
    return 1 if broken else 0


def main() -> int:
    """Play what is asked for."""
    first, _, last = sys.argv[1].partition("-")
    try:
        return play_many(int(first), int(last)) if last else play_one(int(first))
    finally:
        remove_folder()


sys.exit(main())
