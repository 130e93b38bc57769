"""What an encoder says of frames: each result is its call's own."""

from __future__ import annotations

import numpy as np

from paging_core.migration_key import MigrationKey
from source_host.precopy.encoder import Encoder
from wire.batch import Compression
from wire.runs import FrameKind

KEY = MigrationKey.of_seed(3)
ALL = np.arange(3)


def frames() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    memory = np.zeros((3, 4096), np.uint8)
    memory[0], memory[1] = 7, np.random.default_rng(1).integers(0, 256, 4096)
    return memory


def test_changed_is_told_with_the_batch_that_it_is_about() -> None:
    memory = frames()
    encoder = Encoder(memory, KEY, suppress=True)
    first = encoder.encode(ALL, np.zeros(3, np.bool_), 1, last=True)
    memory[1, 5] ^= 1
    second = encoder.encode(ALL, np.ones(3, np.bool_), 2, last=True)
    empty = encoder.encode(ALL[:0], np.ones(0, np.bool_), 3, last=True)
    assert first.changed.tolist() == [True, True, True]
    assert second.changed.tolist() == [False, True, False]
    assert empty.changed.tolist() == []
    kinds = [FrameKind.UNCHANGED, FrameKind.DATA, FrameKind.ZERO]
    assert second.batch.runs.kinds().tolist() == [int(kind) for kind in kinds]
    assert [one.batch.sequence for one in (first, second, empty)] == [0, 1, 2]


def test_a_level_holds_for_its_own_batch_alone() -> None:
    encoder = Encoder(frames(), KEY, suppress=False)
    levels = [1, 0, 3, 0]
    batches = [
        encoder.encode(ALL[:1], np.zeros(1, np.bool_), 1, last=False, level=level).batch
        for level in levels
    ]
    plain = [batch.compression is Compression.NONE for batch in batches]
    assert plain == [level == 0 for level in levels]
    assert [len(batch.payload) == 4096 for batch in batches] == plain


def test_what_does_not_shrink_goes_plain_at_any_level() -> None:
    encoder = Encoder(frames(), KEY, suppress=False)
    batch = encoder.encode(ALL[1:2], np.zeros(1, np.bool_), 1, last=False, level=9).batch
    assert batch.compression is Compression.NONE
    assert batch.payload_raw_bytes == len(batch.payload) == 4096
