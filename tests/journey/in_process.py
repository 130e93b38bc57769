"""Whole migrations in this process, with the guest that arrived at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pageferry.in_process import destination, migrate
from paging_core.config import GuestConfig
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from source_host.precopy.link import Link
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from wire.hosting.guests.kinds import Kinds
from wire.hosting.guests.states import GuestState


class KeepingFactory(Kinds):
    """Makes the guests that every destination makes, and keeps the last one at hand."""

    guest: ModelGuest

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        resume = super().prepare(config, trace_digest)

        def kept(memory: GuestMemory, state: bytes) -> ModelGuest:
            guest = resume(memory, state)
            assert isinstance(guest, ModelGuest)
            self.guest = guest
            return guest

        return kept


@dataclass(frozen=True)
class Arrived:
    """A guest that was moved.

    Attributes:
        guest: it, as it stands at its destination.
        report: of its migration.
    """

    guest: ModelGuest
    report: Report


@contextmanager
def booted(config: GuestConfig) -> Iterator[ModelGuest]:
    """A fresh guest; its memory is given back at the end."""
    guest = ModelGuest.boot(config)
    try:
        yield guest
    finally:
        guest.memory.close()


@contextmanager
def migrated(config: GuestConfig, link: Link, **plan: Any) -> Iterator[Arrived]:
    """Boot a guest and move it while it runs."""
    factory = KeepingFactory()
    with destination(config.memory_bytes, factory) as receiver:
        with booted(config) as guest:
            report, state = migrate(guest, Plan(link=link, **plan), receiver)
        assert report.error is None, report.error
        assert state is GuestState.MOVED
        yield Arrived(factory.guest, report)


def assert_same(moved: ModelGuest, twin: ModelGuest) -> None:
    """Same place, same memory, same registers and address spaces."""
    assert moved.position == twin.position
    differing = np.flatnonzero((moved.memory.words != twin.memory.words).any(axis=1))
    assert not len(differing), f"{len(differing)} frames differ, first {differing[:8].tolist()}"
    assert moved.architectural_state() == twin.architectural_state()
