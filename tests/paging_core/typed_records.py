"""What mypy finds in kernels, held by `make check`: an error below that it misses is one itself.

Each line that ends in an ignore is wrong. Were a record no longer typed, the ignore would have
nothing to ignore, and mypy, which is strict here, says so. Never run.
"""

from __future__ import annotations

from paging_core.kernels.arrays import flow_at, frame_at, memory, page_at, tlb_at
from paging_core.kernels.pointers import RecordArray
from paging_core.kernels.state import Core
from paging_core.kernels.views import OpView
from paging_core.traces.kernels.lackey_parser import Rows, Seen
from paging_core.traces.kernels.views import ParserView


def right(m: Core, ops: RecordArray[OpView]) -> int:
    """Fields that there are."""
    m.shadow.root = m.vcpu.roots[frame_at(m, 0).rmap]
    return page_at(m, 0).refs + tlb_at(m, 0).tag + memory(m)[ops[0].kind]


def misspelt(m: Core) -> None:
    """Fields of the core that there are not."""
    m.group.framez = 1  # type: ignore[attr-defined]
    m.gruop.frames = 1  # type: ignore[attr-defined]
    m.vcpu.cr4 = 0  # type: ignore[attr-defined]


def misspelt_in_arrays(m: Core, ops: RecordArray[OpView]) -> None:
    """Likewise of records that arrays are made of."""
    frame_at(m, 0).rmpa = 1  # type: ignore[attr-defined]
    page_at(m, 0).kinds = 1  # type: ignore[attr-defined]
    tlb_at(m, 0).tga = 1  # type: ignore[attr-defined]
    flow_at(m, 0).times = 1  # type: ignore[attr-defined]
    ops[0].adress = 1  # type: ignore[attr-defined]


def misspelt_in_the_parser(parser: ParserView, seen: Seen, rows: Rows) -> None:
    """Likewise of the parser of traces."""
    parser.line = 1  # type: ignore[attr-defined]
    seen[0].keys = 1  # type: ignore[attr-defined]
    rows[0].pages = 1  # type: ignore[attr-defined]


def of_another_type(m: Core) -> None:
    """A number is no array, and an array no number."""
    m.vcpu.cr3 = m.vcpu.roots  # type: ignore[assignment]
    m.n_frames[0] = 1  # type: ignore[index]
    memory(m)[0] = "1"  # type: ignore[assignment]
