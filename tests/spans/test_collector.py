"""Spans leave the processes: two real hosts, and a collector that speaks OTLP."""

from __future__ import annotations

from pageferry.source_client import SourceClient
from tests.journey.hosts import new_name, request, spec
from tests.spans.collector import Collector
from wire.hosting.launch import HostProcess


def test_both_hosts_send_spans_of_one_tree_and_nothing_is_lost_when_they_stop() -> None:
    with Collector() as collector:
        otlp = ["--otlp", collector.url]
        with HostProcess("source_host", otlp) as source, HostProcess("dest_host", otlp) as dest:
            name = new_name("spans")
            with SourceClient(source.ready.address) as client:
                client.create_guest(spec(name))
                client.start_guest(name)
                begun = client.migrate(request(name, dest.ready.address))
                (*_, last) = client.watch(begun.migration_id)
            assert last.verified, last.error
    (whole,) = [span for span in collector.spans if span.name == "migration"]
    tree = [span for span in collector.spans if span.trace_id == whole.trace_id]
    ids = {span.span_id: span for span in tree}
    (commit,) = [span for span in tree if span.name == "DestinationHost/Commit"]
    assert (whole.host, commit.host) == ("pageferry-source", "pageferry-destination")
    assert ids[commit.parent_id].name == "committing"
    assert ids[ids[commit.parent_id].parent_id] == whole
    assert ids[whole.parent_id].name == "SourceHost/Migrate"
