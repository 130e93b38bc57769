"""When does a group pay? One condition, from the prices of a fault and of a page.

Of every group of n frames that is touched in a round, k are truly written (1 ≤ k ≤ n). Page by
page that is k fixups; the group takes one, and opens n − 1 frames, of which n − k for nothing:

    saved   (k − 1) · c_fault
    paid    (n − k) · (c_open + c_send)      frames opened but not written, marked, and sent

The k − 1 neighbours that are written have to be opened and marked too, but so has the frame of
every fault that is saved; they are counted at neither side. Divided by k this is the condition
of the 2009 discussion, c_fault (1 − 1/k) > (n/k − 1)(c_entry + c_mark + c_send).
"""

from __future__ import annotations

from dataclasses import dataclass

from paging_core.errors import BadOption
from paging_core.units import FRAME_BYTES, NS_PER_S

DIGEST_BYTES = 8
"""What an unchanged frame takes on the wire: the digest that says so. The sender's work for it is
the price of `page_digest`."""


@dataclass(frozen=True)
class Prices:
    """Nanoseconds.

    Attributes:
        fault_ns: a fixup fault, all of it: exit, repair, mark.
        open_ns: one more frame of a group: entry and mark.
        send_ns: a page on the link, or its digest there and the work for it; 0 where the link has
            room to spare.
    """

    fault_ns: float
    open_ns: float
    send_ns: float = 0.0


def page_ns(link_bits_per_s: int, n_bytes: float = FRAME_BYTES) -> float:
    """Time that so many bytes occupy a link."""
    return n_bytes * 8 * NS_PER_S / link_bits_per_s


def gain_ns(n: int, k: float, prices: Prices) -> float:
    """What a touched group gains over single pages; negative where it loses.

    Args:
        n: frames in the group.
        k: of them truly written, on average.
        prices: of faults and pages.

    Raises:
        BadOption: k is not between 1 and n.
    """
    if not 1 <= k <= n:
        raise BadOption(f"of a touched group of {n} frames 1 to {n} are written, not {k:g}")
    return (k - 1) * prices.fault_ns - (n - k) * (prices.open_ns + prices.send_ns)


def written_at_break_even(n: int, prices: Prices) -> float:
    """The k at which a group of n neither gains nor loses; between 1 and n."""
    vain_ns = prices.open_ns + prices.send_ns
    if prices.fault_ns + vain_ns == 0:
        return 1.0
    return (prices.fault_ns + n * vain_ns) / (prices.fault_ns + vain_ns)
