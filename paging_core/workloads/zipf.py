"""Zipf's law exactly the same everywhere, drawn in constant time.

The weight of rank k is k**-s. `pow` differs between C libraries in its last bit, so s is
counted in 1/1024 and the power is made of multiplications and square roots, which IEEE 754
rounds correctly. The draw is Walker's alias method (Vose 1991): a column, then it or its
alias. Columns are pages, so scattering the ranks over the working set is free.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.workloads.randomness import UNIT, below, draw_at, high, low, more
from paging_core.workloads.records import CHOICE, Rows, Shape, put_page_access

AliasTable = npt.NDArray[np.uint64]
"""Per column: in the upper half how much of it is its own, of 2**32; in the lower its alias."""

EXPONENT_BITS = 10
EXPONENT_ONE = 1 << EXPONENT_BITS
"""s = 1, as an exponent is counted here."""


@kernel
def _power(base: float, exponent: int) -> float:
    """`base` ** (exponent / 1024), of exactly rounded operations only."""
    result = 1.0
    for _ in range(exponent >> EXPONENT_BITS):
        result *= base
    root = base
    for bit in range(EXPONENT_BITS - 1, -1, -1):
        root = math.sqrt(root)
        if (exponent >> bit) & 1:
            result *= root
    return result


@kernel
def _shares(pages: int, exponent: int) -> npt.NDArray[np.float64]:
    """Accesses of each rank, where 1.0 is the mean over all."""
    shares = np.empty(pages, np.float64)
    total = 0.0
    for rank in range(pages - 1, -1, -1):  # the smallest first: less is lost in the sum
        shares[rank] = 1.0 / _power(float(rank + 1), exponent)
        total += shares[rank]
    for rank in range(pages):
        shares[rank] = shares[rank] * pages / total
    return shares


@kernel
def _pages_of_ranks(pages: int, scatter: int, key: int) -> npt.NDArray[np.int64]:
    """The page of each rank: in order, or shuffled (Fisher and Yates)."""
    order = np.arange(pages)
    if scatter:
        for i in range(pages - 1, 0, -1):
            j = below(high(draw_at(key, i)), i + 1)
            order[i], order[j] = order[j], order[i]
    return order


@kernel
def _column(share: float, alias: int) -> np.uint64:
    own = min(int(share * UNIT), UNIT - 1)
    return (np.uint64(own) << np.uint64(32)) | np.uint64(alias)


@kernel
def _fill_table(
    shares: npt.NDArray[np.float64], page_of: npt.NDArray[np.int64], table: AliasTable
) -> None:
    """Fill up each poor column (a share under 1.0) from a rich one, until none is left."""
    n = shares.shape[0]
    stack = np.empty(n, np.int64)  # the poor from its bottom up, the rich from its top down
    poor, rich = 0, n
    for rank in range(n):
        if shares[rank] < 1.0:
            stack[poor] = rank
            poor += 1
        else:
            rich -= 1
            stack[rich] = rank
    while poor > 0 and rich < n:
        poor -= 1
        taker, giver = int(stack[poor]), int(stack[rich])
        table[page_of[taker]] = _column(float(shares[taker]), int(page_of[giver]))
        shares[giver] -= 1.0 - shares[taker]
        if shares[giver] < 1.0:
            rich += 1
            stack[poor] = giver
            poor += 1
    for i in range(n):  # what rounding left over is whole columns
        if i < poor or i >= rich:
            table[page_of[stack[i]]] = _column(1.0, int(page_of[stack[i]]))


@kernel
def alias_table(pages: int, exponent: int, scatter: int, key: int) -> AliasTable:
    """The table to draw pages from.

    Args:
        pages: of the working set; under 2**31.
        exponent: s in 1/1024.
        scatter: 1 to spread the ranks over the working set, 0 to keep them in order.
        key: of the random order that they are spread in.
    """
    table = np.empty(pages, np.uint64)
    _fill_table(_shares(pages, exponent), _pages_of_ranks(pages, scatter, key), table)
    return table


@kernel
def fill_zipf(shape: Shape, table: AliasTable, first: int, rows: Rows) -> None:
    """Few pages often, most pages seldom."""
    for i in range(rows.shape[0]):
        draw = draw_at(shape.key, first + i)
        page = below(high(draw), table.shape[0])
        column = table[page]
        # No branch: a mispredicted one would wait for the table's next cache miss.
        aliased = 1 if low(more(draw, CHOICE)) >= high(column) else 0
        page += aliased * (low(column) - page)
        put_page_access(rows, i, page, draw, shape)
