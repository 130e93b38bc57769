"""What a destination counts, for Prometheus. Names and labels are bounded and stay.

Which migration a sample came from stands in its exemplar, for scrapers that speak OpenMetrics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dest_host.states import IncomingState
from paging_core.errors import (
    BatchCorrupt,
    BatchOutOfOrder,
    FramesOutsideGuest,
    IllegalTransition,
    PageferryError,
    PayloadSize,
)
from paging_core.units import FRAME_BYTES
from wire.hosting.guests.states import GuestState
from wire.hosting.metrics import (
    DURATION_BUCKETS_S,
    LATENCY_BUCKETS_S,
    guest_family,
    host_registry,
    show_guests,
)
from wire.runs import FrameKind, FrameRuns

_REFUSALS: Mapping[type[PageferryError], str] = {
    BatchCorrupt: "corrupt",
    BatchOutOfOrder: "out_of_order",
    FramesOutsideGuest: "outside_guest",
    PayloadSize: "payload_size",
    IllegalTransition: "illegal_transition",
}
GUESTS = guest_family("destination", ("guest_id", "migration_id"))
_State = TypeVar("_State")

_OPEN = (IncomingState.PREPARED, IncomingState.RECEIVING, IncomingState.VERIFIED)


class DestinationMetrics:
    """Counters of one destination, in a registry of their own.

    Attributes:
        registry: what the metrics page shows.
    """

    def __init__(self) -> None:
        self.registry = registry = host_registry("destination")
        self._frames = Counter(
            "pageferry_destination_frames",
            "Frames that batches spoke of, by kind: data came in a payload, zero and "
            "unchanged frames cost no payload.",
            ["kind"],
            registry=registry,
        )
        self._bytes = Counter(
            "pageferry_destination_received_bytes",
            "Bytes of accepted batches: raw is 4096 per frame, wire is the messages as they "
            "came. Their ratio is what zero, unchanged and compressed frames saved.",
            ["form"],
            registry=registry,
        )
        self._apply = Histogram(
            "pageferry_destination_batch_seconds",
            "Time to check, decompress and place one batch, without its time on the wire. "
            "Its count is the number of accepted batches.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._refused = Counter(
            "pageferry_destination_batches_refused",
            "Batches that were refused, by reason; corrupt ones failed their checksum or "
            "called frames unchanged that were not.",
            ["reason"],
            registry=registry,
        )
        self._verifications = Counter(
            "pageferry_destination_verifications",
            "Proofs of all guest memory against the source's, by result: equal, repaired where "
            "frames differed and came again, different where that was the end of it. Anything "
            "but equal means that a page was lost or damaged.",
            ["result"],
            registry=registry,
        )
        self._verify = Histogram(
            "pageferry_destination_verify_seconds",
            "Time of one comparison of tags; the first after new pages tags all memory. "
            "It is part of the downtime.",
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self._outcomes = Counter(
            "pageferry_destination_migrations",
            "Incoming migrations that ended, by outcome; expired ones lost their source.",
            ["outcome"],
            registry=registry,
        )
        self._handovers = Counter(
            "pageferry_destination_handovers",
            "Commits that came, by what became of them: taken, refused, or repeated because the "
            "guest is here already.",
            ["result"],
            registry=registry,
        )
        self._make_children()

    def watch(
        self,
        incoming: Callable[[IncomingState], int],
        guests: Callable[[GuestState], int],
        reserved_bytes: Mapping[str, Callable[[], int]],
        names: Callable[[], Iterable[tuple[str, str]]],
    ) -> None:
        """Show what stands here at the moment of every scrape.

        Args:
            incoming: migrations in a state.
            guests: guests in a state.
            reserved_bytes: memory by what it is used for.
            names: of each guest, and of the migration that brought it.
        """
        migrations = _gauge(
            self.registry,
            "pageferry_destination_incoming",
            "Incoming migrations that have no outcome yet, by state.",
            "state",
        )
        for state in _OPEN:
            migrations.labels(state.value).set_function(_count(incoming, state))
        here = _gauge(
            self.registry,
            "pageferry_destination_guests",
            "Guests that were taken over and are still here, by state.",
            "state",
        )
        for guest_state in GuestState:
            here.labels(guest_state.value).set_function(_count(guests, guest_state))
        memory = _gauge(
            self.registry,
            "pageferry_destination_memory_reserved_bytes",
            "Guest memory that is promised: to incoming migrations and to guests that are here.",
            "use",
        )
        for use, count_bytes in reserved_bytes.items():
            memory.labels(use).set_function(count_bytes)
        show_guests(self.registry, GUESTS, names)

    @contextmanager
    def batch(self, migration_id: str, wire_bytes: int, applied: list[FrameRuns]) -> Iterator[None]:
        """Around the handling of one batch.

        Args:
            migration_id: whose.
            wire_bytes: length of its message; 0 when it did not come over a wire.
            applied: the handler puts the runs here that it placed.
        """
        began = time.perf_counter()
        try:
            yield
        except PageferryError as error:
            reason = _REFUSALS.get(type(error), "other")
            self._refused.labels(reason).inc(1, _whose(migration_id))
            raise
        self._apply.observe(time.perf_counter() - began, _whose(migration_id))
        for runs in applied:
            for kind, child in self._by_kind:
                count = runs.count(kind)
                if count:
                    child.inc(count)
            self._raw.inc(runs.n_frames * FRAME_BYTES)
        self._wire.inc(wire_bytes)

    @contextmanager
    def verifying(self) -> Iterator[None]:
        """Around one comparison of digests."""
        with self._verify.time():
            yield

    def verified(self, migration_id: str, result: str) -> None:
        """The proof of all memory ended so: ``equal``, ``repaired`` or ``different``."""
        self._verifications.labels(result).inc(1, _whose(migration_id))

    @contextmanager
    def handover(self, migration_id: str) -> Iterator[None]:
        """Around a commit that was not taken before."""
        try:
            yield
        except PageferryError:
            self._handovers.labels("refused").inc(1, _whose(migration_id))
            raise
        self._handovers.labels("taken").inc(1, _whose(migration_id))

    def repeated(self, migration_id: str) -> None:
        """A commit came again."""
        self._handovers.labels("repeated").inc(1, _whose(migration_id))

    def outcome(self, migration_id: str, outcome: str) -> None:
        """A migration ended: ``committed``, ``aborted`` or ``expired``."""
        self._outcomes.labels(outcome).inc(1, _whose(migration_id))

    def _make_children(self) -> None:
        """Every series exists from the start, at 0: a rate over an absent one is no rate."""
        self._by_kind = [(kind, self._frames.labels(kind.name.lower())) for kind in FrameKind]
        self._raw = self._bytes.labels("raw")
        self._wire = self._bytes.labels("wire")
        for reason in (*_REFUSALS.values(), "other"):
            self._refused.labels(reason)
        for result in ("equal", "repaired", "different"):
            self._verifications.labels(result)
        for outcome in ("committed", "aborted", "expired"):
            self._outcomes.labels(outcome)
        for result in ("taken", "refused", "repeated"):
            self._handovers.labels(result)


def _gauge(registry: CollectorRegistry, name: str, text: str, label: str) -> Gauge:
    return Gauge(name, text, [label], registry=registry)


def _count(count: Callable[[_State], int], state: _State) -> Callable[[], float]:
    return lambda: float(count(state))


def _whose(migration_id: str) -> dict[str, str]:
    """The exemplar; names are short enough for one (`wire.names.MIGRATION_CHARS`)."""
    return {"migration_id": migration_id}
