"""Hosts that the tests of the journey share: starting them takes longer than a migration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.journey.hosts import Destination, Pair, start
from tests.journey.relay import Relay


@pytest.fixture(scope="session")
def log_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the source and the destination of `serving` log to."""
    folder = tmp_path_factory.mktemp("logs")
    return folder / "source.log", folder / "destination.log"


@pytest.fixture(scope="session")
def serving(log_files: tuple[Path, Path]) -> Iterator[Pair]:
    """A source and a destination that serve all the time."""
    metrics = ["--metrics-port", "0"]
    with ExitStack() as stack:
        source_log, destination_log = (stack.enter_context(file.open("wb")) for file in log_files)
        yield stack.enter_context(Pair(metrics, metrics, (source_log, destination_log)))


@pytest.fixture
def pair(serving: Pair) -> Iterator[Pair]:
    """The same two hosts for every test, without the guests of the one before."""
    yield serving
    serving.forget_guests()


@pytest.fixture
def relay(pair: Pair) -> Iterator[Relay]:
    """The destination of `pair`, with a relay in between."""
    with Relay(pair.destination.address) as relay:
        yield relay


@pytest.fixture
def expendable() -> Iterator[Destination]:
    """A destination that a test may kill."""
    with Destination(start("dest_host")) as destination:
        yield destination
