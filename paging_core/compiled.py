"""The one way in which this project compiles: numba, without the interpreter lock, cached.

What Python calls is compiled, optimised and kept; what that calls is part of it (`linked`).

Numba's own cache notices a change in a kernel's file but not in the files of the kernels
that it calls. Here the cache folder is named after the content of every source file that
kernels are made of, so a stale kernel cannot be loaded; old folders are harmless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from paging_core.kernel_cache import cache_folder
from paging_core.linked import Kernel

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS = {"nopython": True, "nogil": True, "boundscheck": None}

_KERNEL_SOURCES = (
    "compiled.py", "digest.py", "events.py", "flow.py", "linked.py", "units.py", "kernels",
    "workloads", "traces/kernels",
)  # fmt: skip


def _sources_digest() -> str:
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for name in _KERNEL_SOURCES:
        source = package / name
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


vars(numba.config)["CACHE_DIR"] = str(cache_folder(f"kernels-{_sources_digest()}"))


def is_cold() -> bool:
    """Whether no kernel was compiled here yet: the first use of each will take its time."""
    return next(Path(vars(numba.config)["CACHE_DIR"]).rglob("*.nbc"), None) is None


def kernel(function: _Function) -> _Function:
    """Compile on first call; runs without the interpreter lock; cached between processes."""
    compiled = Kernel(function, targetoptions=dict(_OPTIONS))
    compiled.enable_caching()
    return cast("_Function", compiled)
