"""Whether two hosts of our own find room on this machine, before one of them is killed for it."""

from __future__ import annotations

from pathlib import Path

from paging_core.errors import BadOption
from paging_core.units import format_bytes

_MIB = 1 << 20
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Limit and use of version 2 and of version 1, below the root of the file system of cgroups."""


def check_room(memory_bytes: int, *, twin: bool = False) -> None:
    """Refuse a guest that this machine cannot hold twice, or three times with its twin.

    Raises:
        BadOption: naming what it can hold.
    """
    left = available_bytes()
    times = 3 if twin else 2
    if left is None or times * memory_bytes <= left:
        return
    often, beside = ("three times", ", its untracked twin among them,") if twin else ("twice", "")
    raise BadOption(
        f"a guest of {format_bytes(memory_bytes)} exists {often}{beside} while it migrates, and "
        f"this machine has {format_bytes(left)} left; use {_ways_out(memory_bytes, left, twin)}"
    )


def _ways_out(memory_bytes: int, left: int, twin: bool) -> str:
    """What can be done; to keep no twin is one where that is enough by itself."""
    two, three = (f"--memory {max(1, left // times // _MIB)}MiB or less" for times in (2, 3))
    machines = "or hosts on two machines (--source, --dest)"
    if not twin:
        return f"{two}, {machines}"
    if 2 * memory_bytes <= left:
        return f"--no-twin, {three}, {machines}"
    return f"{three}, --no-twin and {two}, {machines}"


def available_bytes(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Memory that new processes can still get here; None if it is not known."""
    found = [_available(meminfo), *(_left(cgroups / a, cgroups / b) for a, b in _CGROUPS)]
    return min((one for one in found if one is not None), default=None)


def _available(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left(limit: Path, used: Path) -> int | None:
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no such cgroup, or no limit ("max")
        return None
