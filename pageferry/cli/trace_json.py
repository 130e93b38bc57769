"""What a trace holds, as one JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paging_core.footprint import frames_mapped, memory_for
from paging_core.traces.profile import Profile
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import map_pages
from paging_core.traces.schema import INSTRUCTIONS
from paging_core.units import FRAME_BYTES, PS_PER_NS


def document_of(trace: TraceFile, found: Profile) -> dict[str, Any]:
    """The same facts as ``pageferry trace show`` prints, and how often each page is used."""
    info = trace.info
    frames = frames_mapped(map_pages(found.pages, found.pages[:0], 0))
    return {
        "schema": {"name": "pageferry.trace", "version": 1},
        "file": Path(trace.path).name,
        "size_bytes": trace.size_bytes,
        "xxh3_64": f"{trace.digest:016x}",
        "tool": info.tool,
        "command": info.command,
        "instructions": info.instructions if info.counts == INSTRUCTIONS else None,
        "lap_ns": info.lap_ps / PS_PER_NS,
        "per_second": info.instructions_per_second,
        "counts": info.counts,
        "window": info.window_instructions,
        "reads": info.reads,
        "writes": info.writes,
        "rows": trace.n_rows,
        "written_rows": found.written_rows,
        "pages": len(found.pages),
        "written_pages": int(np.count_nonzero(found.writes)),
        "footprint_bytes": len(found.pages) * FRAME_BYTES,
        "with_tables_bytes": frames * FRAME_BYTES,
        "suggested_memory_bytes": memory_for(frames),
        "by_page": {
            "page": found.pages.tolist(),
            "accesses": found.accesses.tolist(),
            "writes": found.writes.tolist(),
        },
    }
