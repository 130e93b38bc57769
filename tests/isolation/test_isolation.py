"""No guest reaches anything but itself, whatever stands in its memory and in its state.

Each run attacks guests in a process of its own (attack.py), which ends badly if one does anything
but be refused on arrival, crash as a guest, or run on. The long run has a million words, half of
them with numba's bounds checking: `make test-isolation`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import paging_core.compiled  # noqa: F401 - says where kernels are kept

WORDS = int(os.environ.get("PAGEFERRY_ISOLATION_WORDS", "0"))
EVERYDAY_WORDS, EVERYDAY_S = 50_000, 8
LONG_S = 540
_LATE_S = 900
"""After its time is over, on a machine that compiles kernels and does a great deal else."""
ROOT = Path(__file__).parents[2]


def attack(seed: int, words: int, seconds: int, environment: dict[str, str]) -> dict[str, int]:
    """What became of guests that were attacked."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.isolation.attack"]
    ended = subprocess.run(
        [*command, str(seed), str(words), str(seconds)],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds + _LATE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    became: dict[str, int] = json.loads(ended.stdout)
    print(became)
    return became


def checked() -> dict[str, str]:
    """Kernels that check the bounds of numpy's arrays; compiled to a folder of their own."""
    folder = str(vars(numba.config)["CACHE_DIR"])
    return {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": folder.rstrip("/") + "-checked"}


def test_guests_are_refused_or_crash_or_run_on() -> None:
    became = attack(1, EVERYDAY_WORDS, EVERYDAY_S, {})
    assert became["words"] > 1000
    assert min(became[outcome] for outcome in ("refused", "crashed", "ran on")) > 10


@pytest.mark.skipif(not WORDS, reason="the long run, make test-isolation")
@pytest.mark.parametrize("environment", [{}, checked()], ids=["as they run", "with bounds checks"])
def test_a_great_many_words(environment: dict[str, str]) -> None:
    became = attack(2 + len(environment), WORDS // 2, LONG_S, environment)
    assert became["words"] >= WORDS // 2
