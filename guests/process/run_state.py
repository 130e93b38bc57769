"""What the guest's compiled loop and its owner share."""

from __future__ import annotations

import numpy as np

from guests.linux.handler_state import HISTOGRAM_BINS
from paging_core.kernels.pointers import Ints

SAMPLE_NS = 10_000_000
"""Between two samples of the guest's progress."""
N_SAMPLES = 4096
"""Kept; the oldest go first. 41 seconds of running."""

RUN_DTYPE = np.dtype(
    [
        ("scratch_at", np.int64),
        # asked for
        ("stop", np.int64),  # return soon, between two operations
        ("hold", np.int64),  # stand still, within the loop
        ("paced", np.int64),  # keep to the load's own pace
        # state
        ("inside", np.int64),  # the loop runs, or waits in a fault
        ("held", np.int64),  # it stands still because of `hold`
        ("origin_ns", np.int64),  # the clock when the load's time was 0; -1: not known yet
        ("lead_ns", np.int64),  # what it was ahead of its pace when the loop was last left
        ("first", np.int64),  # position of the first of the operations at hand
        ("position", np.int64),
        ("ran_ns", np.int64),  # time in the loop, without that it was held
        # counters
        ("slipped_ns", np.int64),  # time that the guest is behind its pace for good
        ("stalls", np.int64),  # operations that waited for the fault handler
        ("stalled_ns", np.int64),  # what those took
        ("latency", np.int64, (HISTOGRAM_BINS,)),  # of each of those; as the handler's bins
        ("next_sample_ns", np.int64),  # of `ran_ns`
        ("samples", np.int64),  # taken so far; the next one goes to that modulo N_SAMPLES
    ]
)
"""A guest that runs: orders to its loop, where it is, and what it met."""


class RunView:
    """Fields of a RUN_DTYPE, for type checkers alone."""

    scratch_at: int
    stop: int
    hold: int
    paced: int
    inside: int
    held: int
    origin_ns: int
    lead_ns: int
    first: int
    position: int
    ran_ns: int
    slipped_ns: int
    stalls: int
    stalled_ns: int
    latency: Ints
    next_sample_ns: int
    samples: int
