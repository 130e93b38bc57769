"""*Paging cost*: what tracking takes from guests, and on what."""

from __future__ import annotations

from deploy.grafana.boards import Board
from deploy.grafana.panels import (
    COUNT,
    PER_S,
    SECONDS,
    SHARE,
    AnyPanel,
    Query,
    figure,
    graph,
)

_P = "pageferry_source_"


def _rate(counter: str, labels: str = "") -> str:
    return f'rate({_P}{counter}_total{{instance=~"$host"{labels}}}[$__rate_interval])'


def _of_guest_time(labels: str = "", by: str = "") -> str:
    """Tracking time per time that the guest would have taken untracked."""
    tracking = f"sum{by} ({_rate('guest_tracking_seconds', labels)})"
    base = f"(sum({_rate('guest_base_seconds')}) > 0)"
    return f"{tracking} / {'on () group_left () ' if by else ''}{base}"


def board() -> Board:
    """The dashboard."""
    made = Board(
        "paging",
        "Pageferry: paging cost",
        "What finding out which frames were written costs the guests: faults by kind, fixups "
        "against tearing shadows down and building them again, groups, the shadow pool. Times "
        "are the guests' own, modelled; rates are per second of the wall clock.",
        refresh="10s",
    )
    made.row("Slowdown", [*_figures(), _causes(), _storms()])
    made.row("Faults", [_faults(), _fixups()])
    made.row("Shadows", [_pages(), _pool()])
    made.row("Dirty frames", [_dirty(), _cleans()])
    return made


def _figures() -> list[AnyPanel]:
    return [
        figure(
            "Slowdown by tracking",
            "Guest time lost to tracking per guest time that the same accesses take untracked.",
            SHARE,
            Query(_of_guest_time(), "slowdown"),
            width=8,
        ),
        figure(
            "Falsely dirty",
            "Share of the frames found dirty that nobody had written: neighbours in a page group. "
            "They are looked at, and sent as a hash or with their content.",
            SHARE,
            Query(
                f"sum({_rate('falsely_dirty_frames')}) / (sum({_rate('dirty_frames')}) > 0)",
                "falsely dirty",
            ),
            width=8,
            limit=0.75,
        ),
        figure(
            "Slowdown of a migration, median",
            "Guest time with tracking over guest time without, per migration that ended; 1 is "
            "none. From the buckets.",
            COUNT,
            Query(
                "histogram_quantile(0.5, sum by (le) (increase("
                f'{_P}guest_slowdown_ratio_bucket{{instance=~"$host"}}[$__range])))',
                "median",
                exemplars=True,
            ),
            width=8,
        ),
    ]


def _causes() -> AnyPanel:
    return graph(
        "Slowdown by cause",
        "What the lost time was spent on. fixup: finding out what was written, what page groups "
        "make cheaper. teardown and rebuild: paying for dropping the shadows at each clean. "
        "group: what groups cost.",
        SHARE,
        "of guest time",
        [Query(_of_guest_time(by=" by (cause)"), "{{cause}}")],
        stacked=True,
    )


def _storms() -> AnyPanel:
    return graph(
        "Fixup against teardown and rebuild",
        "The question of page groups: they save fixups. If teardown and rebuild lie above, "
        "keeping the shadows (--clean write-protect) gains more.",
        SHARE,
        "of guest time",
        [
            Query(_of_guest_time(', cause="fixup"'), "fixup"),
            Query(_of_guest_time(', cause=~"teardown|rebuild"'), "teardown and rebuild"),
        ],
    )


def _faults() -> AnyPanel:
    return graph(
        "Faults by kind",
        "Exits of guests whose writes are logged. read_build and write_build rebuild shadow "
        "entries; write_protect opens one that was read-only; p2m_violation and misconfiguration "
        "are their relatives under HAP; pml_full drains the hardware's log.",
        PER_S,
        "faults per second",
        [Query(f"sum by (kind) ({_rate('guest_faults')})", "{{kind}}", exemplars=True)],
        stacked=True,
    )


def _fixups() -> AnyPanel:
    return graph(
        "Fixups among all faults",
        "Faults that opened a clean frame and marked it dirty, against all of them. Groups bring "
        "the first down; what stays of the second they cannot help.",
        PER_S,
        "faults per second",
        [
            Query(f"sum({_rate('guest_fixup_faults')})", "fixups"),
            Query(f"sum({_rate('guest_faults')})", "all faults"),
        ],
    )


def _pages() -> AnyPanel:
    return graph(
        "Shadow pages built and torn down",
        "Under the policy blow each clean drops all of them, and accesses build them again: both "
        "lines rise together. Without cleans, torn down means that the pool is too small.",
        PER_S,
        "pages per second",
        [
            Query(f"sum({_rate('shadow_pages_built')})", "built", exemplars=True),
            Query(f"sum({_rate('shadow_pages_torn_down')})", "torn down"),
        ],
    )


def _pool() -> AnyPanel:
    info = f'{_P}migration_info{{instance=~"$host"}}'
    return graph(
        "Shadow pool",
        "Pages of the pool that held a shadow when the last clean began, and free ones, by "
        "migration. A pool without free pages evicts shadows that are in use.",
        COUNT,
        "pages",
        [
            Query(
                f'{_P}migration_shadow_pool_pages{{instance=~"$host"}} '
                f"* on (job, instance, slot) group_left (migration_id) {info}",
                "{{migration_id}} {{use}}",
            )
        ],
        stacked=True,
        steps=True,
    )


def _dirty() -> AnyPanel:
    return graph(
        "Dirty and falsely dirty",
        "Frames that cleans found dirty, and those of them that nobody had written: neighbours "
        "in a page group. Many of them: groups are too large, or --d-bit-filter is worth it.",
        PER_S,
        "frames per second",
        [
            Query(f"sum({_rate('dirty_frames')})", "dirty", exemplars=True),
            Query(f"sum({_rate('falsely_dirty_frames')})", "falsely dirty"),
        ],
    )


def _cleans() -> AnyPanel:
    return graph(
        "Stall of a clean",
        "How long the guest stands still while its dirty bitmap is fetched and cleared, mean.",
        SECONDS,
        "per clean",
        [
            Query(
                f"sum({_rate('log_dirty_clean_seconds')}) / (sum({_rate('log_dirty_cleans')}) > 0)",
                "stall",
            )
        ],
    )
