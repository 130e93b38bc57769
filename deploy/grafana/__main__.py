"""Write the dashboards; `--check` compares them instead.

python -m deploy.grafana [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.grafana import fleet, migration, paging
from deploy.grafana.boards import Board

OUT = Path(__file__).parent / "dashboards"


def boards() -> list[Board]:
    """All that there are."""
    return [migration.board(), paging.board(), fleet.board()]


def main() -> None:
    """Write, or compare."""
    wanted = {OUT / f"{board.name}.json": board.text() for board in boards()}
    if "--check" in sys.argv[1:]:
        found = {path: path.read_text() for path in OUT.glob("*.json")}
        stale = sorted(path.name for path in wanted.keys() | found.keys()
                       if wanted.get(path) != found.get(path))  # fmt: skip
        if stale:
            sys.exit(f"{', '.join(stale)}: not what the code says; run make dashboards")
        return
    for path, text in wanted.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
