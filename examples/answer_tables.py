"""The tables of docs/answer.md, from a sweep of examples/answer.toml or its quarter.

    python -m examples.answer_tables out/answer             # print them
    python -m examples.answer_tables out/answer --publish  # into docs/answer.md, and keep the runs
    python -m examples.answer_tables --check  # the page against the runs that were kept

One line per load; nothing is added up over loads. × is to single pages under the hypervisor's own
clean, alike in all the rest. (low to high) spans the intervals of the prices, [least to most]
seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from examples import answer_findings
from examples.answer_prices import at_prices, verdict
from examples.answer_runs import AGAINST, GROUPS, KEPT, LINKS, PML, Run, Runs, read, run_of, write
from examples.answer_words import interval, ms, percent, ratios, share, spread, times
from pageferry.report.variants import compared
from pageferry.sweep.directory import existing

HERE = Path(__file__).parent
KEPT_RUNS = HERE / "answer.parquet"
PAGE = HERE.parent / "docs" / "answer.md"
_GBIT, _SMALL = LINKS[1], "64 MiB"

Cells = Sequence[str]


def _table(heads: Sequence[str], rows: Iterable[Cells]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _named(run: Run) -> list[str]:
    return [run.load, run.memory]


def _left(single: Run, run: Run | None) -> str:
    """Of the overhead of single pages, what is left, over the intervals of the prices."""
    return interval(ratios(run, single), times) if run is not None else ""


def _bytes(single: Run, run: Run | None) -> str:
    return times(run.wire_bytes / single.wire_bytes) if run is not None else ""


def _pause(single: Run, run: Run | None) -> str:
    """The pause of single pages, and by how much groups multiply it."""
    if run is None:
        return ms(single.downtime_s)
    return f"{ms(single.downtime_s)}, {times(run.downtime_s / single.downtime_s)}"


def _overhead(run: Run) -> str:
    return interval(run.ends, percent)


def density(runs: Runs) -> str:
    """Frames written of a touched group of 64, by link."""
    found = runs.singles(hypervisor="xen", paging="hap", suppress=True, link=_GBIT)
    rows = []
    for one in sorted(found, key=lambda run: run.density or 0):
        by_link = [runs.like(one, link=link) for link in LINKS]
        rows.append([*_named(one), f"{one.dirty:.2f}", *map(_written, by_link)])
    return _table(["load", "memory", "dirty ÷ link", *(f"at {link}" for link in LINKS)], rows)


def _written(run: Run | None) -> str:
    return f"{run.density:.1f}" if run is not None and run.density else ""


def shadow(runs: Runs) -> str:
    """Today's Xen with digests, at 1 Gbit/s: what a fault costs, and what the rest does."""
    found = runs.singles(hypervisor="xen", paging="shadow", suppress=True, link=_GBIT)
    rows = [
        [
            *_named(one), _overhead(one), share(one.fixups), share(one.rebuilding),
            *(_left(one, runs.like(one, variant=v)) for v in (KEPT, "n = 16", GROUPS, _BOTH)),
        ]
        for one in found
    ]  # fmt: skip
    return _table(
        ["load", "memory", "overhead, %", "fixups", "rebuilding, teardown", "keeping them leaves",
         "groups of 16", "groups of 64", "groups of 64 and keeping"], rows,
    )  # fmt: skip


_BOTH = f"{GROUPS}, write-protect"


def shadow_links(runs: Runs) -> str:
    """The same on the slower and the faster link."""
    rows = []
    for one in runs.singles(hypervisor="xen", paging="shadow", suppress=True, link=_GBIT):
        cells: list[str] = []
        for other in (runs.like(one, link=link) for link in (LINKS[0], LINKS[2])):
            if other is not None:
                kept, grouped = (runs.like(other, variant=v) for v in (KEPT, GROUPS))
                cells += [percent(other.overhead), share(other.rebuilding)]
                cells += [_typical(other, kept), _typical(other, grouped)]
        if cells:
            rows.append([*_named(one), *cells])
    heads = [
        f"{link}: {what}" if first else what
        for link in (LINKS[0], LINKS[2])
        for first, what in (
            (1, "overhead, %"),
            (0, "rebuilding"),
            (0, "keeping"),
            (0, "groups of 64"),
        )
    ]
    return _table(["load", "memory", *heads], rows)


def _typical(single: Run, run: Run | None) -> str:
    return times(run.overhead / single.overhead) if run is not None else ""


def year(runs: Runs) -> str:
    """The proposal in its own year."""
    rows = []
    for one in runs.singles(hypervisor="xen-2009", suppress=False):
        grouped, filtered = (runs.like(one, variant=v) for v in (GROUPS, _FILTERED))
        rows.append([
            one.load, one.memory, one.link, _overhead(one), _left(one, grouped),
            _bytes(one, grouped), _pause(one, grouped), _left(one, filtered),
            _bytes(one, filtered), _typical_pause(one, filtered),
        ])  # fmt: skip
    return _table(
        ["load", "memory", "link", "overhead, %", "groups of 64 leave", "bytes", "pause",
         "with the D-bit filter leave", "bytes", "pause"], rows,
    )  # fmt: skip


_FILTERED = f"{GROUPS}, D-bit filter"


def _typical_pause(single: Run, run: Run | None) -> str:
    return times(run.downtime_s / single.downtime_s) if run is not None else ""


def bandwidth(runs: Runs) -> str:
    """Bytes and pause of groups of 64, without digests and with them."""
    paging = {True: "hap", False: "shadow"}
    rows = []
    for one in runs.singles(hypervisor="xen", suppress=True, link=_GBIT):
        plain = runs.like(one, suppress=False)
        if one.paging == paging[one.recorded] and plain is not None:
            cells: list[str] = []
            for single in (plain, one):
                grouped = runs.like(single, variant=GROUPS)
                cells += [_bytes(single, grouped), _pause(single, grouped)]
            rows.append([*_named(one), f"{one.dirty:.2f}", *cells])
    return _table(
        ["load", "memory", "dirty ÷ link", "no digests: bytes", "pause", "digests: bytes", "pause"],
        rows,
    )


def bandwidth_links(runs: Runs) -> str:
    """With digests, on the slower and the faster link."""
    rows = []
    for one in runs.singles(hypervisor="xen", paging="hap", suppress=True, link=_GBIT):
        cells: list[str] = []
        for other in (runs.like(one, link=link) for link in (LINKS[0], LINKS[2])):
            if other is not None:
                grouped = runs.like(other, variant=GROUPS)
                cells += [_bytes(other, grouped), _pause(other, grouped)]
        if cells:
            rows.append([*_named(one), *cells])
    heads = [f"{LINKS[0]}: bytes", "pause", f"{LINKS[2]}: bytes", "pause"]
    return _table(["load", "memory", *heads], rows)


def qemu(runs: Runs) -> str:
    """KVM under QEMU's rule, which counts false dirties."""
    rows = []
    for one in runs.singles(hypervisor="kvm", paging="hap", link=_GBIT):
        grouped, shadowed = runs.like(one, variant=GROUPS), runs.like(one, paging="shadow")
        if grouped is not None:
            rows.append([
                *_named(one), f"{one.rounds} → {grouped.rounds}", _bytes(one, grouped),
                _pause(one, grouped), _overhead(one), _left(one, grouped),
                _left(one, runs.like(one, variant=PML)),
                "" if shadowed is None else _left(shadowed, runs.like(shadowed, variant=GROUPS)),
            ])  # fmt: skip
    return _table(
        ["load", "memory", "rounds", "bytes", "pause", "overhead, %", "groups of 64 leave",
         "PML leaves", "shadow MMU: groups of 64 leave"], rows,
    )  # fmt: skip


def hap(runs: Runs) -> str:
    """Xen under HAP with digests, at 1 Gbit/s."""
    found = runs.singles(hypervisor="xen", paging="hap", suppress=True, link=_GBIT)
    variants = ("n = 16", GROUPS, "n = 512", "adaptive", PML)
    rows = [
        [*_named(one), _written(one), _overhead(one)]
        + [_left(one, runs.like(one, variant=v)) for v in variants]
        for one in sorted(found, key=lambda run: -(run.density or 0))
    ]
    return _table(
        ["load", "memory", "written of 64", "overhead, %", "groups of 16 leave", "groups of 64",
         "groups of 512", "adaptive", "PML"], rows,
    )  # fmt: skip


def hap_links(runs: Runs) -> str:
    """The same on the slower and the faster link."""
    rows = []
    for one in runs.singles(hypervisor="xen", paging="hap", suppress=True, link=_GBIT):
        cells: list[str] = []
        for other in (runs.like(one, link=link) for link in (LINKS[0], LINKS[2])):
            if other is not None:
                found = (runs.like(other, variant=v) for v in (GROUPS, PML))
                cells += [percent(other.overhead), *(_typical(other, run) for run in found)]
        if cells:
            rows.append([*_named(one), *cells])
    heads = [f"{LINKS[0]}: overhead, %", "groups of 64", "PML"]
    return _table(["load", "memory", *heads, f"{LINKS[2]}: overhead, %", *heads[1:]], rows)


def seeds(runs: Runs) -> str:
    """Three seeds: mean, and between what they lie."""
    rows = []
    for one in runs.singles(hypervisor="xen", suppress=True, link=_GBIT):
        same = runs.seeds(one)
        pairs = [(each, runs.like(each, variant=GROUPS)) for each in same]
        if len(same) > 1:
            rows.append([
                *_named(one), one.paging, spread([each.overhead for each in same], percent),
                *(
                    spread([of(run) / of(each) for each, run in pairs if run is not None], times)
                    for of in (_of_overhead, _of_bytes, _of_pause)
                ),
            ])  # fmt: skip
    return _table(
        ["load", "memory", "paging", "overhead, %", "groups of 64 leave", "bytes", "pause"], rows
    )


def _of_overhead(run: Run) -> float:
    return run.overhead


def _of_bytes(run: Run) -> float:
    return run.wire_bytes


def _of_pause(run: Run) -> float:
    return run.downtime_s


def prices(runs: Runs) -> str:
    """What groups of 64 leave at each end of the prices, and whether that flips."""
    rows = []
    found = runs.singles(hypervisor="xen", suppress=True, link=_GBIT)
    for one in sorted(found, key=lambda run: (run.paging, -(run.density or 0))):
        left = at_prices(runs, one)
        if AGAINST in left:
            shown = [
                times(left[at]) if at in left else "" for at in ("typical", "low", "high", AGAINST)
            ]
            rows.append([*_named(one), one.paging, _written(one), *shown, verdict(left.values())])
    return _table(
        ["load", "memory", "paging", "written of 64", "typical", "all low", "all high",
         "faults cheap, neighbours dear", "groups of 64"], rows,
    )  # fmt: skip


def feedback(runs: Runs) -> str:
    """The same events at other prices, against runs at these prices."""
    rows = []
    for one in runs.singles(hypervisor="xen", suppress=True, link=_GBIT):
        ends = [runs.like(one, costs=end) for end in ("low", "high")]
        if ends[0] is not None and ends[1] is not None:
            priced = zip((one.overhead_low, one.overhead_high), ends, strict=True)
            rows.append([
                *_named(one), one.paging,
                *(f"{percent(again)}; {percent(run.overhead)}" for again, run in priced if run),
            ])  # fmt: skip
    return _table(["load", "memory", "paging", "all low: priced again; run", "all high"], rows)


def adaptive(runs: Runs) -> str:
    """Sizes other than 64, under both kinds of paging: bytes and pause."""
    rows = []
    for one in runs.singles(hypervisor="xen", suppress=True, link=_GBIT, memory=_SMALL):
        found = [runs.like(one, variant=variant) for variant in ("n = 16", "adaptive", "n = 512")]
        cells = [cell for run in found for cell in (_bytes(one, run), _typical_pause(one, run))]
        if any(cells):
            left = _left(one, found[1])
            rows.append([one.load, one.paging, left, *cells])
    return _table(
        ["load", "paging", "adaptive leaves", "16: bytes", "pause", "adaptive: bytes", "pause",
         "512: bytes", "pause"], rows,
    )  # fmt: skip


TABLES: dict[str, Callable[[Runs], str]] = {
    "density": density, "shadow": shadow, "shadow-links": shadow_links, "year": year,
    "bandwidth": bandwidth, "bandwidth-links": bandwidth_links, "qemu": qemu, "hap": hap,
    "hap-links": hap_links, "seeds": seeds, "prices": prices, "feedback": feedback,
    "sizes": adaptive, "said-of-shadows": answer_findings.tearing_down,
    "said-of-bytes": answer_findings.bandwidth, "said-of-prices": answer_findings.by_prices,
    "said-of-pml": answer_findings.against_pml,
}  # fmt: skip
"""By the names that stand in the page."""


def filled(page: str, runs: Runs) -> str:
    """The page with its tables made of these runs."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table {name} -->\n", "\n<!-- end -->"
        before, found, rest = page.partition(begin)
        if not found:
            raise SystemExit(f"{PAGE} has no place for the table {name}")
        page = f"{before}{begin}{table(runs)}{rest[rest.index(end) :]}"
    return page


def swept(directories: Iterable[Path]) -> Runs:
    """All runs of some sweeps; of two that were asked for the same, that of the later sweep."""
    tables = (compared(existing(directory).read_table()) for directory in directories)
    return Runs(run_of(row) for table in tables for row in table.to_pylist())


def main() -> None:
    """Print the tables of a sweep; or publish or check the page."""
    arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
    switches = {word for word in sys.argv[1:] if word.startswith("--")}
    if "--check" in switches:
        page = PAGE.read_text()
        sys.exit(0 if filled(page, read(KEPT_RUNS)) == page else f"{PAGE} is not what its runs say")
    runs = swept(map(Path, arguments))
    if "--publish" in switches:
        write(runs, KEPT_RUNS)
        PAGE.write_text(filled(PAGE.read_text(), read(KEPT_RUNS)))
        return
    for name, table in TABLES.items():
        print(f"### {name}\n\n{table(runs)}\n")


if __name__ == "__main__":
    main()
