"""Compile every kernel now, so that nothing waits for it later: ``python -m paging_core.warm``.

Kernels are compiled on their first call, for the types of that call; so the way to compile
them all is to use them all, on the smallest guest that there is.
"""

from __future__ import annotations

from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from paging_core.config import CLEAN_POLICIES, GroupPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.digest import frame_digests, public_key
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.traces.lackey import import_lackey
from paging_core.traces.opening import make_replay
from paging_core.traces.written.schema import VM, Recording
from paging_core.traces.written.writer import WrittenPagesWriter
from paging_core.units import FRAME_BYTES
from paging_core.workloads.catalog import describe_workloads
from paging_core.workloads.ops import OP_DTYPE

_MEMORY_BYTES = 16 << 20
_WORKING_SET = "1MiB"
_OPS = 256


def _live(guest: ModelGuest) -> None:
    """Let a guest do everything that a migration makes a guest do."""
    guest.start_tracking()
    guest.run_accesses(_OPS)
    guest.peek()
    guest.note_sent(np.zeros(1, np.int64), np.zeros(1, np.bool_))
    guest.clean()
    guest.clear_log(np.arange(64))
    guest.stop_tracking()
    with closing(ModelGuest.resume(_copy_of(guest.memory), guest.state())) as with_moved:
        with_moved.run_accesses(_OPS)
        frame_digests(with_moved.memory.frames, public_key())


def _copy_of(memory: GuestMemory) -> GuestMemory:
    copy = GuestMemory(memory.n_frames)
    np.copyto(copy.frames, memory.frames)
    return copy


def _warm_trackers() -> None:
    for paging in Paging:
        for clean in CLEAN_POLICIES[paging]:
            group = GroupPolicy(d_bit_filter=True, adaptive=True)
            tracker = TrackerConfig(paging=paging, clean=clean, group=group)
            workload = f"churn:wss={_WORKING_SET}"
            config = GuestConfig(_MEMORY_BYTES, tracker, workload=workload)
            with closing(ModelGuest.boot(config)) as guest:
                _live(guest)


def _warm_workloads() -> None:
    for workload in describe_workloads():
        spec = f"{workload.name}:wss={_WORKING_SET}"
        with closing(ModelGuest.boot(GuestConfig(_MEMORY_BYTES, workload=spec))) as guest:
            guest.run_accesses(_OPS)


def _warm_traces() -> None:
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "tiny.parquet"
        import_lackey(BytesIO(b"I  00001000,3\n S 00002000,8\n"), trace)
        make_replay(str(trace), 0).fill(0, np.zeros(1, OP_DTYPE))
        with WrittenPagesWriter(trace) as written:
            written.window(0, 1, np.ones(1, np.uint64))
            written.finish(Recording(VM))
        make_replay(str(trace), 0).fill(0, np.zeros(1, OP_DTYPE))


def _warm_digests() -> None:
    """Of memory, as a guest's is warmed already, and of copies in read-only bytes."""
    frames = np.frombuffer(bytes(FRAME_BYTES), np.uint8).reshape(1, FRAME_BYTES)
    frame_digests(frames, public_key())


def compile_all() -> None:
    """Compile, or load what an earlier run compiled."""
    _warm_trackers()
    _warm_workloads()
    _warm_traces()
    _warm_digests()


def main() -> None:
    """Say on the terminal what takes so long."""
    print("compiling the model (half a minute, once)", flush=True)
    compile_all()


if __name__ == "__main__":
    main()
