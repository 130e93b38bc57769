"""A guest whose stores were chosen so that an unkeyed digest would not notice them.

Before round 1 a page holds one content, and while the rounds go on two stores of eight bytes make
it another one with the same XXH64 (seed 0), as anybody computes it from the specification.
"""

from __future__ import annotations

import numpy as np
import pytest
from xxhash import xxh64_intdigest as xxh64

from pageferry.in_process import destination, migrate
from paging_core.config import GuestConfig
from paging_core.model_guest import ModelGuest
from paging_core.workloads.ops import IDLE, OP_DTYPE, WRITE, Ops
from source_host.precopy.link import Link
from source_host.precopy.plan import Plan
from source_host.precopy.policies import PolicyName
from tests.journey.in_process import KeepingFactory, booted
from tests.paging_core.collisions import same_xxh64
from wire.hosting.guests.states import GuestState

MEMORY_BYTES = 8 << 20
PAGE = 0x4000_0000
"""Where in the guest's address space it is."""
WORD = 8
AT = 10
"""The stores come after so many milliseconds: in the middle of round 1."""
CONTENTS = {
    "text": b"balance of account 4711 is 100 EUR. ".ljust(4096, b"."),
    "numbers": bytes(range(256)) * 16,
    "zeros": bytes(4096),
}


class TwoStores:
    """A workload: idles for a millisecond per operation, and stores two words on the way."""

    spec = "idle"

    def __init__(self, stores: dict[int, int]) -> None:
        """Store these values, by their place in the page."""
        self._stores = list(stores.items())

    def setup(self) -> Ops:
        return np.zeros(0, OP_DTYPE)

    def fill(self, position: int, ops: Ops) -> None:
        ops[:] = 0
        ops["kind"], ops["value"] = IDLE, 1_000_000
        for i, (word, value) in enumerate(self._stores, AT - position):
            if 0 <= i < len(ops):
                _store(ops, i, word, value)


def _store(ops: Ops, i: int, word: int, value: int) -> None:
    ops[i] = 0
    ops["kind"][i], ops["address"][i], ops["words"][i] = WRITE, PAGE + 8 * word, 1
    ops["value"].view(np.uint64)[i] = value


def put(guest: ModelGuest, content: bytes) -> int:
    """Have the guest write a page; the frame that it came to lie in."""
    ops = np.zeros(512, OP_DTYPE)
    _store(ops, 0, 0, 0x1122_3344_5566_7788)
    guest.execute(ops[:1])
    (gfn,) = np.flatnonzero(guest.memory.words[:, 0] == 0x1122_3344_5566_7788)
    for word, value in enumerate(np.frombuffer(content, "<u8").tolist()):
        _store(ops, word, word, value)
    guest.execute(ops)
    assert guest.memory.frames[gfn].tobytes() == content
    return int(gfn)


@pytest.mark.parametrize("suppress", [True, False])
@pytest.mark.parametrize("policy", PolicyName)
@pytest.mark.parametrize("name", CONTENTS)
def test_stores_that_no_unkeyed_digest_notices_arrive(
    name: str, policy: PolicyName, *, suppress: bool
) -> None:
    before = CONTENTS[name]
    after = same_xxh64(before, WORD, 0x2020_3939_3939_3939)
    assert xxh64(after) == xxh64(before)
    words = np.frombuffer(after, "<u8").tolist()
    factory = KeepingFactory()
    plan = Plan(link=Link(10**9), policy=policy, suppress=suppress, max_rounds=4)
    with destination(MEMORY_BYTES, factory) as receiver:
        with booted(GuestConfig(MEMORY_BYTES, workload="idle")) as guest:
            gfn = put(guest, before)
            guest.workload = TwoStores({word: words[word] for word in (WORD, WORD + 4)})
            guest._ops_start = -1
            report, state = migrate(guest, plan, receiver)
            assert guest.memory.frames[gfn].tobytes() == after
        assert report.error is None, report.error
        assert state is GuestState.MOVED
        assert report.verified
        assert report.totals.repaired_frames == 0
        assert factory.guest.memory.frames[gfn].tobytes() == after
