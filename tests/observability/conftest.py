"""Two hosts, a real Prometheus that scrapes them, and a slow link between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.hosts import Pair
from tests.journey.relay import Relay
from tests.observability.observed import Observed
from tests.observability.prometheus import PrometheusProcess

_METRICS = ["--metrics-port", "0"]


@pytest.fixture
def observed(tmp_path: Path) -> Iterator[Observed]:
    """Hosts of its own for every test: some of them are killed, and all of them count."""
    with Pair(_METRICS, _METRICS) as pair, Relay(pair.destination.address) as relay:
        targets = {
            "pageferry-source": str(pair.source.process.ready.metrics),
            "pageferry-destination": str(pair.destination.process.ready.metrics),
        }
        with PrometheusProcess(tmp_path, targets) as prometheus:
            yield Observed(pair, relay, prometheus)
