"""AVG and HIST worked out by hand: a frame crosses in one millisecond."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pageferry.predict.history import WriteLog, at_rate, avg, hist, window_ns
from pageferry.predict.simulation import Setting, simulate
from paging_core.model_guest import ModelGuest
from source_host.precopy.link import Link
from source_host.precopy.policies import PolicyName, make_policy

MS = 1_000_000
FRAME_A_MS = Link(4096 * 8 * 1000)


def setting(frames: int = 1000, policy: PolicyName = PolicyName.XEN, **changed: Any) -> Setting:
    known: dict[str, Any] = {
        "memory_frames": frames,
        "frame_bytes": 4096,
        "link": FRAME_A_MS,
        "policy": make_policy(policy),
        "downtime_limit_ns": 300 * MS,
    }
    return Setting(**(known | changed))


class Scripted:
    """A guest that writes in each millisecond what a script says."""

    def __init__(self, n_frames: int, script: list[set[int]]) -> None:
        self.n_frames, self.time_ns, self.script = n_frames, 0, script
        self.machine = SimpleNamespace(frames=np.zeros(n_frames, [("written", np.uint8)]))

    def run(self, until_ns: int) -> None:
        while self.time_ns < until_ns:
            written = self.script[self.time_ns // MS % len(self.script)]
            self.machine.frames["written"][list(written)] = 1
            self.time_ns += MS


def log_of(n_frames: int, script: list[set[int]], window: int = MS) -> WriteLog:
    return WriteLog(cast("ModelGuest", Scripted(n_frames, script)), window)


def test_avg_by_hand() -> None:
    """100 frames/s: 1000 frames in 1 s, then 100 in 0.1 s, then 10 (under 50: the last live
    round) in 10 ms, then the 1 that is left."""
    said = simulate("AVG", setting(), at_rate(100))
    assert said.rounds == 4
    assert said.bytes_wire == 1111 * 4096
    assert said.total_s == pytest.approx(1.111)
    assert said.downtime_s == pytest.approx(0.001)


def test_no_guest_dirties_more_than_all_memory() -> None:
    """2000 frames/s keep all 1000 dirty: five live rounds and the last one."""
    said = simulate("AVG", setting(), at_rate(2000))
    assert (said.rounds, said.bytes_wire) == (6, 6000 * 4096)
    assert said.downtime_s == pytest.approx(1)


def test_answers_take_round_trips_and_encoded_frames_take_less() -> None:
    """Each round waits for its answer; downtime has those of the last round and the commit."""
    slow = setting(frame_bytes=2048, link=Link(FRAME_A_MS.bits_per_s, latency_ns=5 * MS))
    said = simulate("AVG", slow, at_rate(0))
    assert (said.rounds, said.bytes_wire) == (2, 1000 * 2048)
    assert said.total_s == pytest.approx(0.5 + 0.010 + 0.020)
    assert said.downtime_s == pytest.approx(0.020)


def test_what_is_digested_takes_the_sender_time() -> None:
    """A quarter of a millisecond a frame: 1000 frames in 1.25 s dirty 125; those in 0.15625 s 16
    (15.6); those, the last live ones, in 20 ms 2; and 2 are left. The link carries no byte more."""
    said = simulate("AVG", setting(frame_digest_ns=MS / 4), at_rate(100))
    assert (said.rounds, said.bytes_wire) == (4, (1000 + 125 + 16 + 2) * 4096)
    assert said.total_s == pytest.approx(1143 * 0.00125)
    assert said.downtime_s == pytest.approx(0.0025)


def test_qemu_stops_when_the_rest_fits() -> None:
    """4096 frames in batches of 1024; 1100 ms of link carry 1100 frames: after three batches the
    1024 left fit. 100 frames/s dirtied 307 meanwhile; 1331 do not fit. Then 1024 of them go,
    102 come, 307 + 102 fit."""
    qemu = setting(4096, PolicyName.QEMU, downtime_limit_ns=1100 * MS)
    said = simulate("AVG", qemu, at_rate(100))
    assert said.rounds == 3
    assert said.bytes_wire == (3072 + 1024 + 409) * 4096
    assert said.downtime_s == pytest.approx(0.409)


def test_the_average_is_that_of_one_pass_over_memory() -> None:
    """Two frames in turn for 100 ms of 100 frames: 2 distinct ones in 0.1 s are 20 frames/s."""
    log = log_of(100, [{0}, {1}])
    said = avg(setting(100), log)
    # 100 in 100 ms; 2 (under 50: live, the last) in 2 ms; nothing is left: 0.04 frames.
    assert (said.rounds, said.bytes_wire) == (3, 102 * 4096)


def test_hist_sends_the_union_of_the_windows() -> None:
    """Frames 0 to 99 once each: 100 in round 1. The next 100 ms write 0 and 1 only."""
    script = [{i} for i in range(100)] + [{i % 2} for i in range(100)]
    said = hist(setting(100), log_of(100, script))
    # 100 in 100 ms, 100 in 100 ms, {0, 1} in 2 ms, then frames 0 and 1 of the script again.
    assert (said.rounds, said.bytes_wire) == (4, 204 * 4096)
    assert said.downtime_s == pytest.approx(0.002)


def test_a_window_counts_as_soon_as_it_is_touched() -> None:
    log = log_of(64, [{1, 2}, {2, 3}, {5}])
    assert log.frames_written(0, MS) == 2
    assert log.frames_written(0, MS + 1) == 3
    assert log.frames_written(MS, 3 * MS) == 3
    assert log.frames_written(2 * MS, 2 * MS) == 0
    assert log.logged_ns == 3 * MS


def test_windows_are_short_against_a_pass() -> None:
    assert window_ns(setting(2560)) == 10 * MS
    assert window_ns(setting(1)) == 100_000
