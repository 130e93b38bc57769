"""What the metrics of both hosts have in common: a registry of their own and build info."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice

from prometheus_client import (
    CollectorRegistry,
    Info,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from wire.version import CONTRACT

LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Buckets for a batch: a MiB takes half a millisecond on an idle core, and the window of 32 MiB
as many seconds on a slow link as a source waits for an answer."""
DURATION_BUCKETS_S = (
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0,
)  # fmt: skip
"""Buckets for verification, downtime and migrations: a millisecond to an hour."""
NAMED_GUESTS = 256
"""Most guests that a host shows by name: a bound, whatever its memory could hold."""


@dataclass(frozen=True)
class Shown:
    """A gauge whose series come and go with what they are about.

    Attributes:
        name: of the family.
        text: what it tells.
        labels: of every series.
    """

    name: str
    text: str
    labels: tuple[str, ...]


Row = tuple[str, Sequence[str], float]
"""Name of the family, values of its labels, value."""


class ShownNow(Collector):
    """Gauges that are asked for at every scrape; nothing stays of a series that is gone.

    A gauge of prometheus_client keeps its last value forever, and a guest or a migration that is
    over must leave no series behind.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        families: Sequence[Shown],
        rows: Callable[[], Iterable[Row]],
    ) -> None:
        """Register the families.

        Args:
            registry: where they are shown.
            families: all that there are; `rows` has no other.
            rows: the series of this moment; must not wait.
        """
        self._families = families
        self._rows = rows
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families, without asking for a row."""
        return self._empty().values()

    def collect(self) -> Iterable[Metric]:
        """The families with the series of this moment."""
        families = self._empty()
        for name, labels, value in self._rows():
            families[name].add_metric(labels, value)
        return families.values()

    def _empty(self) -> dict[str, GaugeMetricFamily]:
        return {
            one.name: GaugeMetricFamily(one.name, one.text, labels=one.labels)
            for one in self._families
        }


def guest_family(host: str, labels: tuple[str, ...]) -> Shown:
    """Names the guests that a host holds, so that one on two hosts, or on none, can be seen.

    Args:
        host: ``source`` or ``destination``.
        labels: of each guest.
    """
    text = (
        "Always 1, for each guest that this host holds, by name; at most "
        f"{NAMED_GUESTS} of them. Gone when the guest is."
    )
    return Shown(f"pageferry_{host}_guest_info", text, labels)


def show_guests(
    registry: CollectorRegistry, family: Shown, guests: Callable[[], Iterable[Sequence[str]]]
) -> None:
    """Show them, at every scrape.

    Args:
        registry: where.
        family: made by `guest_family`.
        guests: the values of the labels, ordered; those after the first `NAMED_GUESTS` are left
            out.
    """
    ShownNow(
        registry,
        [family],
        lambda: ((family.name, values, 1) for values in islice(guests(), NAMED_GUESTS)),
    )


def host_registry(host: str) -> CollectorRegistry:
    """A fresh registry with what every host tells: the build, and its process.

    Args:
        host: ``source`` or ``destination``, the second word of every metric's name.
    """
    # They are a second series per counter that is not needed.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    build = Info(
        f"pageferry_{host}_build",
        "Always 1; the labels say which release and contract run here.",
        registry=registry,
    )
    build.info(
        {
            "version": version("pageferry"),
            "contract": ".".join(map(str, CONTRACT)),
            "python": platform.python_version(),
        }
    )
    return registry
