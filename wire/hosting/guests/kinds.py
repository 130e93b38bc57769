"""Which kinds of guest a host has, and what makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from paging_core.config import GuestConfig, GuestKind, check_kind
from paging_core.guest import Guest, GuestMaker, Resume
from wire.hosting.guests.kvm_guests import KvmGuestMaker
from wire.hosting.guests.models import ModelMaker
from wire.hosting.guests.process_guests import ProcessGuestMaker

MAKERS: Mapping[GuestKind, Callable[[], GuestMaker]] = {
    GuestKind.MODEL: ModelMaker,
    GuestKind.PROCESS: ProcessGuestMaker,
    GuestKind.KVM: KvmGuestMaker,
}
"""Every kind that this release can host. A maker loads what its kind needs when it makes one."""


class Kinds:
    """Makes guests of the kinds that a host has."""

    def __init__(
        self,
        makers: Mapping[GuestKind, GuestMaker] | None = None,
        trace_dir: Path | None = None,
    ) -> None:
        """What a host has.

        Args:
            makers: by kind; all that there are, in this very process, when None.
            trace_dir: where the traces of guests that arrive lie; None: where their source says.
        """
        self._makers = makers or {kind: maker() for kind, maker in MAKERS.items()}
        self._trace_dir = trace_dir

    def check(self, kind: GuestKind) -> None:
        """Refuse a kind by its name.

        Raises:
            BadOption: this host does not have it.
        """
        check_kind(kind, self._makers)

    def here(self, config: GuestConfig) -> GuestConfig:
        """An arriving guest's configuration, its trace where it lies on this host."""
        if not config.trace or self._trace_dir is None:
            return config
        return replace(config, trace=str(self._trace_dir / Path(config.trace).name))

    def boot(self, config: GuestConfig, look_up: Callable[[], None] = lambda: None) -> Guest:
        """See `GuestMaker.boot`.

        Raises:
            BadOption: this host does not have that kind.
        """
        self.check(config.kind)
        return self._makers[config.kind].boot(config, look_up)

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        """See `GuestMaker.prepare`.

        Raises:
            BadOption: this host does not have that kind.
        """
        self.check(config.kind)
        return self._makers[config.kind].prepare(config, trace_digest, self._trace_dir)
