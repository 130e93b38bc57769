"""Classes that say what fields a record has, generated from its dtype, for type checkers alone.

    python -m paging_core.record_views [--check]

Compiled code names fields as attributes (`m.group_frames`), which no checker can follow from a
dtype. The classes are used in annotations, so they cost nothing at run time; `--check` compares
them with the dtypes instead of writing them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paging_core.flow import FLOW_DTYPE
from paging_core.kernels import state
from paging_core.traces.kernels import lackey_parser
from paging_core.workloads.ops import OP_DTYPE

Dtype = np.dtype[np.void]

_MODEL: dict[str, Dtype] = {
    "VcpuView": state.VCPU_DTYPE,
    "RingView": state.RING_DTYPE,
    "UffdView": state.UFFD_DTYPE,
    "CleanView": state.CLEAN_DTYPE,
    "LogView": state.LOG_DTYPE,
    "ShadowView": state.SHADOW_DTYPE,
    "KvmView": state.KVM_DTYPE,
    "HapView": state.HAP_DTYPE,
    "TlbStateView": state.TLB_STATE_DTYPE,
    "GroupView": state.GROUP_DTYPE,
    "TimeView": state.TIME_DTYPE,
    "FlowStateView": state.FLOW_STATE_DTYPE,
    "CoreView": state.CORE_DTYPE,
    "TlbView": state.TLB_DTYPE,
    "FrameView": state.FRAME_DTYPE,
    "PageView": state.PAGE_DTYPE,
    "OpView": OP_DTYPE,
    "FlowView": FLOW_DTYPE,
}
_PARSER: dict[str, Dtype] = {
    "RowView": lackey_parser.ROW_DTYPE,
    "SeenView": lackey_parser.SEEN_DTYPE,
    "ParserView": lackey_parser.PARSER_DTYPE,
}
_TITLE = '''\
"""What fields {what} have, for type checkers alone.

Classes for annotations, of which nothing is ever made. Generated from the dtypes by `make views`.
"""

from __future__ import annotations'''


def _type_of(dtype: np.dtype[np.void], named: dict[str, Dtype]) -> str:
    if dtype.names is not None:
        return next(name for name, one in named.items() if one == dtype)
    return "int" if dtype.subdtype is None else "Ints"


def _dtype_name(view: str) -> str:
    return f"{re.sub('(?<=[a-z])(?=[A-Z])', '_', view.removesuffix('View')).upper()}_DTYPE"


def _class_of(name: str, dtype: Dtype, named: dict[str, Dtype]) -> Iterator[str]:
    yield f"\n\nclass {name}:"
    yield f'    """Fields of a {_dtype_name(name)}."""\n'
    assert dtype.names is not None and dtype.fields is not None  # noqa: PT018, S101
    for field in dtype.names:
        if field != "_":  # padding
            yield f"    {field}: {_type_of(dtype.fields[field][0], named)}"


def _module(what: str, imports: str, named: dict[str, Dtype]) -> str:
    lines = [_TITLE.format(what=what) + imports]
    for name, dtype in named.items():
        lines += _class_of(name, dtype, named)
    return "\n".join(lines) + "\n"


def modules() -> dict[Path, str]:
    """Every generated file and what stands in it, by the dtypes as they are now."""
    package = Path(__file__).parent
    uses_ints = "\n\nfrom paging_core.kernels.pointers import Ints"
    return {
        package / "kernels/views.py": _module("the machine's records", uses_ints, _MODEL),
        package / "traces/kernels/views.py": _module("the parser's records", "", _PARSER),
    }


def main() -> None:
    """Write, or compare."""
    for path, text in modules().items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.name} is not what the dtypes say; run make views")


if __name__ == "__main__":
    main()
