"""Flows made by hand: a few events, frames and cleans that can be followed by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from pageferry import in_process, results
from pageferry.document import Document
from pageferry.request import MigrationOptions
from source_host.watch.flow_files import DETAILS, EVENT_KINDS, MOMENTS, SEND_KINDS, FlowFiles, names

MEMORY_BYTES = 1 << 20
N_FRAMES = MEMORY_BYTES >> 12

Event = tuple[int, str, int, int]
"""(time_ns, kind, gfn, leader)"""
Send = tuple[int, int, int, str, bool, float]
"""(time_ns, round, gfn, kind, changed, wire_bytes)"""


@dataclass
class Made:
    """What a hand-made flow holds.

    Attributes:
        events: see `Event`.
        sends: see `Send`.
        cleans: times.
        end: time of the resume.
    """

    events: list[Event] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    cleans: list[int] = field(default_factory=list)
    end: int = 1_000_000

    def write(self, directory: Path, document: Document) -> Path:
        """As files."""
        files = FlowFiles(directory)
        events = sorted(self.events)
        files.append(
            "events",
            [
                np.array([e[0] for e in events], np.int64),
                names(np.array([EVENT_KINDS.index(e[1]) for e in events]), EVENT_KINDS),
                names(np.full(len(events), DETAILS.index("none")), DETAILS),
                np.array([e[2] for e in events], np.int32),
                np.array([e[3] for e in events], np.int32),
                np.zeros(len(events), np.uint8),
            ],
        )
        sends = sorted(self.sends)
        files.append(
            "sends",
            [
                np.array([s[0] for s in sends], np.int64),
                np.array([s[1] for s in sends], np.int32),
                np.array([s[2] for s in sends], np.int32),
                names(np.array([SEND_KINDS.index(s[3]) for s in sends]), SEND_KINDS),
                np.array([s[4] for s in sends], np.bool_),
                np.array([s[5] for s in sends], np.float32),
            ],
        )
        moments = [(0, "tracking_started"), *((t, "clean") for t in self.cleans)]
        moments.append((self.end, "resume"))
        files.append(
            "moments",
            [
                np.array([t for t, _ in moments], np.int64),
                names(np.array([MOMENTS.index(kind) for _, kind in moments]), MOMENTS),
                np.arange(len(moments), dtype=np.int32),
                np.zeros(len(moments), np.int64),
                np.zeros(len(moments), np.int64),
            ],
        )
        if document["outcome"] == "in-doubt":
            document = self.told_by(document)
        files.finish({"outcome": document["outcome"]})
        (directory / "result.json").write_text(results.encode(document))
        return directory

    def told_by(self, document: Document) -> Document:
        """The document with what this flow and a result both count."""
        kinds = [kind for _, _, _, kind, _, _ in self.sends]
        pages = {
            **document["pages"],
            "sent": len(kinds),
            "unique": len({send[2] for send in self.sends}),
            "data": kinds.count("data"),
            "zero": kinds.count("zero"),
            "suppressed": kinds.count("unchanged"),
            "falsely_dirty": 0,
        }
        fixups = sum(event[1] == "fixup" for event in self.events)
        faults = {**document["faults"], "fixup": fixups}
        return cast("Document", {**document, "pages": pages, "faults": faults})


def a_document(**changes: Any) -> Document:
    """The result of a migration that hardly did anything."""
    options = MigrationOptions.of(memory_bytes=MEMORY_BYTES, workload="idle:wss=64KiB")
    return in_process.run(replace(options, **changes))


def edited(directory: Path, **changes: Any) -> None:
    """Change the manifest."""
    path = directory / "flow.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
