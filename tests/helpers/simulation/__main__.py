"""Play one seed and tell its story: `make simulate SEED=123`."""

import sys

from helpers.simulation.engine import remove_folder
from helpers.simulation.world import World


def main() -> int:
    """Play the seed that is named; the exit code says whether its laws held."""
    world = World(int(sys.argv[1]))
    try:
        counts = world.play()
    except Exception as problem:
        print("\n".join(world.story))
        for asked in world.history.asked:
            ends = ", ".join(f"{told.at - 1000:.4f} {told.outcome!r:.120}" for told in asked.told)
            print(f"{asked.at - 1000:8.4f} {asked.text} {asked.session[:8]} {asked.durability}: {ends}")
        print(f"{type(problem).__name__}: {problem}")
        return 1
    finally:
        remove_folder()
    print("\n".join(world.story))
    print(counts)
    return 0


sys.exit(main())
