"""A host's metrics page, read by the parser of prometheus_client."""

from __future__ import annotations

from http.client import HTTPConnection

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from wire.hosting.launch import HostProcess

Values = dict[tuple[str, *tuple[tuple[str, str], ...]], float]
"""A sample's value by its name and its labels."""


def page(host: HostProcess, accept: str = "text/plain") -> str:
    """A host's metrics page in a format."""
    assert host.ready.metrics is not None
    connection = HTTPConnection(host.ready.metrics, timeout=60)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def families(host: HostProcess) -> dict[str, Metric]:
    """Every metric family that a host shows."""
    return {family.name: family for family in text_string_to_metric_families(page(host))}


def scrape(host: HostProcess) -> Values:
    """Every sample that a host shows."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families(host).values()
        for sample in family.samples
    }
