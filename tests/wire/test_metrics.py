"""Gauges that come and go, and the bound on guests that are named."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from wire.hosting.metrics import NAMED_GUESTS, Shown, ShownNow, guest_family, show_guests


def samples(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_series_is_gone_with_what_it_speaks_of() -> None:
    registry, there = CollectorRegistry(auto_describe=True), {"0": 7.0}
    ShownNow(
        registry,
        [Shown("tanks", "How full.", ("slot",)), Shown("idle", "Never.", ())],
        lambda: [("tanks", (slot,), value) for slot, value in there.items()],
    )
    assert samples(registry) == ['tanks{slot="0"} 7.0']
    there.clear()
    assert samples(registry) == []


def test_no_more_guests_are_named_than_the_bound_says() -> None:
    registry, asked = CollectorRegistry(), []

    def guests() -> list[tuple[str]]:
        asked.append(1)
        return [(f"web-{number:04}",) for number in range(NAMED_GUESTS + 5)]

    show_guests(registry, guest_family("source", ("guest_id",)), guests)
    assert not asked  # registering asks nobody
    shown = samples(registry)
    assert len(shown) == NAMED_GUESTS
    assert shown[0] == 'pageferry_source_guest_info{guest_id="web-0000"} 1.0'
