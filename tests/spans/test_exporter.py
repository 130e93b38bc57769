"""Where spans go, as the URL of the collector says."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from wire.hosting import spans


@pytest.mark.parametrize(
    ("url", "plain_text"),
    [("http://collector:4317", True), ("https://collector:4317", False)],
)
def test_https_is_encrypted(monkeypatch: pytest.MonkeyPatch, url: str, plain_text: bool) -> None:
    made = []

    def exporter(endpoint: str, *, insecure: bool) -> InMemorySpanExporter:
        made.append((endpoint, insecure))
        return InMemorySpanExporter()

    monkeypatch.setattr(spans, "OTLPSpanExporter", exporter)
    spans.to_collector(url, "pageferry-source").shutdown()
    assert made == [(url, plain_text)]
