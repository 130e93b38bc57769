"""The guest's loop, compiled: one operation after the other, each at its time.

What it executes are the model's operations by the model's guest kernel, so that memory holds the
same bytes; but every store is a store to this process's memory, and where that is protected the
loop waits in a page fault. It does not hold the interpreter lock then.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from guests.compiled import kernel
from guests.linux.handler_state import HandlerView
from guests.linux.histogram import bin_of
from guests.linux.raw_calls import SYS_NANOSLEEP, SYS_SCHED_YIELD, now_ns, raw_call
from guests.process.run_state import N_SAMPLES, SAMPLE_NS, RunView
from paging_core.kernels.execute import execute
from paging_core.kernels.pointers import RecordArray
from paging_core.kernels.state import Core
from paging_core.kernels.views import OpView
from paging_core.units import PS_PER_NS

Words = npt.NDArray[np.int64]
Samples = npt.NDArray[np.int64]
"""int64 (N_SAMPLES, 2): time that the guest ran in nanoseconds, and its position then."""

N_RUN_SCRATCH = 4
_SLACK_NS = 2_000_000
"""So far behind its pace the guest catches up; what is more is lost, as to a program that waits."""
_SPIN_NS = 100_000
"""A wait that is shorter is spun away: sleeping may take as long."""
_LONGEST_SLEEP_NS = 1_000_000
"""After which the loop looks whether it shall stop."""


@kernel
def _clock_ns(r: RunView, scratch: Words) -> int:
    return now_ns(scratch, r.scratch_at)


@kernel
def _load_ns(m: Core) -> int:
    """The load's own time: what its operations take without anybody in their way."""
    return (m.time.run_ps + m.time.spent_ps) // PS_PER_NS


@kernel
def _stand_still(r: RunView, scratch: Words) -> int:
    """Wait while held; that time is not the guest's. Returns the clock."""
    begun_ns = _clock_ns(r, scratch)
    r.held = 1
    while r.hold and not r.stop:
        raw_call(SYS_SCHED_YIELD, 0, 0, 0)
    r.held = 0
    now = _clock_ns(r, scratch)
    r.origin_ns += now - begun_ns
    return now


@kernel
def _wait(r: RunView, scratch: Words, ahead_ns: int) -> None:
    """Let a part of what the guest is ahead of its pace pass."""
    if ahead_ns > _SPIN_NS:
        scratch[2] = 0
        scratch[3] = min(ahead_ns - _SPIN_NS // 2, _LONGEST_SLEEP_NS)
        raw_call(SYS_NANOSLEEP, r.scratch_at + 16, 0, 0)


@kernel
def _note_stall(r: RunView, ns: int) -> None:
    r.stalls += 1
    r.stalled_ns += ns
    r.latency[bin_of(ns)] += 1


@kernel
def _sample(r: RunView, samples: Samples) -> None:
    at = r.samples % N_SAMPLES
    samples[at, 0] = r.ran_ns
    samples[at, 1] = r.position
    r.samples += 1
    r.next_sample_ns = r.ran_ns - r.ran_ns % SAMPLE_NS + SAMPLE_NS


@kernel
def _ahead_ns(m: Core, r: RunView, now: int) -> int:
    """How long the next operation has to wait for its time; a guest far behind loses its place."""
    if r.paced == 0:
        return 0
    if r.origin_ns < 0:
        r.origin_ns = now - _load_ns(m) + r.lead_ns
    ahead = r.origin_ns + _load_ns(m) - now
    if ahead < -_SLACK_NS:
        lost = -ahead - _SLACK_NS
        r.origin_ns += lost
        r.slipped_ns += lost
    return ahead


@kernel
def run_operations(
    m: Core,
    r: RunView,
    h: HandlerView,
    ops: RecordArray[OpView],
    first: int,
    samples: Samples,
    scratch: Words,
) -> int:
    """Run operations until they end, or the guest is stopped or gives up.

    Args:
        m: the core of the machine whose memory it is.
        r: its record.
        h: the record of the handler of its faults, whose count of them is looked at.
        ops: records of OP_DTYPE; the first of them is at position `r.first`.
        first: where to begin.
        samples: see `Samples`.
        scratch: words that `r.scratch_at` is the address of.

    Returns:
        The index of the first operation that was not run.
    """
    at = first
    now = _clock_ns(r, scratch)
    while at < ops.shape[0] and r.stop == 0 and m.vcpu.out_of_memory == 0:
        if r.hold:
            now = _stand_still(r, scratch)
            continue
        ahead = _ahead_ns(m, r, now)
        faults = h.messages
        if ahead > 0:
            _wait(r, scratch, ahead)
        else:
            # Until its time passes at all: one operation, and those before it that take none.
            at = execute(m, ops, at, m.time.run_ps + m.time.spent_ps + 1)
        then = _clock_ns(r, scratch)
        if ahead <= 0 and h.messages != faults:
            _note_stall(r, then - now)
        r.ran_ns += then - now
        r.position = r.first + at
        now = then
        if r.ran_ns >= r.next_sample_ns:
            _sample(r, samples)
    # The last operation's own time may not have passed: it does before the next one.
    r.lead_ns = max(0, r.origin_ns + _load_ns(m) - now) if r.origin_ns >= 0 else 0
    return at
