"""A directory that one process at a time writes to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from paging_core.errors import PageferryError


@contextmanager
def exclusive(
    directory: Path,
    check: Callable[[Path], None],
    *,
    taken: PageferryError,
    failed: Callable[[OSError], PageferryError],
) -> Iterator[None]:
    """Make a directory if it does not exist, and lock it until the block ends.

    Args:
        directory: to write to.
        check: raises if it cannot be used; called before anything is made, and again under the
            lock, since the process that held it before may have left something.
        taken: raised if another process has the lock.
        failed: makes the error of a directory that cannot be made or opened.

    Raises:
        PageferryError: of `check`, `taken` or `failed`.
    """
    check(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise failed(error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken from None
        check(directory)
        yield
    finally:
        os.close(lock)
