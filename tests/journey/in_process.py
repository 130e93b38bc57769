"""A whole migration in this process: the real engine, the real codec, the real destination.

Only gRPC is left out, so that hundreds of migrations fit into a test run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dest_host.factory import ModelGuestFactory, Resume
from dest_host.incoming import Handover as Commit
from dest_host.incoming import Offer as Announcement
from dest_host.receiver import Receiver
from dest_host.states import IncomingState
from paging_core.config import GuestConfig
from paging_core.digest import Digests
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from source_host.link import Link
from source_host.migration import Migration
from source_host.plan import Plan
from source_host.report import Report
from source_host.states import GuestState, guest_lifecycle
from source_host.transport import Handover, Offer
from wire.batch import Batch
from wire.checksum import xxh3
from wire.codec import RawBatch, decode_transfer, encode_batch


class DirectTransport:
    """Implements `source_host.transport.Transport`: every message is encoded and decoded."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.migration_id = ""

    def prepare(self, offer: Offer) -> int:
        self.migration_id = offer.migration_id
        self.receiver.prepare(
            Announcement(offer.migration_id, offer.guest_id, offer.config, offer.trace_digest)
        )
        self._incoming, self._stream = self.receiver.attach(offer.migration_id, 0)
        return self.receiver.limits.max_payload_bytes

    def send(self, batch: Batch) -> int:
        message = encode_batch(batch)
        raw = decode_transfer(message)
        assert isinstance(raw, RawBatch)
        self.receiver.take(self._incoming, raw, self._stream)
        return len(message)

    def drain(self) -> None:
        """Everything arrives at once here."""

    def differing(self, level: int, first: int, digests: Digests) -> list[int]:
        return self.receiver.compare(self.migration_id, level, first, digests)

    def commit(self, handover: Handover) -> None:
        said = Commit(handover.memory_digest, handover.state, xxh3(handover.state))
        self.receiver.commit(self.migration_id, said, start=handover.start)

    def is_committed(self) -> bool:
        return self.receiver.view(self.migration_id).state is IncomingState.COMMITTED

    def abort(self, reason: str) -> None:
        self.receiver.abort(self.migration_id, reason)

    def interrupt(self) -> None:
        """Nobody waits for anything here."""

    def close(self) -> None:
        """Nothing to close."""


class KeepingFactory(ModelGuestFactory):
    """Makes the guests that every destination makes, and keeps the last one at hand."""

    guest: ModelGuest

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        resume = super().prepare(config, trace_digest)

        def kept(memory: GuestMemory, state: bytes) -> ModelGuest:
            guest = resume(memory, state)
            assert isinstance(guest, ModelGuest)
            self.guest = guest
            return guest

        return kept


@dataclass(frozen=True)
class Arrived:
    """A guest that was moved.

    Attributes:
        guest: it, as it stands at its destination.
        report: of its migration.
    """

    guest: ModelGuest
    report: Report


@contextmanager
def booted(config: GuestConfig) -> Iterator[ModelGuest]:
    """A fresh guest; its memory is given back at the end."""
    guest = ModelGuest.boot(config)
    try:
        yield guest
    finally:
        guest.memory.close()


@contextmanager
def migrated(config: GuestConfig, link: Link, **plan: Any) -> Iterator[Arrived]:
    """Boot a guest and move it while it runs."""
    factory = KeepingFactory()
    receiver = Receiver(factory=factory)
    life = guest_lifecycle("web")
    life.to(GuestState.RUNNING)
    migration = Migration(
        plan=Plan(link=link, **plan),
        offer=Offer("web-1", "web", config),
        guest_life=life,
        transport=DirectTransport(receiver),
    )
    try:
        with booted(config) as guest:
            migration.run(guest)
        report = migration.report()
        assert report.error is None, report.error
        assert life.state is GuestState.MOVED
        yield Arrived(factory.guest, report)
    finally:
        receiver.close()


def assert_same(moved: ModelGuest, twin: ModelGuest) -> None:
    """Same place, same memory, same registers and address spaces."""
    assert moved.position == twin.position
    differing = np.flatnonzero((moved.memory.words != twin.memory.words).any(axis=1))
    assert not len(differing), f"{len(differing)} frames differ, first {differing[:8].tolist()}"
    assert moved.architectural_state() == twin.architectural_state()
