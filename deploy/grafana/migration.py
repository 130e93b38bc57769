"""*A migration, live*: where it stands, whether it will end, what it will cost."""

from __future__ import annotations

from deploy.grafana.boards import Board
from deploy.grafana.panels import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    QUARTER,
    SECONDS,
    AnyPanel,
    Query,
    figure,
    graph,
    listing,
)

_INFO = 'pageferry_source_migration_info{instance=~"$host", migration_id=~"$migration"}'


def _live(name: str, labels: str = "") -> str:
    """A figure of the migrations that are chosen, by their names and not by their slots."""
    series = f'pageferry_source_migration_{name}{{instance=~"$host"{labels}}}'
    return f"{series} * on (job, instance, slot) group_left (migration_id) {_INFO}"


def _line(name: str, what: str = "", labels: str = "") -> Query:
    legend = "{{migration_id}}"
    return Query(_live(name, labels), f"{legend} {what}" if what else legend)


def board() -> Board:
    """The dashboard."""
    made = Board(
        "migration",
        "Pageferry: a migration, live",
        "Rounds, what is dirty against what can be sent, whether it converges, when it will be "
        "over and how long the guest stands still.",
        refresh="5s",
    )
    made.variable(
        "migration",
        "Migration",
        'label_values(pageferry_source_migration_info{instance=~"$host"}, migration_id)',
    )
    made.row("Now", [_which(), *_figures()])
    made.row("Rounds", [_rounds(), _frames(), _rates(), _convergence(), _eta(), _estimate()])
    made.row("Downtime and transfer", [_downtime(), _parts(), _received(), _acknowledged()])
    return made


def _which() -> AnyPanel:
    return listing(
        "Migrations in the time shown",
        "Each migration that was seen running, and how it is done. A row leads to this dashboard "
        "for that migration alone. One that began and ended between two scrapes is not here.",
        Query(
            f"max by (instance, migration_id, guest_id, destination, policy, clock, paging, "
            f"clean, group_frames) (last_over_time({_INFO}[$__range]))"
        ),
        hidden=("Time", "Value"),
        links=[
            (
                "Only this migration",
                "/d/pageferry-migration?var-migration=${__data.fields.migration_id}&${__url_time_range}",
            ),
        ],
    )


def _figures() -> list[AnyPanel]:
    return [
        figure("Round", "The round under way, or the last one seen.", COUNT, _line("round")),
        figure(
            "Still to send",
            "Memory that is owed to the destination, as far as is known: what became dirty since "
            "the last clean is not. At most 32 MiB more are on the way.",
            BYTES,
            Query(f"4096 * {_live('remaining_frames')}", "{{migration_id}}"),
        ),
        figure(
            "Convergence",
            "Frames found dirty per frame sent, in the last round. From 1 on the debt does not "
            "shrink: the migration ends only by its policy's limit of rounds.",
            COUNT,
            _line("convergence_ratio"),
            limit=1,
        ),
        figure(
            "Over in at most",
            "Until the guest is released, if the rounds to come are like the last and as many as "
            "the policy allows. Not known in round 1.",
            SECONDS,
            _line("eta_seconds"),
            width=QUARTER,
        ),
    ]


def _rounds() -> AnyPanel:
    return graph(
        "Rounds",
        "The round under way, and the number of live rounds after which the policy pauses the "
        "guest whatever it does.",
        COUNT,
        "round",
        [_line("round"), _line("max_rounds", "at most")],
        steps=True,
    )


def _frames() -> AnyPanel:
    return graph(
        "Debt",
        "Frames still to send, what the round set out with, and what the last clean found dirty. "
        "In a migration that converges each round sets out with less.",
        COUNT,
        "frames of 4 KiB",
        [
            _line("remaining_frames", "still to send"),
            _line("round_frames", "of this round"),
            _line("dirty_frames", "found dirty"),
        ],
        steps=True,
    )


def _rates() -> AnyPanel:
    return graph(
        "Dirty against bandwidth",
        "How fast the guest makes memory dirty, how fast memory moves (zero and unchanged frames "
        "included), and the bytes per second on the wire. While dirty stays above moved, the "
        "migration cannot converge: a faster link, zstd or a less busy guest helps. In the "
        "migration's own clock.",
        BYTES_PER_S,
        "memory per second",
        [
            _line("dirty_bytes_per_second", "dirty"),
            _line("sent_bytes_per_second", "moved"),
            _line("bandwidth_bytes_per_second", "on the wire"),
        ],
        steps=True,
    )


def _convergence() -> AnyPanel:
    return graph(
        "Convergence",
        "Frames found dirty per frame sent, by round. Below 1 the debt shrinks by this factor "
        "each round; from 1 on (the line) it never will.",
        COUNT,
        "dirty per sent",
        [_line("convergence_ratio")],
        steps=True,
        limit=1,
    )


def _eta() -> AnyPanel:
    return graph(
        "Over in at most",
        "The time that is left if the rounds to come are like the last and as many as the policy "
        "allows. It is an upper bound, and it rises when the guest writes more.",
        SECONDS,
        "time left",
        [_line("eta_seconds")],
    )


def _estimate() -> AnyPanel:
    return graph(
        "A pause now would last",
        "What is owed, at the measured bandwidth, against the downtime limit of the migration. "
        "The policy qemu pauses the guest once it lies below.",
        SECONDS,
        "downtime",
        [_line("estimated_downtime_seconds"), _line("downtime_limit_seconds", "limit")],
        steps=True,
    )


def _downtime() -> AnyPanel:
    return graph(
        "Downtime of completed migrations",
        "Median and 95th percentile, from the buckets; modelled on the virtual clock, measured on "
        "the real one. Each exemplar is one migration: its menu leads to it.",
        SECONDS,
        "downtime",
        [
            Query(
                _quantile(share, "pageferry_source_downtime_seconds_bucket", "clock"),
                f"{{{{clock}}}} {name}",
                exemplars,
            )
            for share, name, exemplars in ((0.5, "median", True), (0.95, "95 %", False))
        ],
    )


def _parts() -> AnyPanel:
    each = 'pageferry_source_downtime_part_seconds_{}{{instance=~"$host"}}[$__rate_interval]'
    total, count = each.format("sum"), each.format("count")
    return graph(
        "Where the downtime went",
        "Mean of each part of the downtime, over the migrations that completed at that time. "
        "last_round long: much was dirty at the pause. verify long: a large guest on the real "
        "clock.",
        SECONDS,
        "mean",
        [
            Query(
                f"sum by (clock, part) (rate({total}))"
                f" / (sum by (clock, part) (rate({count})) > 0)",
                "{{clock}} {{part}}",
            )
        ],
        stacked=True,
    )


def _received() -> AnyPanel:
    return graph(
        "Arriving at destinations",
        "Bytes of accepted batches: raw is 4096 per frame, wire is as they came. What lies "
        "between them is what zero, unchanged and compressed frames saved.",
        BYTES_PER_S,
        "received per second",
        [
            Query(
                "sum by (form) (rate(pageferry_destination_received_bytes_total"
                '{instance=~"$host"}[$__rate_interval]))',
                "{{form}}",
            )
        ],
    )


def _acknowledged() -> AnyPanel:
    return graph(
        "Until a batch was acknowledged",
        "Wall time from handing a batch of up to 4 MiB to the stream to the destination's "
        "answer. When it rises with a steady bandwidth, the destination is what is slow.",
        SECONDS,
        "per batch",
        [
            Query(_quantile(share, "pageferry_source_batch_ack_seconds_bucket"), name, exemplars)
            for share, name, exemplars in ((0.5, "median", False), (0.99, "99 %", True))
        ],
    )


def _quantile(share: float, buckets: str, *by: str) -> str:
    labels = ", ".join(("le", *by))
    rates = f'sum by ({labels}) (rate({buckets}{{instance=~"$host"}}[$__rate_interval]))'
    return f"histogram_quantile({share}, {rates})"
