"""What a machine ran out of, told from a bug: the one place that knows the signs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from paging_core.errors import LimitExceeded

_BY_NUMBER = {
    errno.EMFILE: (
        "file descriptors",
        "raise its limit (ulimit -n, LimitNOFILE= of a systemd unit) or have it do less at a time",
    ),
    errno.ENFILE: (
        "file descriptors of the whole machine",
        "raise fs.file-max or end what holds so many",
    ),
    errno.ENOMEM: (
        "memory",
        "delete guests, or raise the limit of its cgroup or its addresses (ulimit -v)",
    ),
    errno.ENOBUFS: ("memory for sockets", "close connections or raise net.core.wmem_max"),
    errno.ENOSPC: ("room on a disk", "make room there"),
    errno.EDQUOT: ("room on a disk, by its quota", "make room there or raise the quota"),
}
"""What is gone, and what there is to do, by the number of the system's error."""
_THREADS = (
    "threads",
    "raise their limit (ulimit -u, TasksMax=, pids.max) or that of addresses (ulimit -v)",
)
_NO_THREAD = "can't start new thread"
"""The text of the RuntimeError of `threading`, which has no class of its own."""


def ran_out(error: BaseException) -> LimitExceeded | None:
    """The error that names what was missing and what to raise; None for any other error.

    The signs are EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC and EDQUOT of an OSError, MemoryError, and
    the RuntimeError of a thread that could not be started.
    """
    if isinstance(error, MemoryError):
        gone = _BY_NUMBER[errno.ENOMEM]
    elif isinstance(error, OSError) and error.errno in _BY_NUMBER:
        gone = _BY_NUMBER[error.errno]
    elif isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        gone = _THREADS
    else:
        return None
    what, way_out = gone
    said = " ".join(str(error).split()) or type(error).__name__
    return LimitExceeded(f"this host ran out of {what} ({said}); {way_out}")


def ran_out_as_told(text: str) -> LimitExceeded | None:
    """As `ran_out`, of what a library wrote about an error of the system and did not raise."""
    for number in (errno.EMFILE, errno.ENFILE):
        if os.strerror(number) in text:
            return ran_out(OSError(number, os.strerror(number)))
    return None


@contextmanager
def named_limits() -> Iterator[None]:
    """Turn the signs of `ran_out` into the error that names them.

    Raises:
        LimitExceeded: something ran out.
    """
    try:
        yield
    except Exception as error:
        limit = ran_out(error)
        if limit is None:
            raise
        raise limit from error
