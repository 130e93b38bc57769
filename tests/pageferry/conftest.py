"""Hosts that several tests share: starting two takes longer than migrating between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pageferry.loopback import Loopback


@pytest.fixture(scope="session")
def hosts() -> Iterator[list[str]]:
    """Options that name two running hosts."""
    with Loopback() as loopback:
        yield ["--source", loopback.source, "--dest", loopback.destination]
