"""How a guest is made from what arrived; everything that can be refused is refused early."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from paging_core.config import GuestConfig, GuestKind, Paging, TrackerConfig, check_kind
from paging_core.errors import BadTrace, InvalidInput
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from paging_core.migration_key import MigrationKey
from paging_core.proof import Proof
from paging_core.workloads.ops import OP_DTYPE, Workload
from wire.memory_digest import digest_memory

_TINY_BYTES = 4 * 2**20


class GuestFactory(Protocol):
    """Knows which guests this host can run."""

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        """Get everything ready that the guest needs here beside memory and state.

        Args:
            config: what it is made of, on the source.
            trace_digest: xxh3_64 of the trace file that it replays; 0 without one.

        Raises:
            InvalidInput: this host cannot run it.
        """


class ModelGuestFactory:
    """Makes `paging_core.model_guest.ModelGuest`."""

    def __init__(self, trace_dir: Path | None = None) -> None:
        """Look for traces by name in `trace_dir`, or at the source's own path when None."""
        self._trace_dir = trace_dir

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        """Open the workload or the trace now, not when the guest is already on its way.

        Raises:
            BadOption: this host has no guests of that kind.
            UnknownWorkload: there is no such workload here.
            BadTrace: no such trace here, or not the same one.
        """
        check_kind(config.kind, (GuestKind.MODEL,))
        from paging_core.guest_state import decode_state  # noqa: PLC0415 - imports numba, is slow
        from paging_core.model_guest import ModelGuest  # noqa: PLC0415 - see above

        warm_up()
        workload = self._workload(config, trace_digest)
        # A workload has kernels of its own, and a trace has a first piece: compiled, loaded and
        # read here, while the guest still runs where it is. What a machine has no room or no file
        # descriptor for is refused here, and not met by a guest that was taken over.
        workload.fill(0, np.zeros(1, OP_DTYPE))

        def resume(memory: GuestMemory, state: bytes) -> ModelGuest:
            # First of all: nothing is made by an unchecked configuration.
            _check_same(decode_state(state)[0], config)
            return ModelGuest.resume(memory, state, workload)

        return resume

    def _workload(self, config: GuestConfig, trace_digest: int) -> Workload:
        if not config.trace:
            from paging_core.workloads.catalog import workload_of  # noqa: PLC0415 - see above

            return workload_of(config)
        from paging_core.traces.opening import make_replay  # noqa: PLC0415 - pyarrow is slow, too

        path = self._trace_path(config.trace)
        try:
            return make_replay(str(path), config.seed, trace_digest)
        except BadTrace as error:
            raise BadTrace(
                f"on the destination: {error}; the source's trace must lie there, in the folder "
                "that dest-host is given with --trace-dir"
            ) from error

    def _trace_path(self, source_path: str) -> Path:
        path = Path(source_path)
        return path if self._trace_dir is None else self._trace_dir / path.name


def _check_same(taken: GuestConfig, announced: GuestConfig) -> None:
    """Limits and workload were checked on what Prepare announced: nothing else is taken over."""
    # Where a trace lies is each host's own business.
    here = replace(announced, trace=Path(announced.trace).name)
    for field in fields(GuestConfig):
        if getattr(taken, field.name) != getattr(here, field.name):
            raise InvalidInput(
                f"the state is of a guest of another {field.name} than Prepare announced; "
                "migrate it again"
            )


@cache
def warm_up() -> None:
    """Compile or load, once, everything that taking a guest over runs.

    The first guest's downtime would pay for it otherwise, and where nothing is compiled yet
    that is a minute.
    """
    from paging_core.model_guest import ModelGuest  # noqa: PLC0415 - see above

    for paging in Paging:
        config = GuestConfig(_TINY_BYTES, TrackerConfig(paging), workload="idle")
        guest = ModelGuest.boot(config)
        guest = ModelGuest.resume(guest.memory, guest.state())
        guest.run_accesses(1)
        digest_memory(guest.memory.frames)
        Proof(guest.memory.frames, MigrationKey.of_seed(0))
        guest.close()
