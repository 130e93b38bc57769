"""What README.md says was measured comes out again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pageferry.document import Document
from tests.pageferry.hosts import pageferry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def row_of(document: Document) -> str:
    """The figures of a row of the README's table."""
    slowdown = document["guest"]["slowdown"]
    assert slowdown is not None
    return (
        f"| +{100 * (slowdown - 1):.2f} % "
        f"| {document['faults']['total']:,} "
        f"| {document['pages']['falsely_dirty']:,} "
        f"| {document['bytes']['wire'] / 2**20:.2f} MiB "
        f"| {1e3 * document['time']['downtime_s']:.1f} ms |"
    )


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ("--paging hap --pml", "| hap, `--pml` | – "),
        ("--group-pages 64 --no-suppress", "| shadow, blow, `--no-suppress` | 64 "),
    ],
)
def test_rows_of_the_table_are_what_the_command_above_it_measures(
    options: str, row: str, tmp_path: Path
) -> None:
    """The options in the text, run as they stand there."""
    command = re.search(r"`pageferry (migrate --memory [^`]+)`", PAGE)
    assert command is not None
    words = command[1].replace("examples/", f"{ROOT}/examples/").split()
    target = tmp_path / "result.json"
    done = pageferry(*words, *options.split(), "--quiet", "--json", str(target))
    assert done.returncode == 0, done.stderr
    assert row + row_of(json.loads(target.read_text())) in PAGE.splitlines()
