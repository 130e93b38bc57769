"""The published rules of each policy, at their boundaries."""

from __future__ import annotations

from typing import Any

import pytest

from paging_core.errors import BadOption
from source_host.precopy.policies import (
    Decision,
    Facts,
    PolicyName,
    QemuPolicy,
    Xen2009Policy,
    XenPolicy,
    make_policy,
)


def facts(**known: Any) -> Facts:
    defaults = dict.fromkeys(Facts.__dataclass_fields__, 0) | {"memory_frames": 1000}
    return Facts(**(defaults | known))


@pytest.mark.parametrize(
    ("to_send", "decision"),
    [
        (0, Decision.SEND_AND_STOP),
        (49, Decision.SEND_AND_STOP),
        (50, Decision.CONTINUE),
        (1000, Decision.CONTINUE),
    ],
)
def test_xen_sends_fewer_than_50_frames_live_once_more(to_send: int, decision: Decision) -> None:
    assert XenPolicy().before_round(facts(rounds_sent=1, to_send_frames=to_send)) is decision


def test_xen_stops_after_its_fifth_round_and_not_before() -> None:
    stops = [XenPolicy().stops_after_round(facts(rounds_sent=n)) for n in range(1, 6)]
    assert stops == [False, False, False, False, True]


def test_xen_2009_stops_after_29_rounds() -> None:
    busy = {"round_sent_frames": 100}
    assert not Xen2009Policy().stops_after_round(facts(rounds_sent=28, **busy))
    assert Xen2009Policy().stops_after_round(facts(rounds_sent=29, **busy))


def test_xen_2009_counts_skipped_frames_as_activity() -> None:
    policy = Xen2009Policy()
    assert policy.stops_after_round(
        facts(rounds_sent=1, round_sent_frames=20, round_skipped_frames=29)
    )
    assert not policy.stops_after_round(
        facts(rounds_sent=1, round_sent_frames=20, round_skipped_frames=30)
    )


def test_xen_2009_stops_beyond_three_times_memory() -> None:
    busy = {"rounds_sent": 4, "round_sent_frames": 700}
    assert not Xen2009Policy().stops_after_round(facts(total_sent_frames=3000, **busy))
    assert Xen2009Policy().stops_after_round(facts(total_sent_frames=3001, **busy))


def test_xen_2009_never_stops_before_a_round() -> None:
    assert Xen2009Policy().before_round(facts(rounds_sent=3)) is Decision.CONTINUE


@pytest.mark.parametrize(
    ("to_send", "threshold_bytes", "decision"),
    [
        (10, 40959, Decision.CONTINUE),
        (10, 40960, Decision.STOP),
        (0, 0, Decision.STOP),
        (1, 0, Decision.CONTINUE),
    ],
)
def test_qemu_stops_when_the_rest_fits_the_downtime(
    to_send: int, threshold_bytes: int, decision: Decision
) -> None:
    known = facts(rounds_sent=1, to_send_frames=to_send, threshold_bytes=threshold_bytes)
    assert QemuPolicy().before_round(known) is decision


def test_qemu_does_not_stop_before_anything_was_sent() -> None:
    known = facts(rounds_sent=0, to_send_frames=10, threshold_bytes=1 << 30)
    assert QemuPolicy().before_round(known) is Decision.CONTINUE


def test_qemu_syncs_as_soon_as_the_rest_fits() -> None:
    assert QemuPolicy().ends_round_early(facts(to_send_frames=10, threshold_bytes=40960))
    assert not QemuPolicy().ends_round_early(facts(to_send_frames=11, threshold_bytes=40960))
    assert not QemuPolicy().ends_round_early(facts(to_send_frames=0, threshold_bytes=40960))


@pytest.mark.parametrize(
    ("name", "rounds"), [(PolicyName.XEN, 5), (PolicyName.XEN_2009, 29), (PolicyName.QEMU, 30)]
)
def test_each_policy_has_a_round_limit_that_can_be_overridden(
    name: PolicyName, rounds: int
) -> None:
    assert make_policy(name).max_rounds == rounds
    shorter = make_policy(name, 2)
    assert shorter.stops_after_round(facts(rounds_sent=2, round_sent_frames=500))
    assert not shorter.stops_after_round(facts(rounds_sent=1, round_sent_frames=500))


def test_an_endless_round_limit_is_refused() -> None:
    with pytest.raises(BadOption, match="10001 rounds"):
        make_policy(PolicyName.XEN, 10_001)
