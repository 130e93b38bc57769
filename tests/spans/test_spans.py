"""A migration as spans over both hosts, read from the in-memory exporter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dest_host.host import DestinationHost
from dest_host.settings import DestinationSettings
from pageferry.source_client import SourceClient
from pageferry.v1 import source_pb2 as pb
from source_host.host import SourceHost
from source_host.settings import SourceSettings
from tests.journey.hosts import new_name, request, spec, until
from tests.journey.relay import Relay, cut


@dataclass(frozen=True)
class Hosts:
    """Two hosts in this process, and where their spans go."""

    spans: InMemorySpanExporter
    client: SourceClient
    destination: str

    def migrate(self, destination: str) -> tuple[pb.MigrationStatus, list[ReadableSpan]]:
        """Move a guest; how it ended, and its spans."""
        guest = new_name("spans")
        self.client.create_guest(spec(guest))
        self.client.start_guest(guest)
        self.spans.clear()
        begun = self.client.migrate(request(guest, destination))
        (*_, status) = self.client.watch(begun.migration_id)
        if status.state == pb.MIGRATION_STATE_COMPLETED:
            # The page stream is closed after the outcome was told.
            until(lambda: "DestinationHost/Transfer" in self._names())
        spans = list(self.spans.get_finished_spans())
        root = the(spans, "migration")
        return status, [one for one in spans if trace_of(one) == trace_of(root)]

    def _names(self) -> set[str]:
        return {one.name for one in self.spans.get_finished_spans()}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    source = SourceHost(SourceSettings(listen="127.0.0.1:0"), provider)
    destination = DestinationHost(DestinationSettings(listen="127.0.0.1:0"), provider)
    with source.server, destination, SourceClient(source.server.address) as client:
        yield Hosts(spans, client, destination.server.address)


def the(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = [one for one in spans if one.name == name]
    return found


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def parent_of(spans: list[ReadableSpan], span: ReadableSpan) -> str:
    """Name of the span that it is part of."""
    assert span.parent is not None
    names = {one.context.span_id: one.name for one in spans if one.context is not None}
    return names.get(span.parent.span_id, "elsewhere")


def about(span: ReadableSpan) -> dict[str, object]:
    return {key.removeprefix("pageferry."): value for key, value in (span.attributes or {}).items()}


def test_the_spans_of_both_hosts_are_one_tree(hosts: Hosts) -> None:
    status, spans = hosts.migrate(hosts.destination)
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    parents = {one.name: parent_of(spans, one) for one in spans if one.parent is not None}
    assert parents.pop("migration") == "SourceHost/Migrate"
    rounds = {f"round {stats.round}" for stats in status.rounds}
    live = {f"round {stats.round}" for stats in status.rounds if not stats.stop_and_copy}
    assert {name for name, of in parents.items() if of == "pre_copy"} >= live
    assert {name for name, of in parents.items() if of == "stop_and_copy"} >= rounds - live
    phases = {name for name, of in parents.items() if of == "migration"}
    assert phases == {"setup", "pre_copy", "stop_and_copy", "verifying", "committing"}
    assert parents["DestinationHost/Prepare"] == "setup"
    assert parents["DestinationHost/CompareDigests"] == "verifying"
    assert parents["DestinationHost/Commit"] == "committing"
    assert parents["DestinationHost/Transfer"] == "setup"


def test_what_the_spans_say(hosts: Hosts) -> None:
    status, spans = hosts.migrate(hosts.destination)
    root = the(spans, "migration")
    facts = about(root)
    assert facts["migration.id"] == status.migration_id
    assert facts["guest.id"] == status.guest_id
    assert (facts["paging"], facts["clean"], facts["group_pages"]) == ("shadow", "blow", 1)
    assert (facts["policy"], facts["clock"], facts["outcome"]) == ("xen", "virtual", "completed")
    assert facts["wire_bytes"] == status.totals.wire_bytes
    assert facts["verified"] is True
    # On the virtual clock, the model's time is an attribute and not the span's.
    assert facts["total_virtual_ns"] == status.totals.total_ns
    assert "total_ns" not in facts
    assert [event.name for event in root.events] == ["suspend", "hand-over"]
    for stats in status.rounds:
        said = about(the(spans, f"round {stats.round}"))
        assert said["wire_bytes"] == stats.wire_bytes
        assert said["to_send_frames"] == stats.to_send_frames
    prepare = the(spans, "DestinationHost/Prepare")
    assert about(prepare)["migration.id"] == status.migration_id


def test_times_are_inside_of_each_other(hosts: Hosts) -> None:
    _, spans = hosts.migrate(hosts.destination)
    by_id = {one.context.span_id: one for one in spans if one.context is not None}
    for span in spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
        outer = by_id.get(span.parent.span_id) if span.parent else None
        if outer is not None and outer.start_time is not None:
            assert outer.start_time <= span.start_time


def test_a_migration_that_fails(hosts: Hosts) -> None:
    status, spans = hosts.migrate("127.0.0.1:1")
    root = the(spans, "migration")
    assert status.error_status == "UNAVAILABLE"
    assert root.status.status_code is StatusCode.ERROR
    assert root.status.description == status.error
    assert about(root)["outcome"] == "failed"


def test_a_migration_in_doubt_has_its_spans_before_it_is_decided(hosts: Hosts) -> None:
    with Relay(hosts.destination) as relay:
        relay.after["Commit"] = relay.before["GetIncoming"] = cut
        guest = new_name("spans")
        hosts.client.create_guest(spec(guest))
        hosts.client.start_guest(guest)
        hosts.spans.clear()
        migration = hosts.client.migrate(request(guest, relay.address)).migration_id
        until(lambda: any(one.name == "migration" for one in hosts.spans.get_finished_spans()))
        spans = list(hosts.spans.get_finished_spans())
        assert about(the(spans, "migration"))["outcome"] == "in_doubt"
        assert "no answer came" in str(the(spans, "committing").status.description)
        assert "in_doubt" not in {one.name for one in spans}
        (*_, still_unknown) = hosts.client.watch(migration)
        assert still_unknown.state == pb.MIGRATION_STATE_IN_DOUBT
        del relay.before["GetIncoming"]
        hosts.client.resolve(migration)
    resolved = the(list(hosts.spans.get_finished_spans()), "in_doubt")
    assert about(resolved)["outcome"] == "completed"
    assert trace_of(resolved) == trace_of(the(spans, "migration"))


def test_a_refusal_is_an_error_of_its_call(hosts: Hosts) -> None:
    hosts.spans.clear()
    with pytest.raises(Exception, match="nobody"):
        hosts.client.guest("nobody")
    span = the(list(hosts.spans.get_finished_spans()), "SourceHost/GetGuest")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["rpc.grpc.status"] == "NOT_FOUND"


def test_off_by_default() -> None:
    """Nothing of OpenTelemetry is even imported."""
    program = (
        "import sys\n"
        "from source_host.host import SourceHost\n"
        "from source_host.settings import SourceSettings\n"
        "from dest_host.host import DestinationHost\n"
        "from dest_host.settings import DestinationSettings\n"
        "settings = SourceSettings(listen='127.0.0.1:0')\n"
        "SourceHost(settings, settings.span_provider('x'))\n"
        "DestinationHost(DestinationSettings(listen='127.0.0.1:0'))\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=100).returncode == 0


def test_a_collector_that_is_none() -> None:
    for arguments, said in ((["--otlp", "collector:4317"], "is no URL"),):
        ended = subprocess.run(
            [sys.executable, "-m", "source_host", "serve", "--listen", "127.0.0.1:0", *arguments],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 2
        assert said in ended.stderr


def test_without_the_extra() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from source_host.cli import main\n"
        "sys.argv = ['source-host', 'serve', '--otlp', 'http://127.0.0.1:4317']\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert "install pageferry with its extra tracing" in ended.stderr
