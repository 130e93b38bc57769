"""The modelled link and the meter, by hand."""

from __future__ import annotations

import pytest

from paging_core.errors import BadOption
from source_host.precopy.link import BandwidthMeter, Link

MS = 1_000_000


def test_a_gigabit_carries_a_byte_in_8_ns() -> None:
    assert Link(10**9).carry_ns(1_048_576) == 8_388_608


def test_carrying_rounds_up_to_whole_nanoseconds() -> None:
    assert Link(3 * 10**9).carry_ns(1) == 3
    assert Link(10**12).carry_ns(1) == 1


def test_a_round_trip_is_two_latencies() -> None:
    assert Link(1, latency_ns=50_000).round_trip_ns == 100_000


@pytest.mark.parametrize("rate", [0, -1, 2**63])
def test_a_link_of_0_is_refused(rate: int) -> None:
    with pytest.raises(BadOption, match="carries nothing"):
        Link(rate)


def test_a_negative_latency_is_refused() -> None:
    with pytest.raises(BadOption, match="latency"):
        Link(1, latency_ns=-1)


def test_nothing_is_measured_before_the_first_window_closes() -> None:
    meter = BandwidthMeter(0)
    meter.add(1000, 99 * MS)
    assert (meter.bytes_per_s, meter.bytes_in(10**9), meter.ns_for(1)) == (0, 0, 0)


def test_a_window_closes_after_100_ms() -> None:
    meter = BandwidthMeter(0)
    meter.add(1000, 50 * MS)
    meter.add(1000, 100 * MS)
    assert meter.bytes_per_s == 20_000
    assert meter.bytes_in(300 * MS) == 6000
    assert meter.ns_for(20) == MS


def test_the_first_round_closes_its_window_however_short() -> None:
    meter = BandwidthMeter(0)
    meter.begin_round(10 * MS)
    meter.add(500, 20 * MS)
    meter.end_round(30 * MS)
    assert meter.bytes_per_s == 25_000


def test_a_window_goes_on_from_round_to_round_without_the_time_between() -> None:
    meter = BandwidthMeter(0)
    meter.add(500, 10 * MS)
    meter.end_round(20 * MS)
    for begin_ns in (50 * MS, 900 * MS):
        meter.begin_round(begin_ns)
        meter.add(300, begin_ns + 40 * MS)
        meter.end_round(begin_ns + 50 * MS)
        assert meter.bytes_per_s == 25_000  # of the first round: 50 ms are no window yet
    meter.begin_round(1000 * MS)
    meter.add(1, 1000 * MS)
    assert meter.bytes_per_s == 6010


def test_a_last_small_message_is_no_measurement() -> None:
    meter = BandwidthMeter(0)
    meter.add(100_000, 100 * MS)
    meter.add(60, 101 * MS)
    meter.end_round(120 * MS)
    assert meter.bytes_per_s == 1_000_000


def test_a_round_in_which_nothing_crossed_keeps_what_was_measured() -> None:
    meter = BandwidthMeter(0)
    meter.add(500, 10 * MS)
    meter.end_round(10 * MS)
    meter.begin_round(90 * MS)
    meter.end_round(90 * MS)
    assert meter.bytes_per_s == 50_000
