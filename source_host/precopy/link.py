"""The modelled link of the virtual clock, and the bandwidth that a policy measures."""

from __future__ import annotations

from dataclasses import dataclass

from paging_core.errors import BadOption
from paging_core.kinds import BitRate, Duration
from paging_core.settings import Role, Section, setting
from paging_core.units import NS_PER_S

WINDOW_NS = 100_000_000
"""QEMU measures bandwidth over windows of 100 ms (BUFFER_DELAY)."""


@dataclass(frozen=True)
class Link:
    """A link that carries one message after another at a constant rate.

    Attributes:
        bits_per_s: what it carries; framing below the messages is not modelled.
        latency_ns: one way.
    """

    bits_per_s: int = setting(
        "link_bits_per_s",
        BitRate(),
        "1Gbit/s",
        Role.SURROUNDINGS,
        Section.LINK,
        "Bandwidth of the modelled link (virtual clock).",
        shown="Bandwidth of the modelled link; null on the real clock.",
        nullable=True,
        required=True,
        words="{}",
    )
    latency_ns: int = setting(
        "latency_ns",
        Duration("latency", "10min"),
        "100us",
        Role.SURROUNDINGS,
        Section.LINK,
        "Its latency, one way.",
        shown="Latency of the modelled link, one way; null on the real clock.",
        nullable=True,
        field_default=0,
    )

    def __post_init__(self) -> None:
        if not 0 < self.bits_per_s < 2**63:
            raise BadOption(
                f"a link of {self.bits_per_s} bit/s carries nothing; "
                "the virtual clock needs a rate such as 1Gbit/s"
            )
        if not 0 <= self.latency_ns < 2**63:
            raise BadOption(f"a latency of {self.latency_ns} ns is not between 0 and 2**63 - 1")

    @property
    def round_trip_ns(self) -> int:
        """There and back."""
        return 2 * self.latency_ns

    def carry_ns(self, n_bytes: int) -> int:
        """How long a message occupies the link, rounded up."""
        return -(-n_bytes * 8 * NS_PER_S // self.bits_per_s)


class BandwidthMeter:
    """Bytes per time over the last window of 100 ms.

    Windows go on from round to round, without the time between them: in a round that is
    shorter than a window, round trips count for more than bandwidth. Only before anything was
    measured does the end of a round close one.
    """

    def __init__(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._paused_ns = now_ns
        self._bytes = 0
        self._measured_bytes = 0
        self._measured_ns = 0

    def begin_round(self, now_ns: int) -> None:
        """Leave out the time in which nothing was sent, such as a clean."""
        self._since_ns += now_ns - self._paused_ns

    def add(self, n_bytes: int, now_ns: int) -> None:
        """So many bytes more had crossed by now."""
        self._bytes += n_bytes
        if now_ns - self._since_ns >= WINDOW_NS:
            self._close(now_ns)

    def end_round(self, now_ns: int) -> None:
        """Everything sent so far has arrived."""
        self._paused_ns = now_ns
        if self._measured_ns == 0 and now_ns > self._since_ns:
            self._close(now_ns)

    def _close(self, now_ns: int) -> None:
        self._measured_bytes, self._measured_ns = self._bytes, now_ns - self._since_ns
        self._since_ns, self._bytes = now_ns, 0

    @property
    def bytes_per_s(self) -> int:
        """The last measurement; 0 before the first."""
        return self._measured_bytes * NS_PER_S // self._measured_ns if self._measured_ns else 0

    def bytes_in(self, duration_ns: int) -> int:
        """How much would cross in that time; 0 before the first measurement."""
        return self._measured_bytes * duration_ns // self._measured_ns if self._measured_ns else 0

    def ns_for(self, n_bytes: int) -> int:
        """How long so many bytes would take; 0 before the first measurement."""
        if self._measured_bytes == 0:
            return 0
        return n_bytes * self._measured_ns // self._measured_bytes
