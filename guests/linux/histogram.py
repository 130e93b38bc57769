"""Latencies by powers of two, counted in compiled code."""

from __future__ import annotations

from guests.compiled import kernel


@kernel
def bin_of(ns: int) -> int:
    """The bin of a latency: k for 2**(k-1) to below 2**k ns, 0 for none."""
    at = 0
    while ns > 0:
        ns >>= 1
        at += 1
    return at
