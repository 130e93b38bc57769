"""What differs between configurations, and what two results say beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pageferry.document import Document
from pageferry.tables import overhead, overhead_range, ranged
from paging_core.units import format_bytes
from wire.text import line

_MAX_DIFFERENCES = 3


def labels(documents: Sequence[Document], fallback: Sequence[str]) -> list[str]:
    """A column title per document: the settings in which they differ, else its file's name."""
    settings = [dict(document["config"]) for document in documents]
    differing = _differing(settings)
    titles = ["\n".join(line(f"{key} {_value(s.get(key))}") for key in differing) for s in settings]
    if not differing or len(differing) > _MAX_DIFFERENCES or len(set(titles)) < len(titles):
        return list(fallback)
    return titles


def document_of(documents: Sequence[Document], titles: Sequence[str]) -> dict[str, Any]:
    """The comparison as one JSON document: every figure, and the settings that differ.

    Args:
        documents: results.
        titles: a column's each.
    """
    configs = [dict(document["config"]) for document in documents]
    differing = _differing(configs)
    return {
        "schema": {"name": "pageferry.comparison", "version": 1},
        "results": [
            {
                "title": title.replace("\n", ", "),
                "differs_in": {key: config.get(key) for key in differing},
                "outcome": document["outcome"],
                "verified": document["verified"],
                "overhead": overhead(document),
                "overhead_range": overhead_range(document),
                **{name: document[name] for name in ("faults", "guest", "pages", "bytes", "time")},
                "density": document.get("density"),
                "rounds": len(document["rounds"]),
            }
            for document, config, title in zip(documents, configs, titles, strict=True)
        ],
    }


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    # Results of older releases have not every setting.
    keys = dict.fromkeys(key for each in configs for key in each)
    return [key for key in keys if any(s.get(key) != configs[0].get(key) for s in configs)]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return str(value.get("file", "…"))
    return str(value)


def conclusions(single: Document, grouped: Document) -> list[str]:
    """Two plain sentences about what grouping did to the guest and to the network."""
    n = grouped["config"]["group_pages"]
    fixups = [document["faults"]["fixup"] for document in (single, grouped)]
    wires = [document["bytes"]["wire"] for document in (single, grouped)]
    falsely, digests = grouped["pages"]["falsely_dirty"], grouped["pages"]["suppressed"]
    guest = (
        f"With groups of {n} the guest took {fixups[1]:,} fixup faults instead of {fixups[0]:,} "
        f"({_change(*fixups)}){_cost_of(single, grouped)}."
    )
    sent = "some" if falsely is None else f"{falsely:,}"
    network = (
        f"In return {sent} pages were sent as dirty that nobody had written; {digests:,} "
        f"pages crossed as a digest because their content had not changed, and the network "
        f"carried {format_bytes(wires[1])} instead of {format_bytes(wires[0])} "
        f"({_change(*wires)})."
    )
    return [guest, network]


def _cost_of(single: Document, grouped: Document) -> str:
    """What tracking cost both, where both had a twin to say so."""
    before, after = overhead(single), overhead(grouped)
    if before is None or after is None:
        return ""
    said = [
        ranged(overhead_, overhead_range(d))
        for overhead_, d in ((before, single), (after, grouped))
    ]
    factor = f" (×{after / before:.2f})" if before > 0 and after > 0 else ""
    return f", and tracking cost it {said[1]} of its time instead of {said[0]}{factor}"


def _change(before: int, after: int) -> str:
    if not before:
        return "no change" if before == after else "from none"
    return f"{100 * (after - before) / before:+.0f} %".replace("-", "−")
