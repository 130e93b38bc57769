"""What may come of an input: it is taken, or refused in our own words."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import click

from paging_core.errors import InvariantViolation, PageferryError

REFUSAL_CHARS = 10_000
"""Longest text of a refusal: it is to be read."""


@contextmanager
def refusals() -> Iterator[None]:
    """Within, an error of ours is fine, but for the one that says that there is a bug."""
    try:
        yield
    except InvariantViolation:
        raise
    except (PageferryError, click.UsageError) as error:
        if len(str(error)) > REFUSAL_CHARS:
            raise AssertionError(f"a refusal of {len(str(error))} characters") from error


@cache
def scratch() -> Path:
    """A directory of this process; who started it removes it."""
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def placed(data: bytes, name: str) -> Path:
    """The input as a file."""
    path = scratch() / name
    path.write_bytes(data)
    return path
