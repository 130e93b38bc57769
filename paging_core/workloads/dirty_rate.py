"""From the rate at which pages become dirty to the rate of writes that makes it.

A dirty rate says how many *distinct* pages a load writes in a window, as bytes a second: pages × 4
KiB ÷ window. The window is 10 ms, because rounds shrink as long as the link is faster than pages
become dirty in one: a load below its link's rate converges to a rest that crosses in less than the
window, a load above it does not. A hot page counts once in a window, however often it is written,
so the same rate takes more writes of some loads than of others. Pages in a window are expected
values over the pattern's own distribution (`patterns`); phases and laps that end in it are not
looked at, nor how the link compresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paging_core.errors import BadOption
from paging_core.units import FRAME_BYTES, exact_rate, format_bytes, parse_size_bytes
from paging_core.workloads.parameters import Settings, Value, part_of

WINDOWS_PER_S = 100
"""A window is 10 ms."""
MOST_WRITES_PER_S = 1e12
_ALMOST = 1 - 1e-12
"""Of writes that all fall on one page: the logarithm of 0 is none."""
_OF_LINK = "link"
_A_SECOND = "/s"
_EXAMPLE = "write it like 0.5link, or 20MB/s"

Expected = Callable[[float], float]
"""Distinct pages that so many writes in a row dirty, on average."""


@dataclass(frozen=True)
class DirtyRate:
    """Distinct pages per window, as bytes a second.

    Attributes:
        value: bytes a second, or a share of the link.
        of_link: which of the two.
    """

    value: float
    of_link: bool

    @classmethod
    def parse(cls, text: str) -> DirtyRate:
        """What a user typed: ``0.5link`` or ``20MB/s``.

        Raises:
            BadOption: neither of the two, or not more than 0.
        """
        of_link = text.endswith(_OF_LINK)
        if of_link:
            value = _share(text)
        elif text.endswith(_A_SECOND):
            value = float(parse_size_bytes(text.removesuffix(_A_SECOND)))
        else:
            raise BadOption(f"{text!r} is no dirty rate; {_EXAMPLE}")
        if not value > 0:
            raise BadOption(f"a dirty rate of {text!r} dirties nothing; {_EXAMPLE}")
        return cls(value, of_link)

    def bytes_per_s(self, link_bits_per_s: int | None) -> float:
        """In bytes a second.

        Args:
            link_bits_per_s: of the link that it is a share of; None if there is none.

        Raises:
            BadOption: a share of no link.
        """
        if not self.of_link:
            return self.value
        if link_bits_per_s is None:
            raise BadOption(
                f"a dirty rate of {self.value:g} of the link needs a modelled link; give it in "
                "bytes, like 20MB/s, or give write_rate"
            )
        return self.value * link_bits_per_s / 8


@dataclass(frozen=True)
class Dirty:
    """A dirty rate as a kind of parameter, kept as it was typed until its link is known."""

    def parse(self, text: str) -> str:
        """The same text; see `Kind`."""
        DirtyRate.parse(text)
        return text

    def text(self, value: Value) -> str:
        """As it was typed."""
        return str(value)


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix(_OF_LINK))
    except ValueError:
        share = math.nan
    if not math.isfinite(share):
        raise BadOption(f"{text!r} is no share of the link; {_EXAMPLE}")
    return share


def write_rate(
    name: str, settings: Settings, rate: DirtyRate, link_bits_per_s: int | None
) -> float:
    """Writes a second that dirty pages at a rate, to four digits.

    Args:
        name: of a workload in `PATTERNS`.
        settings: its parameters; `write_rate` among them means nothing here.
        rate: wanted.
        link_bits_per_s: that `rate` may be a share of; None if there is none.

    Raises:
        BadOption: its working set is smaller than what it would have to dirty in a window.
    """
    wanted_bytes = rate.bytes_per_s(link_bits_per_s)
    wanted_pages = wanted_bytes / FRAME_BYTES / WINDOWS_PER_S
    pages_of = PATTERNS[name](settings)
    most = MOST_WRITES_PER_S / WINDOWS_PER_S
    if pages_of(most) < wanted_pages:
        link = f" of {exact_rate(link_bits_per_s)}" if rate.of_link and link_bits_per_s else ""
        raise BadOption(
            f"that{link} is {format_bytes(wanted_bytes / WINDOWS_PER_S)} in 10 ms, and it writes "
            f"in {format_bytes(pages_of(most) * FRAME_BYTES)}; give it a larger wss"
        )
    least = 0.0
    for _ in range(100):  # halves what is between them until no double is
        middle = (least + most) / 2
        least, most = (least, middle) if pages_of(middle) >= wanted_pages else (middle, most)
    return float(f"{most * WINDOWS_PER_S:.4g}")


# -- what so many writes dirty, by pattern -------------------------------------------------------


def _pages(settings: Settings) -> int:
    return int(settings["wss"]) // FRAME_BYTES


def _among(pages: int, share: float = 1.0) -> Expected:
    """Writes of which a share falls on one of so many pages, each as likely as every other."""
    missed = math.log1p(-min(share / pages, _ALMOST)) if pages else 0.0
    return lambda writes: -pages * math.expm1(writes * missed)


def _uniform(settings: Settings) -> Expected:
    return _among(_pages(settings))


def _phased(settings: Settings) -> Expected:
    pages = _pages(settings)
    return _among(pages // min(pages, int(settings["phases"])))


def _read_mostly(settings: Settings) -> Expected:
    return _among(part_of(_pages(settings), float(settings["written"])))


def _hotcold(settings: Settings) -> Expected:
    pages = _pages(settings)
    hot_pages = part_of(pages, float(settings["hot"]))
    share = float(settings["hot_accesses"]) if hot_pages < pages else 1.0
    hot, cold = _among(hot_pages, share), _among(pages - hot_pages, 1 - share)
    return lambda writes: hot(writes) + cold(writes)


def _zipf(settings: Settings) -> Expected:
    # Here and not above: listing the workloads needs no numpy.
    import numpy as np  # noqa: PLC0415

    weights = np.arange(1, _pages(settings) + 1, dtype=np.float64) ** -float(settings["s"])
    missed = np.log1p(-np.minimum(weights / weights.sum(), _ALMOST))
    return lambda writes: float(-np.expm1(writes * missed).sum())


def _in_a_row(pages: int, per_page: float, written: float) -> Expected:
    """Accesses that go through the pages, so many to each, a share of which write.

    A page is dirty if one of its accesses was a write. Windows begin anywhere in a page, so the
    first and the last page of one have any number of accesses that `per_page` allows.
    """

    def expected(writes: float) -> float:
        accesses = writes / written
        if accesses <= 1:
            return writes
        whole = min(accesses, per_page)
        ends = 2 * (whole - 1 - _geometric(1 - written, whole - 1))
        inner = (abs(accesses - per_page) + 1) * (1 - math.pow(1 - written, whole))
        lap = pages * (1 - math.pow(1 - written, accesses / pages))
        return min((ends + inner) / per_page, lap)

    return expected


def _geometric(ratio: float, terms: float) -> float:
    """Ratio + ratio² + …, so many terms."""
    return ratio * (1 - math.pow(ratio, terms)) / (1 - ratio)


def _sequential(settings: Settings) -> Expected:
    per_page = FRAME_BYTES // 8 // int(settings["words"])
    return _in_a_row(_pages(settings), per_page, float(settings["writes"]))


def _strided(settings: Settings) -> Expected:
    size_bytes, stride_bytes = int(settings["wss"]), int(settings["stride"])
    places = -(-size_bytes // stride_bytes)
    per_page = max(1.0, FRAME_BYTES / stride_bytes)
    return _in_a_row(math.ceil(places / per_page), per_page, float(settings["writes"]))


PATTERNS: Mapping[str, Callable[[Settings], Expected]] = {
    "sequential": _sequential,
    "uniform": _uniform,
    "zipf": _zipf,
    "hotcold": _hotcold,
    "strided": _strided,
    "phased": _phased,
    "read-mostly": _read_mostly,
}
"""Workloads that can be asked for a dirty rate. What churn dirties its forks decide as well."""
