"""How fast memory is digested and proved, and what else could prove it, on one core each.

    python -m bench.proof [--memory 1GiB] [--runs 5]

Rates are per second of processor time, so that other work on the machine does not count; the
best of the runs. Poly1305 and SHA-256 are what was weighed against GMAC; BLAKE3 is measured where
the package is installed, which pageferry does not need.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from cryptography.hazmat.primitives.poly1305 import Poly1305

from paging_core.digest import FrameKey, frame_digests
from paging_core.memory import Frames
from paging_core.migration_key import MigrationKey
from paging_core.proof import LEAF_FRAMES, Proof
from paging_core.units import FRAME_BYTES, parse_memory_bytes
from wire.memory_digest import digest_memory

KEY = MigrationKey.of_seed(1)
_LEAF_BYTES = LEAF_FRAMES * FRAME_BYTES


def chosen_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--memory", default="1GiB", help="random bytes (default 1GiB)")
    parser.add_argument("--runs", type=int, default=5, help="of each (default 5)")
    return parser.parse_args(arguments)


def of_leaves(tag: Callable[[memoryview], object]) -> Callable[[Frames], None]:
    """The same function over every leaf."""

    def all_of_them(frames: Frames) -> None:
        with frames.data.cast("B") as memory:
            for at in range(0, len(memory), _LEAF_BYTES):
                tag(memory[at : at + _LEAF_BYTES])

    return all_of_them


def ways() -> dict[str, Callable[[Frames], object]]:
    key = FrameKey.of(KEY)
    known: dict[str, Callable[[Frames], object]] = {
        "digest of each frame, as they are sent": lambda frames: [
            frame_digests(frames[at : at + 1024], key) for at in range(0, len(frames), 1024)
        ],
        "digest of memory, for people": digest_memory,
        "proof (GMAC, 128 KiB leaves)": lambda frames: Proof(frames, KEY),
        "Poly1305, likewise": of_leaves(lambda leaf: Poly1305.generate_tag(KEY.secret, leaf)),
        "SHA-256, likewise": of_leaves(lambda leaf: hashlib.sha256(leaf).digest()),
    }
    if find_spec("blake3") is not None:
        blake3 = import_module("blake3").blake3
        known["keyed BLAKE3, likewise"] = of_leaves(
            lambda leaf: blake3(leaf, key=KEY.secret).digest(16)
        )
    return known


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = chosen_of(arguments)
    n_frames = parse_memory_bytes(chosen.memory) // FRAME_BYTES
    frames = np.random.default_rng(1).integers(0, 256, (n_frames, FRAME_BYTES), np.uint8)
    digest_memory(frames[:1])  # compiled, or loaded
    for name, way in ways().items():
        best_s = float("inf")
        for _ in range(chosen.runs):
            before_s = time.process_time()
            way(frames)
            best_s = min(best_s, time.process_time() - before_s)
        print(f"{name:<42}{frames.nbytes / best_s / 1e9:>7.1f} GB/s per core")


if __name__ == "__main__":
    main()
