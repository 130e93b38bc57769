"""How model guests are made, fresh or of what arrived; what can be refused is refused early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paging_core.config import GuestConfig, Paging, TrackerConfig
from paging_core.errors import BadTrace, InvalidInput
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from paging_core.migration_key import MigrationKey
from paging_core.proof import Proof
from paging_core.workloads.ops import OP_DTYPE, Workload
from wire.memory_digest import digest_memory

if TYPE_CHECKING:
    from paging_core.model_guest import ModelGuest

_TINY_BYTES = 4 * 2**20


class ModelMaker:
    """Makes `paging_core.model_guest.ModelGuest`; a `paging_core.guest.GuestMaker`."""

    def boot(
        self,
        config: GuestConfig,
        look_up: Callable[[], None] = lambda: None,
        memory: GuestMemory | None = None,
    ) -> ModelGuest:
        """See `paging_core.guest.GuestMaker`."""
        from paging_core.model_guest import ModelGuest  # noqa: PLC0415 - imports numba, is slow

        return ModelGuest.boot(config, memory, look_up=look_up)

    def prepare(self, config: GuestConfig, trace_digest: int, trace_dir: Path | None) -> Resume:
        """Open the workload or the trace now, not when the guest is already on its way.

        Raises:
            UnknownWorkload: there is no such workload here.
            BadTrace: no such trace here, or not the same one.
        """
        from paging_core.guest_state import decode_state  # noqa: PLC0415 - imports numba, is slow
        from paging_core.model_guest import ModelGuest  # noqa: PLC0415 - see above

        workload = ready_workload(config, trace_digest, trace_dir)

        def resume(memory: GuestMemory, state: bytes) -> ModelGuest:
            # First of all: nothing is made by an unchecked configuration.
            check_same(decode_state(state)[0], config)
            return ModelGuest.resume(memory, state, workload)

        return resume


def ready_workload(config: GuestConfig, trace_digest: int, trace_dir: Path | None) -> Workload:
    """The load of a guest that arrives, and all that runs it, compiled and opened.

    A workload has kernels of its own, and a trace has a first piece: compiled, loaded and read
    here, while the guest still runs where it is. What a machine has no room or no file descriptor
    for is refused here, and not met by a guest that was taken over.

    Raises:
        UnknownWorkload, BadTrace: see `ModelMaker.prepare`.
    """
    warm_up()
    workload = _workload(config, trace_digest, trace_dir)
    workload.fill(0, np.zeros(1, OP_DTYPE))
    return workload


def _workload(config: GuestConfig, trace_digest: int, trace_dir: Path | None) -> Workload:
    if not config.trace:
        from paging_core.workloads.catalog import workload_of  # noqa: PLC0415 - see above

        return workload_of(config)
    from paging_core.traces.opening import make_replay  # noqa: PLC0415 - pyarrow is slow, too

    path = Path(config.trace)
    path = path if trace_dir is None else trace_dir / path.name
    try:
        return make_replay(str(path), config.seed, trace_digest)
    except BadTrace as error:
        raise BadTrace(
            f"on the destination: {error}; the source's trace must lie there, in the folder "
            "that dest-host is given with --trace-dir"
        ) from error


def check_same(taken: GuestConfig, announced: GuestConfig) -> None:
    """Limits and workload were checked on what Prepare announced: nothing else is taken over.

    Raises:
        InvalidInput: the state is of another guest.
    """
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
