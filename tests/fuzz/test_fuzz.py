"""Fuzzing every day: what was found once is not found again, and what is broken is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.catalog import CORPUS, TARGETS


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may be ended."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,  # seconds: less than a test may take, and enough on a busy machine
    )


def test_the_inputs_in_the_tree() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    done = fuzz("--corpus")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    for name in TARGETS:
        assert re.search(rf"nothing is wrong with [1-9][0-9]* inputs of {name}\n", done.stdout)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("raises", "KeyError"),
        ("ends", "deadly signal"),
        ("hangs", "timeout after"),
        ("takes", "out-of-memory"),
    ],
)
def test_what_is_broken_is_found_kept_and_can_be_repeated(
    tmp_path: Path, target: str, says: str
) -> None:
    limits = ["--timeout", "3", "--memory", "400", "--minutes", "0.5", "--seed", "7"]
    done = fuzz("--out", str(tmp_path), *limits, target)
    assert done.returncode == 1, done.stdout
    assert says in (tmp_path / f"{target}.log").read_text(errors="replace")
    (kept,) = tmp_path.glob(f"{target}-*")
    assert kept.read_bytes().startswith(b"b")
    assert f"tests.fuzz --repeat {target} {kept}" in done.stdout
    if target in {"raises", "ends"}:
        assert fuzz("--repeat", target, str(kept)).returncode != 0


def test_what_is_whole_is_not_found(tmp_path: Path) -> None:
    done = fuzz("--out", str(tmp_path), "--minutes", "0.05", "--seed", "1", "words")
    assert done.returncode == 0, done.stdout
    assert "none of 1 targets found something" in done.stdout


def test_a_target_that_is_not_there() -> None:
    done = fuzz("nothing")
    assert done.returncode == 2
    assert "they are decode, batches" in done.stderr
