"""Draws the tables of two result documents as the SVG that the README shows.

python docs/pictures/record.py single.json grouped.json > docs/pictures/redis.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from pageferry import results
from pageferry.comparison import labels
from pageferry.tables import rounds, summary

_COLUMNS = 104
_FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def draw(first: Path, second: Path) -> str:
    """Rounds of the second migration, then both side by side."""
    documents = [results.read(first), results.read(second)]
    names = labels(documents, [first.stem, second.stem])
    console = Console(
        record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(f"[bold]{names[1]}, by round[/]\n")
    console.print(rounds(documents[1]["rounds"]))
    console.print("\n[bold]both, side by side[/]\n")
    console.print(summary(documents, names))
    drawn = console.export_svg(title="pageferry compare", unique_id="pageferry")
    # No fonts from elsewhere: the text is laid out by its own widths.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code, monospace", _FONT)


if __name__ == "__main__":
    sys.stdout.write(draw(*map(Path, sys.argv[1:3])))
