"""What a migration needs of whatever carries it; `grpc_transport` is the one over the network.

Every method raises the leaf of `paging_core.errors` that the destination raised, and
`HostUnreachable` when it does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paging_core.config import GuestConfig
from paging_core.migration_key import MigrationKey
from paging_core.proof import Tags
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
        key: the secret of this migration, for the two hosts alone.
        trace_digest: xxh3_64 of the trace file that it replays; 0 without one.
    """

    migration_id: str
    guest_id: str
    config: GuestConfig
    key: MigrationKey
    trace_digest: int = 0


@dataclass(frozen=True)
class Handover:
    """What a commit says.

    Attributes:
        memory_tag: root of the source's proof.
        state: everything of the guest that is not memory.
        state_tag: of it.
        start: run it at once; otherwise it waits there, paused.
        answer_s: how long the answer is waited for before it counts as lost.
    """

    memory_tag: bytes
    state: bytes
    state_tag: bytes
    start: bool
    answer_s: float = 60.0


class Transport(Protocol):
    """One migration's way to its destination. Used by one thread, except `interrupt`."""

    @property
    def peer(self) -> str:
        """The destination as an error names it."""

    def prepare(self, offer: Offer) -> int:
        """Reserve memory at the destination.

        Returns:
            The most bytes that one batch may hold, decompressed; a frame at least.

        Raises:
            ContractBroken: the answer makes no sense.
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

    def begin_compare(self) -> None:
        """All memory was sent: the destination may tag it now. Does not wait."""

    def differing(self, level: int, nodes: Sequence[int], tags: Tags) -> list[int]:
        """Which of these nodes of the proof differ from the destination's own.

        Args:
            level: of the proof; 0 has a tag per frame.
            nodes: indexes at this level, ascending, `COMPARED_NODES` at most.
            tags: of these nodes.

        Returns:
            What the destination answers; the caller checks it.
        """

    def commit(self, handover: Handover) -> None:
        """Hand the guest over; when this returns it is the destination's.

        Raises:
            OutcomeUnknown: no answer that can be relied on came. The destination may
                or may not have taken the guest.
        """

    def is_committed(self) -> bool:
        """Whether the destination took the guest over.

        Raises:
            WrongHost: another host answers, which cannot know.
            HostUnreachable: no answer, or none that can be relied on.
        """

    def abort(self, reason: str) -> None:
        """Drop the migration at the destination; after this it refuses a late commit.

        Raises:
            IllegalTransition: it was committed.
            WrongHost: another host answers, where nothing can be dropped.
            HostUnreachable: no answer, or none that can be relied on.
        """

    def interrupt(self) -> None:
        """Wake callers that wait in another method; that method raises `MigrationCancelled`.

        `is_committed` and `abort` work afterwards. Any thread may call this.
        """

    def close(self) -> None:
        """Let go of the link."""
