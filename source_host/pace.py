"""How much may be on the way to a destination, and how long one message may be.

gRPC delivers whole messages, and a link of 64 kbit/s needs nine minutes for one of 4 MiB: nobody
could tell such a link from a dead one. So it begins with little, grows with every acknowledgement
that came soon enough, and shrinks to what the link delivers in `IN_FLIGHT_S` when it does not.
"""

from __future__ import annotations

from typing import NamedTuple

from paging_core.units import FRAME_BYTES

MIB = 2**20
MESSAGES = 8
"""Most messages on the way; each may have its share of the bytes."""
MOST_BYTES = 32 * MIB
"""Most bytes on the way: 8 batches of any policy."""
FIRST_BYTES = 64 * 2**10
"""On the way before anything was measured: 8 s of a link of 64 kbit/s."""
IN_FLIGHT_S = 2.0
"""How long what is on the way may take to arrive; longer only if a round trip is."""
_LEAST_BYTES = 2 * FRAME_BYTES
_LEAST_S = 1e-6


class Sent(NamedTuple):
    """A message when it was put on the way.

    Attributes:
        at_s: when, monotonic.
        n_bytes: its length.
        delivered_bytes: that had arrived by then.
    """

    at_s: float
    n_bytes: int
    delivered_bytes: int


class Pace:
    """Measures what a destination takes. Used under the lock of the window.

    Attributes:
        window_bytes: that may be on the way now.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Nothing is known of the link.

        Args:
            most_bytes: upper bound of the window.
        """
        self._most_bytes = most_bytes
        self.window_bytes = min(FIRST_BYTES, most_bytes)
        self._delivered_bytes = 0
        self._quickest_s = float("inf")

    @property
    def message_bytes(self) -> int:
        """How long a message should be at most: one frame at least."""
        return max(FRAME_BYTES, self.window_bytes // MESSAGES)

    def sent(self, n_bytes: int, now_s: float) -> Sent:
        """Note a message that is put on the way; give it back when it arrived."""
        return Sent(now_s, n_bytes, self._delivered_bytes)

    def arrived(self, message: Sent, now_s: float) -> None:
        """A message was acknowledged: the window grows by its length, or falls to what fits."""
        took_s = max(now_s - message.at_s, _LEAST_S)
        self._delivered_bytes += message.n_bytes
        self._quickest_s = min(self._quickest_s, took_s)
        bytes_per_s = (self._delivered_bytes - message.delivered_bytes) / took_s
        soon_s = max(IN_FLIGHT_S, 2 * self._quickest_s)
        fitting_bytes = int(bytes_per_s * soon_s)
        if fitting_bytes >= self.window_bytes:
            self.window_bytes = min(self._most_bytes, self.window_bytes + message.n_bytes)
        elif took_s > soon_s:  # else too little was on the way to know better
            self.window_bytes = max(_LEAST_BYTES, fitting_bytes)
