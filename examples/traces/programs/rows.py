"""An sqlite database in memory: rows are updated and read by key, in small transactions.

rows.py SECONDS. 60,000 rows of 500 bytes with an index over names in no order; 20 rows at a time
get a new note and name, 20 others are read, and 20 ms pass.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time

ROWS = 60_000
EACH = 20
PAUSE_S = 0.02


def main() -> None:
    """Run for so many seconds."""
    seconds = float(sys.argv[1])
    draw = random.Random(1)  # noqa: S311 - the same each time
    base = sqlite3.connect(":memory:", isolation_level=None)
    base.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note BLOB)")
    base.execute("BEGIN")
    rows = ((i, f"{draw.getrandbits(32):08x}", draw.randbytes(500)) for i in range(ROWS))
    base.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
    base.execute("CREATE INDEX item_by_name ON item (name)")
    base.execute("COMMIT")
    start, done = time.monotonic(), 0
    while (now := time.monotonic()) - start < seconds:
        base.execute("BEGIN")
        for _ in range(EACH):
            new = (f"{draw.getrandbits(32):08x}", draw.randbytes(500), draw.randrange(ROWS))
            base.execute("UPDATE item SET name = ?, note = ? WHERE id = ?", new)
            base.execute("SELECT note FROM item WHERE id = ?", (draw.randrange(ROWS),)).fetchone()
        base.execute("COMMIT")
        done += 1
        time.sleep(max(0.0, now + PAUSE_S - time.monotonic()))
    print(f"{done / seconds:.1f} transactions of {EACH} updates and {EACH} reads a second")


if __name__ == "__main__":
    main()
