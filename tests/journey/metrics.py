"""A host's metrics page, read by the parser of prometheus_client."""

from __future__ import annotations

import urllib.request

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from wire.launch import HostProcess

Values = dict[tuple[str, *tuple[tuple[str, str], ...]], float]
"""A sample's value by its name and its labels."""


def families(host: HostProcess) -> dict[str, Metric]:
    """Every metric family that a host shows."""
    with urllib.request.urlopen(f"http://{host.ready.metrics}/metrics", timeout=60) as page:
        text = page.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def scrape(host: HostProcess) -> Values:
    """Every sample that a host shows."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families(host).values()
        for sample in family.samples
    }
