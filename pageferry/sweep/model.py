"""Which model gave a result: results of different ones do not belong in one table."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

_PACKAGES = ("paging_core", "wire", "source_host", "dest_host")
"""Everything that decides what a migration does."""


@cache
def model_digest() -> str:
    """Names the model: equal for equal sources, on any machine."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        with resources.as_file(resources.files(package)) as root:
            for path in sorted(root.rglob("*.py")):
                digest.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
