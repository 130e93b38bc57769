"""What an analysis comes to, in sentences with their numbers."""

from __future__ import annotations

from typing import Any

from pageferry.analysis.analysis import Analysis
from pageferry.tables import CAUSE_LABELS, count
from paging_core.units import format_bytes, format_ns


def conclusions(analysis: Analysis) -> list[str]:
    """The three objections of 2009, and the request for a record, answered for this migration."""
    return [_slowdown(analysis), *_groups(analysis), _neighbours(analysis), *_wanted(analysis)]


def _slowdown(analysis: Analysis) -> str:
    slow = analysis["slowdown"]
    if not slow["tracking_ns"]:
        return "Tracking cost the guest no time."
    causes = slow["by_cause_ns"]
    parts = sorted((ns, cause) for cause, ns in causes.items() if ns)[::-1][:3]
    shares = ", ".join(
        f"{CAUSE_LABELS[c]} {100 * ns / slow['tracking_ns']:.0f} %" for ns, c in parts
    )
    return (
        f"Tracking took {format_ns(slow['tracking_ns'])} of the guest's time, "
        f"{_on_top(slow['slowdown'])}: {shares}."
    )


def _on_top(slowdown: float | None) -> str:
    if slowdown is None:
        return "as it was charged (no untracked twin says what it would have run)"
    return f"{100 * (slowdown - 1):.2f} % on top of what its untracked twin ran"


def _groups(analysis: Analysis) -> list[str]:
    saved, false = analysis["saved"], analysis["false_dirties"]
    if not saved["opened"]:
        return ["No groups were opened, so nothing became dirty before it was written."]
    per_frame = 100 * saved["saved"] / saved["opened"]
    opened = (
        f"Groups opened {count(saved['opened'])} frames beside {count(saved['fixups'])} fixups; "
        f"{count(saved['saved'])} of them ({per_frame:.0f} %) were written before the next clean. "
        f"That saved {format_ns(saved['saved_ns'])} of faults and cost "
        f"{format_ns(saved['paid_ns'])} of opening."
    )
    took = format_bytes(false["never_written_bytes"] + false["sent_too_early_bytes"])
    crossed = (
        f"{count(false['total'])} frames were found dirty that nobody had written: "
        f"{count(false['never_written'])} crossed and were never written after, "
        f"{count(false['sent_too_early'])} crossed before their first real write and had to go "
        f"again; {count(false['suppressed'])} crossed as a digest. The content of the others took "
        f"{took} of the link. {count(false['same_bytes'])} more were written, with the bytes that "
        "stood there."
    )
    return [opened, crossed]


def _neighbours(analysis: Analysis) -> str:
    found = analysis["neighbours"]
    at = {each["distance"]: each["in_epoch"] for each in found["by_distance"]}
    return (
        f"The clean neighbour of a dirtied frame was dirtied in the same round in "
        f"{100 * at[1]:.0f} % of cases, {100 * at[16]:.0f} % at 16 frames, "
        f"{100 * at[512]:.0f} % at 512; any frame in {100 * found['baseline']:.1f} %."
    )


def _wanted(analysis: Analysis) -> list[str]:
    sizes = analysis["group_size"]
    wanted = sizes["wanted"]
    if sizes["unknown"]:
        said = (
            "What groups of another size would have cost cannot be told from this flow: "
            f"{sizes['unknown']}; pageferry sweep --group-pages 1,16,64 measures it."
        )
        return [said]
    if wanted is None:
        return ["No frame took a fixup, so there is nothing that groups could have saved."]
    said = (
        f"Reckoned from these writes, {_size(wanted['guest'])} would have cost the guest least, "
        f"{_size(wanted['with_suppression'])} on a link that binds with unchanged pages "
        f"suppressed, and {_size(wanted['without_suppression'])} without suppression."
    )
    virtual = analysis["config"]["group_scope"] == "virtual"
    return [said, _unknown(sizes)] if virtual else [said]


def _size(wanted: dict[str, int]) -> str:
    low, high = wanted["from"], wanted["to"]
    if low == high:
        return "single pages" if low == 1 else f"groups of {low}"
    return f"{'single pages' if low == 1 else f'groups of {low}'} to {high}"


def _unknown(sizes: dict[str, Any]) -> str:
    """What a flow of runs of shadow entries does not show."""
    said = (
        "Between sizes that are named together this flow cannot choose: it does not show which "
        "unwritten neighbours are mapped, and what groups save or add in building shadows is in "
        "none of these figures; pageferry sweep --group-pages measures it."
    )
    if sizes["apart"]:
        said += (
            f" {count(sizes['apart'])} fixups met a frame that had not been seen written and that "
            "the guest accessed for the first time: they are taken for faults that no group saves."
        )
    return said
