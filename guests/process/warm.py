"""Compiles what a process as guest runs, so that nothing waits for it later."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import cache

from guests.process.guest import ProcessGuest
from paging_core.config import GroupPolicy, GuestConfig, GuestKind, TrackerConfig
from paging_core.errors import CannotTrack

_MEMORY_BYTES = 4 << 20
_OPS = 64


@cache
def compile_all() -> None:
    """Compile, or load what an earlier run compiled; without a right to track, what is left."""
    tracker = TrackerConfig(group=GroupPolicy(adaptive=True))
    config = GuestConfig(_MEMORY_BYTES, tracker, kind=GuestKind.PROCESS, workload="idle")
    with closing(ProcessGuest.boot(config)) as guest:
        guest.run_accesses(_OPS)
        with suppress(CannotTrack):
            guest.start_tracking()
            guest.run_accesses(_OPS)
            guest.clean()
