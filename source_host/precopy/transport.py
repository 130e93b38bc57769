"""What a migration needs of whatever carries it; `grpc_transport` is the one over the network.

Every method raises the leaf of `paging_core.errors` that the destination raised, and
`HostUnreachable` when it does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from paging_core.config import GuestConfig
from paging_core.digest import Digests
from wire.batch import Batch

Metadata = tuple[tuple[str, str], ...]
"""What a call carries beside its message."""


@dataclass(frozen=True)
class Offer:
    """What the destination is told before anything is sent.

    Attributes:
        migration_id: names the migration on both hosts.
        guest_id: names the guest on both hosts.
        config: what the guest is made of.
        trace_digest: xxh3_64 of the trace file that it replays; 0 without one.
    """

    migration_id: str
    guest_id: str
    config: GuestConfig
    trace_digest: int = 0


@dataclass(frozen=True)
class Handover:
    """What a commit says.

    Attributes:
        memory_digest: root of the source's digest tree.
        state: everything of the guest that is not memory.
        start: run it at once; otherwise it waits there, paused.
    """

    memory_digest: int
    state: bytes
    start: bool


class Transport(Protocol):
    """One migration's way to its destination. Used by one thread, except `interrupt`."""

    def prepare(self, offer: Offer) -> int:
        """Reserve memory at the destination.

        Returns:
            The most bytes that one batch may hold, decompressed.
        """

    def send(self, batch: Batch) -> int:
        """Put a batch on the link; waits while too much is unacknowledged.

        Returns:
            The length of the message in bytes.
        """

    @property
    def unacknowledged_bytes(self) -> int:
        """Of the messages that were sent and not yet acknowledged."""

    @property
    def message_bytes(self) -> int:
        """How much content the next message should have at most, for the link as it is now."""

    def drain(self) -> None:
        """Return when everything that was sent stands in destination memory."""

    def differing(self, level: int, first: int, digests: Digests) -> list[int]:
        """Which of these tree nodes differ from the destination's own.

        Args:
            level: of the tree; 0 holds a digest per frame.
            first: index of the first node.
            digests: of consecutive nodes from `first` on.

        Returns:
            Indexes at this level, ascending.
        """

    def commit(self, handover: Handover) -> None:
        """Hand the guest over; when this returns it is the destination's.

        Raises:
            OutcomeUnknown: no answer that can be relied on came. The destination may
                or may not have taken the guest.
        """

    def is_committed(self) -> bool:
        """Whether the destination took the guest over."""

    def abort(self, reason: str) -> None:
        """Drop the migration at the destination; after this it refuses a late commit.

        Raises:
            IllegalTransition: it was committed.
        """

    def interrupt(self) -> None:
        """Wake whoever waits in another method; that method raises `MigrationCancelled`.

        `is_committed` and `abort` work afterwards. Any thread may call this.
        """

    def close(self) -> None:
        """Let go of the link."""
