"""The answer as an operator reads it: plain sentences, each with the number it stands on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pageferry.predict.answer import Advice, Answer
from pageferry.predict.windows import STARTS, Recorded
from pageferry.request import MigrationOptions
from paging_core.units import FRAME_BYTES, NS_PER_S, exact_rate, format_bytes, format_ns


def verdict(found: Answer, options: MigrationOptions) -> str:
    """Whether it would migrate, in how many rounds, with which downtime."""
    rate, limit = exact_rate(options["link_bits_per_s"]), format_ns(found.limit_s * NS_PER_S)
    rounds = f"{found.worst.rounds} rounds"
    took = f"{rounds} and {_time(found.worst.total_s)}"
    if found.converges:
        return (
            f"Yes: over {rate} this machine migrates in {took}, and stands still for "
            f"{_time(found.worst.downtime_s)} of the {limit} that it may."
        )
    return (
        f"No: over {rate} this machine would stand still for {_time(found.worst.downtime_s)}, and "
        f"may for {limit}; that is after {took}."
    )


def moments(found: Answer) -> str:
    """How much the moment at which it begins matters."""
    best, worst = _time(found.best.downtime_s), _time(found.worst.downtime_s)
    return f"Begun at {STARTS} moments of the recording, its downtime is {best} to {worst}."


def rate(recorded: Recorded, options: MigrationOptions) -> str:
    """What it writes, against what the link carries."""
    written = recorded.dirty_frames_per_s * FRAME_BYTES
    carried = options["link_bits_per_s"] / 8
    return (
        f"It writes {format_bytes(written)} of different pages a second, window by window, which "
        f"is {written / carried:.2g} times the {format_bytes(carried)} that the link carries."
    )


def how(recorded: Recorded, options: MigrationOptions) -> str:
    """What the prediction knows, and what it does not."""
    silent = (
        "writes that changed nothing are those of the recording"
        if recorded.measured
        else "one write in eight is assumed to change nothing"
    )
    unchanged = silent if options["suppress"] else "pages that did not change cross whole"
    memory = format_bytes(recorded.n_frames * FRAME_BYTES)
    return (
        f"Predicted from the pages written in the windows of each round, for {memory} of memory. "
        "Of a window that lies in a round in part, each page counts with that share. Every page "
        f"crosses at its full size; {unchanged}. What tracking costs the machine is not in it. The "
        f"recording is {format_ns(recorded.duration_ns)} long and begins again when it ends."
    )


REHEARSED = (
    "Predicted by a rehearsal: the guest ran under its tracker while the rounds were gone through, "
    "with nobody to send to."
)


def advice(found: Answer) -> Iterator[str]:
    """What would help."""
    if found.converges:
        return
    if not found.advice:
        yield "Nothing that was tried brings it within the limit."
        return
    yield "Each of these brings it within the limit, predicted again with that change alone:"
    for one in found.advice:
        yield f"  - {_line(one)}"


def _line(one: Advice) -> str:
    option = f" ({one.option})" if one.option else ""
    rounds = f"{one.prediction.rounds} rounds"
    return f"{one.what}{option}: {rounds}, {_time(one.prediction.downtime_s)} of downtime"


def paragraphs(
    found: Answer, options: MigrationOptions, recorded: Recorded | None
) -> Sequence[str]:
    """The page.

    Args:
        found: the answer.
        options: of the migration.
        recorded: what the machine wrote; None: it was rehearsed.
    """
    if recorded is None:
        return [verdict(found, options), *advice(found), REHEARSED]
    return [
        verdict(found, options),
        rate(recorded, options),
        moments(found),
        *advice(found),
        how(recorded, options),
    ]


def _time(seconds: float) -> str:
    return format_ns(seconds * NS_PER_S)
