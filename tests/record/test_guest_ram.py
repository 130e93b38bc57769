"""Where RAM lies in the guest, as QEMU's monitor says; and what else is read from text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guests.linux import pagemap
from pageferry.record.errors import CannotRecord
from pageferry.record.guest_ram import GuestRam, find, is_qemu, parse_range, ram_bytes, split
from pageferry.record.mappings import MapEntry, parse_maps
from pageferry.record.tracker import page_ranges
from pageferry.record.windows import parse_windows_ns
from paging_core.errors import BadOption
from paging_core.traces.written.schema import Mapping

MIB, GIB = 1 << 20, 1 << 30
START = 0x7F0000000000

INFO_MTREE = [
    # machine, RAM, and what `info mtree -f` of QEMU 7.2 shows below the hole and above it
    ("pc", 3 * GIB, 3 * GIB, 0),
    ("pc", 3584 * MIB, 0xC0000000, 0x20000000),
    ("pc", 4 * GIB, 0xC0000000, 0x40000000),
    ("q35", 2 * GIB, 2 * GIB, 0),
    ("q35", 2815 * MIB, 0xAFF00000, 0),
    ("q35", 2816 * MIB, 0x80000000, 0x30000000),
    ("q35", 4 * GIB, 0x80000000, 0x80000000),
    ("microvm", 4 * GIB, 0xC0000000, 0x40000000),
]


@pytest.mark.parametrize(("machine", "size", "low", "high"), INFO_MTREE)
def test_ram_lies_where_the_monitor_says(machine: str, size: int, low: int, high: int) -> None:
    ram = split(START, START + size, ["qemu", "-M", f"{machine},accel=tcg"], None, "")
    expected = [Mapping(0, low >> 12, "RAM")]
    if high:
        expected.append(Mapping(1 << 20, high >> 12, "RAM from 4 GiB on"))
    assert ram.mappings() == tuple(expected)
    offsets = [0, low - 4096, *([low, low + high - 4096] if high else [])]
    gfns = [0, (low >> 12) - 1, *([1 << 20, (1 << 20) + (high >> 12) - 1] if high else [])]
    pages = np.array([(START + offset) >> 12 for offset in offsets], np.uint64)
    assert ram.gfns(pages).tolist() == gfns


def test_how_much_lies_below_can_be_said() -> None:
    ram = split(START, START + 4 * GIB, ["qemu"], GIB, "")
    assert ram == GuestRam(START, START + 4 * GIB, GIB, "")
    for low in (5 * GIB, 0, 4095):
        with pytest.raises(BadOption, match="below 4 GiB cannot be"):
            split(START, START + 4 * GIB, ["qemu"], low, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], 128 * MIB),
        (["-m", "256"], 256 * MIB),
        (["-m", "2G"], 2 * GIB),
        (["-m", "size=512M,slots=2,maxmem=4G"], 512 * MIB),
        (["-m", "much"], None),
    ],
)
def test_the_size_of_ram_on_a_command_line(arguments: list[str], expected: int | None) -> None:
    assert ram_bytes(["/usr/bin/qemu-system-x86_64", *arguments]) == expected


def test_which_programs_are_qemu() -> None:
    assert is_qemu(["/usr/bin/qemu-system-x86_64"])
    assert is_qemu(["/usr/libexec/qemu-kvm", "-m", "1G"])
    assert not is_qemu(["qemu-img"])
    assert not is_qemu([])


def test_ranges() -> None:
    assert parse_range("7f00-0x8000") == (0x7F00, 0x8000)
    for bad in ("7f00", "a-b-c", "x-y", ""):
        with pytest.raises(BadOption, match="is no range"):
            parse_range(bad)
    with pytest.raises(BadOption, match="whole pages"):
        split(4096, 4097, [], None, "")
    with pytest.raises(BadOption, match="whole pages"):
        split(8192, 4096, [], None, "")


def test_windows() -> None:
    assert parse_windows_ns("10ms, 1s") == (10_000_000, 1_000_000_000)
    for bad in ("", "10ms,", "0ms", "2h", "999us"):
        with pytest.raises(BadOption):
            parse_windows_ns(bad)


def test_lines_of_maps() -> None:
    text = (
        b"7f00-8000 rw-p 00001000 fe:01 77                         /a file (deleted)\n"
        b"8000-9000 r-xs 00000000 00:00 0 \n"
    )
    assert parse_maps(text) == [
        MapEntry(0x7F00, 0x8000, True, True, False, False, 4096, "fe:01", 77, "/a file (deleted)"),
        MapEntry(0x8000, 0x9000, True, False, True, True, 0, "00:00", 0, ""),
    ]
    assert parse_maps(b"") == []


def test_what_the_kernel_says_twice_of_mappings_that_merge_is_taken_once() -> None:
    """They are printed in parts and grow in between: pages would be found twice, in no order."""
    text = b"".join(
        b"%x-%x rw-p 00000000 00:00 0 \n" % bounds
        for bounds in [(0x1000, 0x3000), (0x3000, 0x9000), (0x5000, 0xA000), (0x6000, 0x8000)]
    )
    found = [(one.start, one.end) for one in parse_maps(text)]
    assert found == [(0x1000, 0x3000), (0x3000, 0x9000), (0x9000, 0xA000)]


@given(st.sets(st.integers(0, 300)))
def test_runs_of_pages(pages: set[int]) -> None:
    runs = page_ranges(np.array(sorted(pages), np.uint64))
    assert [page for first, end in runs for page in range(first, end)] == sorted(pages)
    assert all(end < first for (_, end), (first, _) in pairwise(runs))


def test_nothing_that_could_be_ram() -> None:
    class NoMaps:
        def read(self) -> list[MapEntry]:
            return []

    with pytest.raises(CannotRecord, match="--guest-ram no"):
        find(NoMaps(), ["qemu-system-x86_64"])  # type: ignore[arg-type]


def test_a_scan_that_comes_back_counts_a_page_once() -> None:
    regions = np.array(
        [(0x5000, 0x9000, 0), (0x3000, 0x6000, 0), (0xA000, 0xB000, 0)],
        [("start", np.uint64), ("end", np.uint64), ("categories", np.uint64)],
    )
    assert pagemap._expanded(regions).pages.tolist() == [3, 4, 5, 6, 7, 8, 10]
