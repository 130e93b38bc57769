"""Hosts that are watched by Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pageferry.v1 import common_pb2
from pageferry.v1.destination_pb2 import PageBatch
from tests.journey.hosts import Pair, new_name, spec, until
from tests.journey.relay import Relay
from tests.observability.prometheus import SCRAPE_S, PrometheusProcess

FRAME_S = 0.3 / 1024
"""What the slow link takes for a frame: 13 MiB/s, however long the messages are."""
REAL: dict[str, Any] = {"clock": common_pb2.CLOCK_REAL, "link_bits_per_s": 0, "latency_ns": 0}


def slow(batch: PageBatch) -> None:
    """A relay's hook: the link is slow."""
    time.sleep(FRAME_S * sum(batch.run_frames))


@dataclass(frozen=True)
class Observed:
    """Two hosts, who is between them, and who watches."""

    pair: Pair
    relay: Relay
    prometheus: PrometheusProcess

    def migrate(self, workload: str, tracker: common_pb2.TrackerConfig | None = None,
                **request: Any) -> str:  # fmt: skip
        """Begin to migrate a guest on the real clock, through the relay; the migration's name."""
        guest = spec(new_name(), workload, tracker=tracker)
        name = self.pair.source.boot(guest)
        return self.pair.source.migrate(name, self.relay.address, **REAL | request)

    def until_seen(self, metric: str) -> None:
        """Wait until Prometheus knows what the hosts show of a metric now."""
        asked_s = time.time()

        def seen() -> bool:
            found = self.prometheus.instant(f"timestamp({metric})")
            return any(float(one["value"][1]) >= asked_s for one in found)

        until(seen)

    def quiet(self) -> None:
        """Nothing fires, and Prometheus has looked.

        A busy machine may have answered a scrape too late, which is over with the next one.
        """
        self.until_seen("pageferry_source_guests")
        self.until_seen("pageferry_destination_guests")
        time.sleep(2 * SCRAPE_S)
        until(lambda: not self.prometheus.firing())

    def until_fires(self, alert: str, holds: Callable[[dict[str, str]], bool]) -> None:
        """Wait until it fires with labels of which this holds."""
        until(lambda: any(
            one["alertname"] == alert and holds(one) for one in self.prometheus.firing()
        ))  # fmt: skip
