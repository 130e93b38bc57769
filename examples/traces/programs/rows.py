"""An sqlite database in memory: rows are updated and read by key, in small transactions.

rows.py SECONDS RATE. 60,000 rows of 500 bytes with an index over names in no order; RATE times a
second 20 rows get a new note and name, and 20 others are read. Prints how often a second it did.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time

ROWS = 60_000
EACH = 20


def main() -> None:
    """Run for so many seconds."""
    seconds, rate = float(sys.argv[1]), float(sys.argv[2])
    draw = random.Random(1)  # noqa: S311 - the same each time
    base = sqlite3.connect(":memory:", isolation_level=None)
    base.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note BLOB)")
    base.execute("BEGIN")
    rows = ((i, f"{draw.getrandbits(32):08x}", draw.randbytes(500)) for i in range(ROWS))
    base.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
    base.execute("CREATE INDEX item_by_name ON item (name)")
    base.execute("COMMIT")
    start, done = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        time.sleep(max(0.0, done / rate - now))
        base.execute("BEGIN")
        for _ in range(EACH):
            new = (f"{draw.getrandbits(32):08x}", draw.randbytes(500), draw.randrange(ROWS))
            base.execute("UPDATE item SET name = ?, note = ? WHERE id = ?", new)
            base.execute("SELECT note FROM item WHERE id = ?", (draw.randrange(ROWS),)).fetchone()
        base.execute("COMMIT")
        done += 1
    print(f"{done / (time.monotonic() - start):.1f}")


if __name__ == "__main__":
    main()
