"""How full the shadow pool was, as a clean found it."""

from __future__ import annotations

import pytest

from paging_core.config import CleanPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.guest import ShadowPool
from paging_core.model_guest import ModelGuest
from paging_core.shadow_view import ShadowView

WORKLOAD = "uniform:wss=1MiB,write_rate=1M"


def running(tracker: TrackerConfig) -> ModelGuest:
    guest = ModelGuest.boot(GuestConfig(8 * 2**20, tracker=tracker, workload=WORKLOAD))
    guest.start_tracking()
    guest.run_accesses(2000)
    return guest


@pytest.mark.parametrize("clean", [CleanPolicy.BLOW, CleanPolicy.WRITE_PROTECT])
def test_it_is_what_stood_there_before_the_clean(clean: CleanPolicy) -> None:
    """Counted page by page; 40 pages are the pool's size here."""
    guest = running(TrackerConfig(clean=clean, shadow_pool_frames=40))
    used_pages = len(list(ShadowView(guest).pages()))
    assert 0 < used_pages < 40
    assert guest.clean().shadow_pool == ShadowPool(used_pages, 40)


def test_there_is_none_without_shadows() -> None:
    assert running(TrackerConfig(paging=Paging.HAP)).clean().shadow_pool is None
