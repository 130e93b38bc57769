"""Whether kernels were compiled, as a host asks before it serves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from paging_core import digest

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


def test_what_a_kernel_calls_is_part_of_it_and_leaves_no_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    source = Path(digest.__file__).read_text()
    assert len(re.findall(r"^@kernel", source, re.MULTILINE)) > 1
    assert {path.name.split("-")[0] for path in tmp_path.rglob("*.nbc")} == {"digest._examine"}
