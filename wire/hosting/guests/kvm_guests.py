"""How virtual machines as guests are made, fresh or of what arrived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from paging_core.config import GuestConfig
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from wire.hosting.guests.models import check_same, ready_workload

if TYPE_CHECKING:
    from guests.kvm.guest import KvmGuest


class KvmGuestMaker:
    """Makes `guests.kvm.guest.KvmGuest`; a `paging_core.guest.GuestMaker`."""

    def boot(
        self,
        config: GuestConfig,
        look_up: Callable[[], None] = lambda: None,
        memory: GuestMemory | None = None,
    ) -> KvmGuest:
        """See `paging_core.guest.GuestMaker`.

        Raises:
            CannotVirtualize: this machine runs no virtual machine, or not for this user.
        """
        from guests.kvm.device import check_machine  # noqa: PLC0415 - only who asks for it needs it
        from guests.kvm.guest import KvmGuest  # noqa: PLC0415 - imports numba, is slow

        check_machine()
        return KvmGuest.boot(config, memory, look_up=look_up)

    def prepare(self, config: GuestConfig, trace_digest: int, trace_dir: Path | None) -> Resume:
        """See `ModelMaker.prepare`.

        Raises:
            CannotVirtualize: this machine runs no virtual machine, or not for this user.
        """
        from guests.kvm.device import check_machine  # noqa: PLC0415 - see above
        from guests.kvm.guest import KvmGuest  # noqa: PLC0415 - see above
        from guests.kvm.state import decode  # noqa: PLC0415 - see above

        check_machine()
        workload = ready_workload(config, trace_digest, trace_dir)

        def resume(memory: GuestMemory, state: bytes) -> KvmGuest:
            check_same(decode(state)[0], config)
            return KvmGuest.resume_from(memory, state, workload)

        return resume
