"""Whether kernels were compiled, as a host asks before it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from paging_core.compiled import is_cold
print(is_cold())
from paging_core.digest import frame_digests, public_key
import numpy
frame_digests(numpy.zeros((1, 4096), numpy.uint8), public_key())
print(is_cold())
"""


def test_a_cache_is_cold_until_something_was_compiled(tmp_path: Path) -> None:
    for expected in (["True", "False"], ["False", "False"]):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        )  # fmt: skip
        assert ended.stdout.split() == expected
