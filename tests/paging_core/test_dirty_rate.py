"""A dirty rate that is asked for is the one that a guest has, counted write by write."""

from __future__ import annotations

import numpy as np
import pytest

from paging_core.config import GuestConfig, Paging, TrackerConfig
from paging_core.errors import InvalidInput
from paging_core.model_guest import ModelGuest
from paging_core.workloads.catalog import canonical_spec, make_workload, parse_spec
from paging_core.workloads.dirty_rate import PATTERNS
from paging_core.workloads.ops import IDLE, OP_DTYPE, READ

LINK = 300_000_000
WINDOW_NS = 10_000_000
PAGE = 4096


def written_pages_per_window(spec: str, windows: int) -> list[int]:
    """Distinct pages written in each window of 10 ms, from the operations themselves."""
    workload = make_workload(spec, 5)
    pages: list[set[int]] = [set() for _ in range(windows)]
    now_ps, position = 0, 0
    ops = np.zeros(4096, OP_DTYPE)
    while True:
        workload.fill(position, ops)
        position += len(ops)
        columns = (ops[name].tolist() for name in ("kind", "address", "gap_ps", "value"))
        for kind, address, gap_ps, value in zip(*columns, strict=True):
            now_ps += value * 1000 if kind == IDLE else gap_ps
            window = now_ps // (WINDOW_NS * 1000)
            if window >= windows:
                return [len(each) for each in pages]
            if kind not in {IDLE, READ}:
                pages[window].add(address // PAGE)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.5])
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_pages_dirtied_a_second_are_that_share_of_the_link(name: str, share: float) -> None:
    """4 KiB × pages per 10 ms × 100 ÷ 37.5 MB/s."""
    spec = canonical_spec(f"{name}:dirty={share}link", LINK)
    found = written_pages_per_window(spec, 60)
    measured = sum(found) / len(found) * PAGE * 100 / (LINK / 8)
    # Some hundreds to thousands of pages in all: their count has a spread of its own.
    assert measured == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize(
    "spec", ["zipf:wss=1MiB,s=1.5", "hotcold:wss=2MiB,hot=0.01", "strided:stride=512,wss=1MiB",
             "sequential:wss=1MiB,words=512", "sequential:wss=1MiB,writes=0.02",
             "strided:wss=1MiB,writes=1", "read-mostly:wss=4MiB,writes=0.3"]
)  # fmt: skip
def test_it_holds_for_other_parameters_too(spec: str) -> None:
    found = written_pages_per_window(canonical_spec(f"{spec},dirty=4MB/s"), 100)
    assert sum(found) / len(found) * PAGE * 100 == pytest.approx(4e6, rel=0.05)


def test_a_tracked_guest_finds_them_dirty() -> None:
    """End to end: cleans every 10 ms of guest time, pages × 4 KiB ÷ link."""
    spec = canonical_spec("uniform:wss=8MiB,dirty=0.5link", LINK)
    tracker = TrackerConfig(paging=Paging.HAP)
    guest = ModelGuest.boot(GuestConfig(16 << 20, tracker, workload=spec))
    guest.start_tracking()
    guest.run(guest.time_ns + WINDOW_NS)
    guest.clean()
    found = []
    for _ in range(200):
        guest.run(guest.time_ns + WINDOW_NS)
        written = guest.clean().written
        assert written is not None
        found.append(written.frames)
    guest.close()
    assert sum(found) / len(found) * PAGE * 100 / (LINK / 8) == pytest.approx(0.5, rel=0.04)


def test_worked_by_hand() -> None:
    """Half of 300 Mbit/s is 18.75 MB/s: 45.78 pages of 4 KiB in 10 ms.

    Every fourth page is another one (strided): 4,578 writes a second. Of 8,192 pages at random
    x writes leave 8192 (1 − (1 − 1/8192)^x) = 45.78, so x is 45.90: 4,590. A sequential writer of
    64 bytes, every second access of which writes, is in a page for 64 accesses: 45.78 pages are
    2,930 accesses but for the two ends of the window, which are pages of their own 63 times in 64.
    """
    rates = {
        name: parse_spec(f"{name}:dirty=0.5link", LINK)[1]["write_rate"]
        for name in ("strided", "uniform", "sequential")
    }
    assert rates["strided"] == 4578
    assert rates["uniform"] == 4590
    assert rates["sequential"] == pytest.approx(100 * (2930 - 63) / 2, rel=0.001)


def test_bytes_a_second_need_no_link() -> None:
    assert canonical_spec("uniform:dirty=18.75MB/s") == canonical_spec(
        "uniform:dirty=0.5link", LINK
    )


def test_the_canonical_spec_says_writes_a_second_and_reads_the_same_again() -> None:
    spec = canonical_spec("zipf:dirty=0.9link", 10**9)
    assert "dirty" not in spec
    assert "write_rate=46640" in spec
    assert canonical_spec(spec) == spec


@pytest.mark.parametrize(
    ("spec", "link", "says"),
    [
        ("uniform:dirty=0.5", LINK, "write it like 0.5link"),
        ("uniform:dirty=xlink", LINK, "no share of the link"),
        ("uniform:dirty=nanlink", LINK, "no share of the link"),
        ("uniform:dirty=-1link", LINK, "dirties nothing"),
        ("uniform:dirty=0MB/s", LINK, "dirties nothing"),
        ("uniform:dirty=1link", None, "needs a modelled link"),
        ("uniform:dirty=1link,write_rate=5", LINK, "keep one"),
        ("churn:dirty=1link", LINK, "no parameter of workload churn"),
        ("idle:dirty=1link", LINK, "no parameter of workload idle"),
        ("strided:dirty=1.5link", 10**10, "give it a larger wss"),
        ("uniform:dirty=1TB/s", None, "give it a larger wss"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(spec: str, link: int | None, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as raised:
        canonical_spec(spec, link)
    assert "\n" not in str(raised.value)
