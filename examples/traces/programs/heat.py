"""A numeric job: heat spreads on a square plate, step by step, a progress bar's worth at a time.

heat.py SECONDS RATE. Two arrays of 8 MiB, each computed from the other, RATE steps a second. Prints
how many it made. Needs numpy.
"""

from __future__ import annotations

import sys
import time

import numpy as np

SIDE = 1024


def main() -> None:
    """Run for sys.argv[1] seconds at sys.argv[2] steps a second."""
    seconds, rate = float(sys.argv[1]), float(sys.argv[2])
    plate = np.random.default_rng(1).random((SIDE, SIDE))
    plate[0, :] = 100.0
    after = plate.copy()
    start = time.monotonic()
    step = 0
    while (now := time.monotonic() - start) < seconds:
        if step >= now * rate:
            time.sleep((step + 1) / rate - now)
        np.add(plate[:-2, 1:-1], plate[2:, 1:-1], out=after[1:-1, 1:-1])
        after[1:-1, 1:-1] += plate[1:-1, :-2]
        after[1:-1, 1:-1] += plate[1:-1, 2:]
        after[1:-1, 1:-1] *= 0.25
        plate, after = after, plate
        step += 1
    print(f"{step / (time.monotonic() - start):.2f}")


if __name__ == "__main__":
    main()
