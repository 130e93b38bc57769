"""The migrations of a source host: what is left of one that could not even begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.errors import BadOption
from source_host.migrations import Migrations
from source_host.precopy.transport import Metadata, Transport
from source_host.watch.metrics import Metrics
from tests.source_host.fake_destination import FakeDestination
from wire.hosting.guests.guests import Guests

MIB = 2**20


def no_way(
    _address: str, _on_ack: Callable[[float], None], _metadata: Callable[[], Metadata]
) -> Transport:
    raise ZeroDivisionError("a bug")


def a_way(
    _address: str, _on_ack: Callable[[float], None], _metadata: Callable[[], Metadata]
) -> Transport:
    return FakeDestination(512)


@pytest.fixture
def guests() -> Guests:
    guests = Guests(max_memory_bytes=4 * MIB)
    guests.create("web", GuestConfig(2 * MIB, workload="idle"))
    return guests


def migrations(guests: Guests, connect: Callable[..., Transport], flow: Path) -> Migrations:
    return Migrations(guests, Metrics(CollectorRegistry()), connect, 4, flow)


def asked(flow_directory: str = "") -> pb.MigrateRequest:
    return pb.MigrateRequest(
        guest_id="web",
        destination="127.0.0.1:1",
        clock=common_pb2.CLOCK_REAL,
        flow_directory=flow_directory,
    )


def assert_free(guests: Guests) -> None:
    """Another migration, or nobody, may have it."""
    guests.get("web").check_idle("delete")
    guests.delete("web")


def test_a_bug_before_it_began_gives_the_guest_back(guests: Guests, tmp_path: Path) -> None:
    broken = migrations(guests, no_way, tmp_path)
    with pytest.raises(ZeroDivisionError):
        broken.start(asked())
    assert broken.all() == []
    assert_free(guests)


def test_a_thread_that_cannot_start_gives_the_guest_back(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = migrations(guests, a_way, tmp_path)

    def no_more(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", no_more)
    with pytest.raises(RuntimeError):
        full.start(asked())
    assert full.all() == []
    assert_free(guests)


def test_a_flow_directory_that_is_no_path(guests: Guests, tmp_path: Path) -> None:
    hosted = migrations(guests, a_way, tmp_path)
    with pytest.raises(BadOption, match="no path for a flow"):
        hosted.start(asked(flow_directory="a\0b"))
    assert_free(guests)
