"""Quantities as people write them: every unit by hand, every refusal one clear line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.errors import BadOption
from paging_core.units import (
    FRAME_BYTES,
    FRAME_SHIFT,
    WORDS_PER_FRAME,
    format_bytes,
    format_ns,
    parse_duration_ns,
    parse_memory_bytes,
    parse_rate_bits_per_s,
    parse_size_bytes,
)


def test_a_frame_is_4_kib_of_512_words() -> None:
    assert (FRAME_BYTES, 1 << FRAME_SHIFT, WORDS_PER_FRAME) == (4096, 4096, 512)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("256MiB", 268_435_456),
        ("256M", 268_435_456),
        ("256MB", 256_000_000),
        ("1.5GiB", 1_610_612_736),
        ("1GB", 1_000_000_000),
        ("2T", 2 * 1024**4),
        ("1TB", 10**12),
        (" 64 MiB ", 67_108_864),
    ],
)
def test_sizes_are_read_by_their_unit(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "rate_bits_per_s"),
    [
        ("1Gbit/s", 10**9),
        ("2.5Gbit/s", 2_500_000_000),
        ("100 Mbit/s", 10**8),
        ("9600bit/s", 9600),
        ("56kbit/s", 56_000),
        ("1Tbit/s", 10**12),
    ],
)
def test_link_rates_are_decimal(text: str, rate_bits_per_s: int) -> None:
    assert parse_rate_bits_per_s(text) == rate_bits_per_s


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("300ms", 300_000_000),
        ("1s", 10**9),
        ("0ns", 0),
        ("2.5us", 2500),
        ("2.5µs", 2500),
        ("3min", 180 * 10**9),
    ],
)
def test_durations_are_read_by_their_unit(text: str, duration_ns: int) -> None:
    assert parse_duration_ns(text) == duration_ns


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1.MiB", "0x10", "1e3MiB", "1 2MiB", "nan"])
def test_a_size_that_is_no_number_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadOption, match="write it like 256MiB"):
        parse_size_bytes(text)


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadOption, match=r"unknown unit.*kib, mib"):
        parse_size_bytes("3 furlongs")
    with pytest.raises(BadOption, match=r"unknown unit.*gbit/s"):
        parse_rate_bits_per_s("1GB")
    with pytest.raises(BadOption, match=r"unknown unit.*ms"):
        parse_duration_ns("3 fortnights")


def test_a_number_beyond_all_machines_is_refused_like_any_other() -> None:
    for parse in (parse_size_bytes, parse_rate_bits_per_s, parse_duration_ns):
        with pytest.raises(BadOption):
            parse("9" * 400)


@pytest.mark.parametrize("text", ["0", "0MiB", "4097", "1000kB", "0.5KiB"])
def test_memory_is_a_whole_positive_number_of_frames(text: str) -> None:
    with pytest.raises(BadOption, match="multiple of the 4096-byte frame"):
        parse_memory_bytes(text)


@given(st.integers(1, 2**40))
def test_any_number_of_frames_is_memory(n_frames: int) -> None:
    assert parse_memory_bytes(f"{n_frames * 4}KiB") == n_frames * 4096


@pytest.mark.parametrize("text", ["0Gbit/s", "0.0Mbit/s", "0.4bit/s"])
def test_a_link_that_carries_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="carries nothing"):
        parse_rate_bits_per_s(text)


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5000 * 1024**3, "5000.0 GiB"),
    ],
)
def test_sizes_for_people(count_bytes: int, text: str) -> None:
    assert format_bytes(count_bytes) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1500, "1.5 µs"),
        (12_300_000, "12.3 ms"),
        (300_000_000, "300 ms"),
        (2_000_000_000, "2 s"),
        (-999, "−999 ns"),
        (-1_584_280, "−1.58 ms"),
        (-224_790, "−225 µs"),
    ],
)
def test_durations_for_people(duration_ns: int, text: str) -> None:
    assert format_ns(duration_ns) == text
