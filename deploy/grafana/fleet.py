"""*Fleet*: all hosts, their guests, how migrations end, what they carry."""

from __future__ import annotations

from deploy.grafana.boards import HOSTS, Board
from deploy.grafana.panels import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    HALF,
    SECONDS,
    SHARE,
    AnyPanel,
    Query,
    figure,
    graph,
    listing,
)

_HERE = 'instance=~"$host"'


def board() -> Board:
    """The dashboard."""
    made = Board(
        "fleet",
        "Pageferry: fleet",
        "Hosts, their guests and migrations, how those ended, and the bandwidth that they took.",
        refresh="10s",
    )
    made.row("Hosts", [*_figures(), _up(), _memory(), _processor(), _resident(), _guests_named()])
    made.row("Guests and migrations", [_guests(), _migrations(), _outcomes(), _handovers()])
    made.row("Bandwidth and time", [_wire(), _bandwidth(), _duration(), _proofs()])
    return made


def _figures() -> list[AnyPanel]:
    return [
        figure(
            "Hosts that answer",
            "Hosts whose metrics page could be scraped.",
            COUNT,
            Query(f"sum(up{{{HOSTS}, {_HERE}}})", "hosts"),
        ),
        figure(
            "Alerts that fire",
            "Of ours. Each says what it means; docs/observability.md says what to do.",
            COUNT,
            Query(
                'count(ALERTS{alertname=~"Pageferry.*", alertstate="firing"}) or vector(0)',
                "alerts",
            ),
            limit=1,
        ),
        figure(
            "Guests in doubt",
            "They stand still: it is not known which of two hosts has them. More than "
            "a moment needs an operator.",
            COUNT,
            Query(f'sum(pageferry_source_guests{{{_HERE}, state="in_doubt"}})', "guests"),
            limit=1,
        ),
        figure(
            "Downtimes over their limit",
            "Migrations in the time shown whose guests stood still for longer than asked for.",
            COUNT,
            Query(
                # What lies between two scrapes is extrapolated: to a fraction, without rounding.
                "round(sum(increase("
                f"pageferry_source_downtime_limit_missed_total{{{_HERE}}}[$__range])))",
                "migrations",
            ),
            limit=1,
        ),
    ]


def _up() -> AnyPanel:
    return graph(
        "Hosts",
        "1 while a host's metrics page can be scraped. A host that ended took its guests with it.",
        COUNT,
        "answers",
        [Query(f"up{{{HOSTS}, {_HERE}}}", "{{job}} {{instance}}")],
        steps=True,
    )


def _memory() -> AnyPanel:
    return graph(
        "Memory of guests",
        "What guests take on sources, and what is promised to guests and to incoming migrations "
        "on destinations. A migration doubles its guest's memory while it runs.",
        BYTES,
        "memory",
        [
            Query(f"pageferry_source_memory_reserved_bytes{{{_HERE}}}", "{{instance}} guests"),
            Query(
                f"pageferry_destination_memory_reserved_bytes{{{_HERE}}}", "{{instance}} {{use}}"
            ),
        ],
        stacked=True,
    )


def _processor() -> AnyPanel:
    return graph(
        "Processor",
        "Processor time that each host takes, in processors. On the real clock a migration is "
        "bound by it before a fast link is full.",
        SHARE,
        "of one processor",
        [
            Query(
                f"rate(process_cpu_seconds_total{{{HOSTS}, {_HERE}}}[$__rate_interval])",
                "{{job}} {{instance}}",
            )
        ],
    )


def _resident() -> AnyPanel:
    return graph(
        "Resident memory of hosts",
        "All of each process: its guests, and beyond them at most 2 % of their size and 160 MiB.",
        BYTES,
        "resident",
        [Query(f"process_resident_memory_bytes{{{HOSTS}, {_HERE}}}", "{{job}} {{instance}}")],
    )


def _guests_named() -> AnyPanel:
    return listing(
        "Guests seen, by host",
        "Each guest that a host held in the time shown, once for each state in which it was seen "
        "there and each migration that moved or brought it. The same guest on two hosts has moved "
        "between them; that it is on both now is what the alert PageferryGuestOnBothHosts says.",
        Query(
            "max by (job, instance, guest_id, state, migration_id) ("
            f"last_over_time(pageferry_source_guest_info{{{_HERE}}}[$__range]) or "
            f"last_over_time(pageferry_destination_guest_info{{{_HERE}}}[$__range]))"
        ),
        hidden=("Time", "Value"),
        links=[
            (
                "Its migration",
                "/d/pageferry-migration?var-migration=${__data.fields.migration_id}&${__url_time_range}",
            )
        ],
    )


def _guests() -> AnyPanel:
    return graph(
        "Guests by state",
        "Of sources and destinations. moved guests are remembered by the source that they left.",
        COUNT,
        "guests",
        [
            Query(f"sum by (state) (pageferry_source_guests{{{_HERE}}})", "source: {{state}}"),
            Query(
                f"sum by (state) (pageferry_destination_guests{{{_HERE}}})",
                "destination: {{state}}",
            ),
        ],
        steps=True,
    )


def _migrations() -> AnyPanel:
    states = 'state=~"setup|pre_copy|stop_and_copy|verifying|committing|in_doubt"'
    return graph(
        "Migrations under way",
        "By state, on sources. in_doubt for more than a moment needs an operator.",
        COUNT,
        "migrations",
        [
            Query(
                f"sum by (state) (pageferry_source_migrations_in_state{{{_HERE}, {states}}})",
                "{{state}}",
            )
        ],
        stacked=True,
        steps=True,
    )


def _outcomes() -> AnyPanel:
    return graph(
        "Migrations that ended",
        "By outcome, since each host started. Sources count completed, failed and cancelled; "
        "destinations committed, aborted, and expired for those whose source went silent.",
        COUNT,
        "migrations",
        [
            Query(
                f"sum by (outcome) (pageferry_source_migrations_total{{{_HERE}}})",
                "source: {{outcome}}",
                exemplars=True,
            ),
            Query(
                f"sum by (outcome) (pageferry_destination_migrations_total{{{_HERE}}})",
                "destination: {{outcome}}",
            ),
        ],
        steps=True,
    )


def _handovers() -> AnyPanel:
    return graph(
        "Hand-overs",
        "Commits by what became of them, since each host started. Every in_doubt should be "
        "followed by a resolved_moved or a resolved_stayed; taken at the destinations should "
        "equal committed and resolved_moved at the sources.",
        COUNT,
        "hand-overs",
        [
            Query(
                f"sum by (result) (pageferry_source_handovers_total{{{_HERE}}})",
                "source: {{result}}",
                exemplars=True,
            ),
            Query(
                f"sum by (result) (pageferry_destination_handovers_total{{{_HERE}}})",
                "destination: {{result}}",
            ),
        ],
        steps=True,
    )


def _wire() -> AnyPanel:
    return graph(
        "On the wire",
        "What sources put on the link, counted at the end of each round, and what arrived at "
        "destinations, counted by batch.",
        BYTES_PER_S,
        "per second",
        [
            Query(
                "sum by (instance) (rate(pageferry_source_wire_bytes_total"
                f"{{{_HERE}}}[$__rate_interval]))",
                "from {{instance}}",
            ),
            Query(
                "sum by (instance) (rate(pageferry_destination_received_bytes_total"
                f'{{{_HERE}, form="wire"}}[$__rate_interval]))',
                "at {{instance}}",
            ),
        ],
    )


def _bandwidth() -> AnyPanel:
    return graph(
        "Bandwidth as migrations measured it",
        "Of the last round that any migration of the host sent; on the virtual clock, of the "
        "model's link.",
        BYTES_PER_S,
        "bandwidth",
        [Query(f"pageferry_source_bandwidth_bytes_per_second{{{_HERE}}}", "{{instance}}")],
        steps=True,
    )


def _duration() -> AnyPanel:
    buckets = f"increase(pageferry_source_migration_seconds_bucket{{{_HERE}}}[$__range])"
    return graph(
        "How long migrations took",
        "Median and 95th percentile of the time from round 1 to the release, over the time "
        "shown before each point, from the buckets; modelled on the virtual clock, measured on "
        "the real one. Each exemplar is one migration.",
        SECONDS,
        "duration",
        [
            Query(
                f"histogram_quantile(0.5, sum by (le, clock) ({buckets}))",
                "{{clock}} median",
                exemplars=True,
            ),
            Query(f"histogram_quantile(0.95, sum by (le, clock) ({buckets}))", "{{clock}} 95 %"),
        ],
        width=HALF,
    )


def _proofs() -> AnyPanel:
    return graph(
        "Proofs",
        "Proofs of all memory, by result, since each host started, and the pages that they found "
        "different and that were sent again. A mismatch is one that could not be repaired; the "
        "guest then goes on at its source.",
        COUNT,
        "comparisons",
        [
            Query(
                f"sum by (result) (pageferry_source_verifications_total{{{_HERE}}})",
                "source: {{result}}",
                exemplars=True,
            ),
            Query(
                f"sum by (result) (pageferry_destination_verifications_total{{{_HERE}}})",
                "destination: {{result}}",
            ),
            Query(
                f"sum(pageferry_source_repaired_frames_total{{{_HERE}}})",
                "source: pages repaired",
            ),
        ],
        steps=True,
    )
