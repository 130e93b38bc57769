"""The configuration of a migration as its document shows it: everything, defaults filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import xxhash

from pageferry.settings import SETTINGS
from paging_core.config import GuestConfig
from paging_core.settings import values_of
from source_host.precopy.plan import Plan

Configured = dict[str, Any]
"""Everything that decided a migration, besides pageferry itself: `pageferry.settings`, by name."""


class Trace(TypedDict):
    """Which trace was replayed: its name without the place it lay in, and its content."""

    file: str
    xxh3_64: str | None


def configured(guest: GuestConfig, plan: Plan) -> Configured:
    """All settings of a migration, in the units of their names."""
    values = {**values_of(guest), **values_of(plan), "trace": _trace(guest.trace)}
    return {name: values[name] for name in SETTINGS}


def schema() -> dict[str, Any]:
    """What `configured` gives, as JSON Schema."""
    return {
        "description": "Everything that decided the migration, defaults filled in.",
        "type": "object",
        "additionalProperties": False,
        "required": list(SETTINGS),
        "properties": {name: one.schema() for name, one in SETTINGS.items()},
    }


def _trace(path: str) -> Trace | None:
    if not path:
        return None
    file = Path(path)
    # A trace named for a remote source host may not lie here.
    digest = xxhash.xxh3_64_hexdigest(file.read_bytes()) if file.is_file() else None
    return {"file": file.name, "xxh3_64": digest}
