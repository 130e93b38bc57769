"""What an attacker would write: where, and which words."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from paging_core.memory import Words
from paging_core.workloads import ops
from tests.isolation.templates import Template
from tests.paging_core.reference.programs import HUGE_PAGE, PAGES, Op, as_ops

PRESENT, WRITABLE, USER, ACCESSED, DIRTY, SUPERPAGE, COW = 1, 2, 4, 32, 64, 128, 512
_FLAGS = (
    7, 7 | ACCESSED | DIRTY, 5 | COW, 5 | COW | ACCESSED, COW, SUPERPAGE, SUPERPAGE | COW,
    7 | SUPERPAGE, 7 | SUPERPAGE | ACCESSED | DIRTY, 5 | SUPERPAGE | COW, 3, 1, 0, 4,
    7 | COW, 0xFFF,
)  # fmt: skip
_MANY = 64
_ODD = (0, 1, -1, 2**63 - 1, -(2**63), 1 << 62, PRESENT | SUPERPAGE, ~PRESENT)
_ODD_STATE: tuple[Any, ...] = (
    None, True, False, "", "7", "\ud800", "x" * 10_000, [], [0] * 15, [0] * 17, [[]], {}, {"a": {}},
    1.5, 1e300, float("nan"), float("inf"), -1, 0, 1, 2**31, 2**53, 2**61, 2**63 - 1, 2**63, 2**64,
    10**300, -(2**63), -(2**70),
)  # fmt: skip


class Attacker:
    """A source of hostile words for one guest; the same seed writes the same words."""

    def __init__(self, template: Template, seed: int) -> None:
        self._template = template
        self._random = random.Random(seed)  # noqa: S311 - to be repeated
        self._n_frames = len(template.words)

    def chance(self, probability: float) -> bool:
        """Now and then True."""
        return self._random.random() < probability

    def either(self, numbers: tuple[int, ...]) -> int:
        """One of them."""
        return self._random.choice(numbers)

    def upto(self, most: int) -> int:
        """1 to `most`, small numbers as likely as large ones."""
        return min(most, int(2 ** self._random.uniform(0, most.bit_length())))

    def meddle(self, words: Words, count: int) -> None:
        """Overwrite so many words of guest memory."""
        if count > _MANY:
            self._meddle_often(words, count)
            return
        for _ in range(count):
            frame, slot = self._place()
            words[frame, slot] = self._word(int(words[frame, slot]))

    def _meddle_often(self, words: Words, count: int) -> None:
        """The same in bulk: places and words are drawn from some that were drawn one by one."""
        bulk = np.random.default_rng(self._random.getrandbits(64))
        places = np.array([self._place() for _ in range(_MANY)])[bulk.integers(0, _MANY, count)]
        anywhere = bulk.random(count) < 0.3
        places[anywhere, 0] = bulk.integers(0, self._n_frames, int(anywhere.sum()))
        hostile = np.array([self._word(0) for _ in range(_MANY)])[bulk.integers(0, _MANY, count)]
        one_bit = bulk.random(count) < 0.2
        was = words[places[:, 0], places[:, 1]]
        flipped = was ^ np.left_shift(np.int64(1), bulk.integers(0, 64, count))
        words[places[:, 0], places[:, 1]] = np.where(one_bit, flipped, hostile)

    def program(self, count: int) -> ops.Ops:
        """Operations of user code; their data are hostile words, too."""
        return as_ops([self._operation() for _ in range(count)])

    def state(self) -> bytes:
        """The guest's state, with something changed in it."""
        text = bytearray(self._template.state)
        if self.chance(0.2):
            for _ in range(self.upto(4)):
                text[self._random.randrange(len(text))] = self._random.randrange(256)
            return bytes(text)
        if self.chance(0.02):
            return b"[" * 100_000
        document = json.loads(text)
        self._change(document)
        return json.dumps(document).encode()

    def _change(self, document: dict[str, Any]) -> None:
        at: Any = document
        while True:
            key = self._random.choice(list(at) if isinstance(at, dict) else range(len(at)))
            inner = at[key]
            if not isinstance(inner, dict | list) or not inner or self.chance(0.1):
                break
            at = inner
        if self.chance(0.1) and isinstance(at, dict):
            at.pop(key)
        elif self.chance(0.1) and isinstance(at, dict):
            at[self._random.choice(("", "more", key + "x"))] = inner
        elif self.chance(0.4) and type(inner) is int:
            at[key] = inner + self._random.choice((-1, 1, 511, 512, -512))
        elif self.chance(0.5):
            at[key] = self._n_frames + self._random.randint(-2, 2)
        else:
            at[key] = self._random.choice(_ODD_STATE)

    def _place(self) -> tuple[int, int]:
        draw, template = self._random, self._template
        kind = draw.random()
        if kind < 0.55:
            table = draw.choice(template.tables)
            present = np.flatnonzero(template.words[table])
            if len(present) and self.chance(0.7):
                return table, int(draw.choice(present))
            return table, draw.randrange(512)
        if kind < 0.85:
            return draw.choice(template.counts), draw.randrange(self._n_frames // 4 % 512 + 1)
        return draw.randrange(self._n_frames), draw.randrange(512)

    def _word(self, was: int) -> int:
        draw = self._random
        kind = draw.randrange(8)
        if kind == 0:
            word = draw.getrandbits(64)
        elif kind == 1:
            word = was ^ 1 << draw.randrange(64)
        elif kind == 2:
            word = draw.choice(_ODD)
        elif kind == 3:  # four reference counts
            counts = [draw.choice((0, 0, 1, 1, 2, 3, 0xFFFF, 0x8000)) for _ in range(4)]
            word = sum(count << 16 * i for i, count in enumerate(counts))
        else:
            word = self._frame() << 12 | draw.choice(_FLAGS)
        return (word + 2**63) % 2**64 - 2**63

    def _frame(self) -> int:
        draw, n = self._random, self._n_frames
        kind = draw.randrange(8)
        if kind < 2:
            frame = draw.choice(self._template.tables)
        elif kind == 2:
            frame = draw.randrange(n)
        elif kind == 3:
            frame = n + draw.randint(-3, 3)
        elif kind == 4:
            frame = max(0, n // 512 + draw.randint(-2, 1)) * 512 + draw.choice((0, 0, 1))
        elif kind == 5:
            frame = 2 ** draw.randrange(20, 40) + draw.randint(-300, 300)
        elif kind == 6:
            frame = 2**40 - draw.randint(1, 600)
        else:
            frame = draw.getrandbits(52)
        return frame

    def _operation(self) -> Op:
        draw = self._random
        kind = draw.choices(range(10), (12, 30, 4, 6, 6, 6, 3, 3, 1, 1))[0]
        if kind in {ops.SWITCH, ops.FORK, ops.EXIT}:
            return Op(kind, draw.choice((0, 1, 2, 3, 14, 15, 15, 16, -1, 2**40)))
        if kind == ops.MMAP_HUGE:
            return Op(kind, (HUGE_PAGE + 512 * draw.randrange(2)) << 12, 512)
        page = draw.choice(PAGES) if self.chance(0.7) else HUGE_PAGE + draw.randrange(600)
        if self.chance(0.1):
            page = draw.randrange(1 << 35)
        if kind in {ops.MMAP, ops.MUNMAP}:
            return Op(kind, page << 12, self.upto(600))
        word = draw.randrange(512)
        value = self._word(0) if kind == ops.WRITE else 0
        return Op(kind, page << 12 | word << 3, value, self.upto(512))
