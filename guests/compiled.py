"""Compiles what guests run without the interpreter lock, as the model's kernels are.

The folder in which it is kept is named after the sources of both: what is compiled here calls
kernels of the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from paging_core import compiled

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _sources_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if b"guests.compiled" in source:
            digest.update(source)
    return digest.hexdigest()[:16]


_FOLDER = str(Path(vars(numba.config)["CACHE_DIR"]) / f"guests-{_sources_digest()}")


def kernel(function: _Function) -> _Function:
    """Compile on first call; runs without the interpreter lock; cached between processes."""
    settings = vars(numba.config)
    models = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = _FOLDER
    try:
        return compiled.kernel(function)
    finally:
        settings["CACHE_DIR"] = models
