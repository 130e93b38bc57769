"""Content of files that has the right form and makes no sense: one error, not a traceback.

Schemas and magic numbers tell a file of ours from others. What a damaged or hand-made one holds
inside (a frame beyond memory, a missing figure, a zero to divide by) is met by whatever computes
with it, deep in a library or in our own sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pageferry.results import BadResult

_IMPOSSIBLE = (
    pa.ArrowException,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


@contextmanager
def computing_from(what: str, way_out: str, *more: type[Exception]) -> Iterator[None]:
    """Whatever a computation from files meets in here is said about those files.

    Args:
        what: the files, for the error's line.
        way_out: ends that line.
        more: further exceptions of the libraries that read them.

    Raises:
        BadResult: something cannot be computed from them.
    """
    try:
        yield
    except (*_IMPOSSIBLE, *more) as error:
        first = str(error).partition("\n")[0][:200]
        reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
        raise BadResult(f"{what} cannot be read ({reason}); {way_out}") from error
