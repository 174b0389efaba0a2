"""A neighbour that keeps all cores busy in bursts, for as long as it is wanted."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator

LOOPS = 2  # for each processor
SHORTEST, LONGEST = 0.02, 0.6  # seconds of a burst, and of a pause


@contextlib.contextmanager
def neighbour(*, wanted: bool = True) -> Iterator[None]:
    """Run beside the neighbour, if one is wanted."""
    count = LOOPS * (os.cpu_count() or 1) if wanted else 0
    command = [sys.executable, __file__]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    loops = [subprocess.Popen([*command, str(seed)], env=env) for seed in range(count)]
    try:
        time.sleep(0.5 if loops else 0)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(seed: int) -> None:
    """Multiply matrices in bursts for ever."""
    import numpy as np

    chance = random.Random(seed)
    matrix = np.random.default_rng(seed).random((300, 300))
    while True:
        end = time.perf_counter() + chance.uniform(SHORTEST, LONGEST)
        while time.perf_counter() < end:
            matrix @ matrix
        time.sleep(chance.uniform(SHORTEST, LONGEST))


if __name__ == "__main__":
    main(int(sys.argv[1]))
