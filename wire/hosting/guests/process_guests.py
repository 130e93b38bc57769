"""How processes as guests are made, fresh or of what arrived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from paging_core.config import GuestConfig
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from wire.hosting.guests.models import check_same, ready_workload

if TYPE_CHECKING:
    from guests.process.guest import ProcessGuest


class ProcessGuestMaker:
    """Makes `guests.process.guest.ProcessGuest`; a `paging_core.guest.GuestMaker`."""

    def boot(
        self,
        config: GuestConfig,
        look_up: Callable[[], None] = lambda: None,
        memory: GuestMemory | None = None,
    ) -> ProcessGuest:
        """See `paging_core.guest.GuestMaker`.

        Raises:
            CannotTrack: its writes could not be tracked on this machine, or by this user.
        """
        from guests.process.guest import ProcessGuest  # noqa: PLC0415 - imports numba, is slow
        from guests.process.tracking import check_machine  # noqa: PLC0415 - see above

        check_machine(config)
        return ProcessGuest.boot(config, memory, look_up=look_up)

    def prepare(self, config: GuestConfig, trace_digest: int, trace_dir: Path | None) -> Resume:
        """See `ModelMaker.prepare`. It runs where nothing can be tracked, too."""
        from guests.process.guest import ProcessGuest  # noqa: PLC0415 - imports numba, is slow
        from guests.process.warm import compile_all  # noqa: PLC0415 - see above
        from paging_core.guest_state import decode_state  # noqa: PLC0415 - see above

        workload = ready_workload(config, trace_digest, trace_dir)
        compile_all()

        def resume(memory: GuestMemory, state: bytes) -> ProcessGuest:
            check_same(decode_state(state)[0], config)
            return ProcessGuest.resume_from(memory, state, workload)

        return resume
