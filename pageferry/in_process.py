"""A whole migration in this process: the real engine, the real codec, the real destination.

Only gRPC is left out. Every message is encoded, decoded, checked and applied as between two
hosts, so the result document is the same, byte for byte; sweeps use it because two host
processes for each of a thousand points would cost more than the migrations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dest_host.incoming import Handover as Commit
from dest_host.incoming import Offer as Announcement
from dest_host.limits import Limits
from dest_host.receiver import Preparing, Receiver
from dest_host.states import IncomingState
from pageferry.document import Document, document_of
from pageferry.request import MigrationOptions
from paging_core.config import GuestConfig
from paging_core.errors import BadOption
from paging_core.model_guest import ModelGuest
from paging_core.proof import Tags
from source_host.messages import filled_in, migration_status, plan_of
from source_host.migration import Migration
from source_host.precopy.clocks import ANY_LENGTH
from source_host.precopy.flow import NO_FLOW, Flow
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.transport import Handover, Offer
from source_host.watch.flow_recorder import FlowRecorder
from wire.batch import Batch
from wire.codec import RawBatch, decode_transfer, encode_batch
from wire.convert import guest_spec
from wire.hosting.guests.states import GuestState, guest_lifecycle

_GUEST = "guest"
_MIGRATION = "guest-1"


class DirectTransport:
    """A `source_host.precopy.transport.Transport`: every message is encoded and decoded."""

    def __init__(self, receiver: Receiver) -> None:
        """Migrate to a destination in this process."""
        self.receiver = receiver
        self.migration_id = ""

    @property
    def peer(self) -> str:
        """It has no address."""
        return "the destination"

    def prepare(self, offer: Offer) -> int:
        """Reserve memory there."""
        self.migration_id = offer.migration_id
        self.receiver.prepare(
            Announcement(
                offer.migration_id, offer.guest_id, offer.config, offer.key, offer.trace_digest
            )
        )
        self._incoming, self._stream = self.receiver.attach(offer.migration_id, 0)
        return self.receiver.limits.max_payload_bytes

    def send(self, batch: Batch) -> int:
        """Encode it, decode it, have it checked and applied."""
        message = encode_batch(batch)
        raw = decode_transfer(message)
        assert isinstance(raw, RawBatch)  # noqa: S101 - what a batch was encoded to
        self.receiver.take(self._incoming, raw, self._stream)
        return len(message)

    @property
    def unacknowledged_bytes(self) -> int:
        """None: what was sent is there."""
        return 0

    @property
    def message_bytes(self) -> int:
        """Any: nothing waits behind it."""
        return ANY_LENGTH

    def drain(self) -> None:
        """Everything arrives at once here."""

    def begin_compare(self) -> None:
        """There is one thread for both hosts: it tags memory when it is asked."""

    def differing(self, level: int, nodes: Sequence[int], tags: Tags) -> list[int]:
        """Compare part of the proof."""
        return self.receiver.compare(self.migration_id, level, nodes, tags.tobytes())

    def commit(self, handover: Handover) -> None:
        """Hand the guest over."""
        said = Commit(handover.memory_tag, handover.state, handover.state_tag)
        self.receiver.commit(self.migration_id, said, start=handover.start)

    def is_committed(self) -> bool:
        """Ask how it ended."""
        return self.receiver.view(self.migration_id).state is IncomingState.COMMITTED

    def abort(self, reason: str) -> None:
        """Drop it there."""
        self.receiver.abort(self.migration_id, reason)

    def interrupt(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def destination(memory_bytes: int, factory: Preparing | None = None) -> Iterator[Receiver]:
    """A destination for one guest of so much memory, which goes with it."""
    receiver = Receiver(Limits(memory_bytes, memory_bytes), factory)
    try:
        yield receiver
    finally:
        receiver.close()


def migrate(
    guest: ModelGuest, plan: Plan, receiver: Receiver, flow: Flow = NO_FLOW
) -> tuple[Report, GuestState]:
    """Move a running guest, and say how it went and what became of it here."""
    life = guest_lifecycle(_GUEST)
    life.to(GuestState.RUNNING)
    migration = Migration(
        plan=plan,
        offer=Offer(
            _MIGRATION,
            _GUEST,
            guest.config,
            plan.make_key(guest.config.seed),
            guest.trace_digest,
        ),
        guest_life=life,
        transport=DirectTransport(receiver),
        flow=flow,
    )
    migration.run(guest)
    return migration.report(), life.state


def run(options: MigrationOptions) -> Document:
    """Boot a guest, migrate it, and give the document that two hosts would have given.

    Args:
        options: as for ``pageferry migrate``; `flow` names a directory of this machine.

    Raises:
        BadOption: hosts elsewhere, or the real clock, which is about two hosts.
        PageferryError: the guest did not boot.
    """
    if options.source or options.guest or options["clock"] != "virtual":
        raise BadOption("a migration within one process knows neither hosts nor the real clock")
    config = options.guest_config()
    request = options.migrate_request(_GUEST, "")
    plan = plan_of(request)
    with destination(config.memory_bytes) as receiver, _booted(config) as guest:
        flow = FlowRecorder(Path(options.flow)) if options.flow else NO_FLOW
        try:
            report, left = migrate(guest, plan, receiver, flow)
        finally:
            if isinstance(flow, FlowRecorder):
                flow.stop()
    status = migration_status(
        _MIGRATION, filled_in(request, plan), guest_spec(_GUEST, config), report, left
    )
    return document_of(status, config)


@contextmanager
def _booted(config: GuestConfig) -> Iterator[ModelGuest]:
    guest = ModelGuest.boot(config)
    try:
        yield guest
    finally:
        guest.close()
