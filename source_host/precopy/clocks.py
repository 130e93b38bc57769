"""How guest time and transfer time pass together: in a model, or in fact.

The engine reads one `now_ns` and never asks which clock it is. On the virtual clock a
message makes time pass because the link is modelled, and verification takes none; on the
real clock time passes by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Protocol

from paging_core.errors import BadOption, MigrationCancelled
from paging_core.guest import Guest
from source_host.precopy.link import Link
from wire.hosting.guest_thread import in_real_time
from wire.hosting.strides import Strides

ANY_LENGTH = 2**62
"""Of a message: no limit but the destination's."""


class Clock(Protocol):
    """Time as a migration sees it, and the guest within it. The guest starts standing still."""

    @property
    def now_ns(self) -> int:
        """Time that passed since some origin."""

    def resume(self) -> None:
        """Let the guest run from here on."""

    def pause(self) -> None:
        """Stop the guest; it stands still when this returns."""

    def exclusive(self) -> AbstractContextManager[Guest]:
        """The guest between two of its turns, for as long as the context lasts."""

    def digested(self, n_frames: int) -> None:
        """The sender read and digested so many frames, to find those that did not change."""

    def carry(self, n_bytes: int) -> None:
        """A message of so many bytes was put on the link.

        Raises:
            MigrationCancelled: it was cancelled meanwhile.
            GuestCrashed: the guest's kernel gave up meanwhile.
        """

    def on_the_way(self, unacknowledged_bytes: int) -> int:
        """How many of the unacknowledged bytes have not crossed."""

    def message_bytes(self, transport_bytes: int) -> int:
        """How much content a message may have, where the transport would have so much."""

    def await_answer(self) -> None:
        """An answer of the destination was waited for."""

    def let_run(self, duration_ns: int) -> None:
        """Let so much guest time pass before the migration proper.

        Raises:
            MigrationCancelled: it was cancelled meanwhile.
            GuestCrashed: the guest's kernel gave up meanwhile.
        """

    def close(self) -> None:
        """Done with the guest, which stays as it is."""


class Lap:
    """Splits time into laps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_ns = clock.now_ns

    def ns(self) -> int:
        """Time since the last lap ended; starts the next one."""
        before_ns, self._since_ns = self._since_ns, self._clock.now_ns
        return self._since_ns - before_ns


class VirtualClock:
    """Guest and link advance together, one message at a time; nothing else takes time.

    A message occupies the link for its bytes, and the guest runs until it has left; an
    answer takes a round trip; what stalls the guest (a clean) stalls the link with it. The sender
    has one thread, as Xen's and QEMU's: what it digests it sends when it has digested it.
    """

    def __init__(
        self,
        guest: Guest,
        link: Link,
        cancelled: Event | None = None,
        digest_ns: float = 0.0,
    ) -> None:
        """The guest stands still.

        Args:
            guest: who runs.
            link: what carries messages.
            cancelled: ends what would take long, with `MigrationCancelled`; None for never.
            digest_ns: what the sender takes to digest a frame.

        Raises:
            BadOption: it cannot be driven.
        """
        driven = guest.parts.driven
        if driven is None:
            raise BadOption("this guest runs by itself, in real time; migrate it with --clock real")
        self._driven = driven
        self._digest_ns = digest_ns
        self._cancelled = cancelled or Event()
        self._strides = Strides(self._check_cancelled)
        self._guest = guest
        self._link = link
        self._now_ns = guest.time_ns
        self._running = False

    @property
    def now_ns(self) -> int:
        """Modelled time; starts at the guest's own."""
        return self._now_ns

    def resume(self) -> None:
        """Let the guest run; it notices how long it stood still."""
        behind_ns = self._now_ns - self._guest.time_ns
        if behind_ns > 0:
            self._driven.stall(behind_ns)
        self._running = True

    def pause(self) -> None:
        """Stop the guest."""
        self._running = False

    @contextmanager
    def exclusive(self) -> Iterator[Guest]:
        """The guest; what the caller makes it pay passes here as well."""
        before_ns = self._guest.time_ns
        yield self._guest
        self._now_ns += self._guest.time_ns - before_ns

    def digested(self, n_frames: int) -> None:
        """Time passes for each frame."""
        self._pass(round(n_frames * self._digest_ns))

    def carry(self, n_bytes: int) -> None:
        """Time passes until the message has left."""
        self._pass(self._link.carry_ns(n_bytes))

    def on_the_way(self, unacknowledged_bytes: int) -> int:  # noqa: ARG002
        """None: what was carried has left the modelled link."""
        return 0

    def message_bytes(self, transport_bytes: int) -> int:  # noqa: ARG002
        """Any: results do not depend on what really carries them."""
        return ANY_LENGTH

    def await_answer(self) -> None:
        """A round trip passes."""
        self._pass(self._link.round_trip_ns)

    def let_run(self, duration_ns: int) -> None:
        """Run the guest for so long, as fast as it goes."""
        self._pass(duration_ns)

    def close(self) -> None:
        """Nothing to end."""

    def _pass(self, duration_ns: int) -> None:
        before_ns = self._now_ns
        self._now_ns += duration_ns
        if not self._running:
            return
        try:
            self._strides.run(self._driven, self._now_ns)
        except MigrationCancelled:  # the rest of that time never was
            self._now_ns = max(before_ns, min(self._now_ns, self._guest.time_ns))
            raise

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise MigrationCancelled("the migration was cancelled")


class RealClock:
    """The guest runs in real time, by itself or driven by a thread; time is what passes."""

    def __init__(self, guest: Guest, cancelled: Event | None = None) -> None:
        """The guest stands still.

        Args:
            guest: who runs.
            cancelled: ends a warm-up, with `MigrationCancelled`; None for never.
        """
        self._cancelled = cancelled or Event()
        self._pace = in_real_time(guest)

    @property
    def now_ns(self) -> int:
        """Monotonic wall time."""
        return time.monotonic_ns()

    def resume(self) -> None:
        """Let the guest run."""
        self._pace.resume()

    def pause(self) -> None:
        """Stop the guest."""
        self._pace.pause()

    def exclusive(self) -> AbstractContextManager[Guest]:
        """The guest: between two slices where it is driven, and as it runs where it is not."""
        return self._pace.exclusive()

    def digested(self, n_frames: int) -> None:
        """That took its time already."""

    def carry(self, n_bytes: int) -> None:  # noqa: ARG002
        """The message took its time already."""
        self._pace.check()

    def on_the_way(self, unacknowledged_bytes: int) -> int:
        """All of them: only acknowledgements tell."""
        return unacknowledged_bytes

    def message_bytes(self, transport_bytes: int) -> int:
        """What suits the link."""
        return transport_bytes

    def await_answer(self) -> None:
        """The answer took its time already."""
        self._pace.check()

    def let_run(self, duration_ns: int) -> None:
        """Wait while the guest runs."""
        if self._cancelled.wait(duration_ns / 1e9):
            raise MigrationCancelled("cancelled before the first round")
        self._pace.check()

    def close(self) -> None:
        """Drive it no more."""
        self._pace.stop()
