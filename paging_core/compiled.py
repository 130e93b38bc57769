"""The one way in which this project compiles: numba, without the interpreter lock, cached.

Numba's own cache notices a change in a kernel's file but not in the files of the kernels
that it calls. Here the cache folder is named after the content of every source file that
kernels are made of, so a stale kernel cannot be loaded; old folders are harmless.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


_KERNEL_SOURCES = (
    "compiled.py", "digest.py", "events.py", "kernels", "workloads", "traces/kernels",
)  # fmt: skip


def _sources_digest() -> str:
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for name in _KERNEL_SOURCES:
        source = package / name
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = base / "pageferry" / f"kernels-{_sources_digest()}"
    if _writable(folder):
        return folder
    return Path(tempfile.gettempdir()) / f"pageferry-{os.getuid()}" / folder.name


def _writable_copy(shipped: str) -> Path:
    """Kernels that came compiled, where numba can write: it refuses a cache that it cannot."""
    folder = Path(tempfile.mkdtemp(prefix="pageferry-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(shutil.copytree(shipped, folder, dirs_exist_ok=True))


if not os.environ.get("NUMBA_CACHE_DIR"):
    # A container image compiles them when it is built, and its file system is read-only.
    _shipped = os.environ.get("PAGEFERRY_KERNELS")
    vars(numba.config)["CACHE_DIR"] = str(_writable_copy(_shipped) if _shipped else _cache_folder())


def is_cold() -> bool:
    """Whether no kernel was compiled here yet: the first use of each will take its time."""
    return next(Path(vars(numba.config)["CACHE_DIR"]).rglob("*.nbc"), None) is None


def kernel(function: _Function) -> _Function:
    """Compile on first call; runs without the interpreter lock; cached between processes."""
    return cast("_Function", numba.njit(nogil=True, cache=True)(function))
