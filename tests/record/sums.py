"""Threads that compute what is known, over and over, in user code and in system calls.

Says "right" or "wrong" for each round, until SIGTERM.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading

THREADS = 4
stop = threading.Event()


def of_one(number: int) -> str:
    """A digest of memory that is written, piped through the kernel, and hashed without a lock."""
    buffer = bytearray(1 << 18)
    read, write = os.pipe()
    for i in range(0, len(buffer), 4096):
        buffer[i : i + 8] = (i * (number + 3)).to_bytes(8, "little")
        os.write(write, buffer[i : i + 64])
        buffer[i + 64 : i + 128] = os.read(read, 64)
    os.close(read)
    os.close(write)
    digest = hashlib.sha256()
    for _ in range(8):
        digest.update(buffer)
    return digest.hexdigest()


def main() -> None:
    known = [of_one(number) for number in range(THREADS)]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    wrong: list[int] = []

    def compute(number: int) -> None:
        while not stop.is_set():
            if of_one(number) == known[number]:
                os.write(1, b"right\n")
            else:
                os.write(1, b"wrong\n")
                wrong.append(number)

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    # The kernel may give SIGTERM to any thread, and that wakes the first one, whose handler has to
    # run, out of no lock that it waits for without a timeout.
    while not stop.wait(0.05):
        pass
    for thread in threads:
        thread.join()
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
