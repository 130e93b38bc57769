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


_FIRST = "0.1"
"""The version whose documents can still be read: they lack the settings declared since."""


class Trace(TypedDict):
    """Which trace was replayed: its name without the place it lay in, and its content."""

    file: str
    xxh3_64: str | None


def configured(guest: GuestConfig, plan: Plan, trace_digest: int | None = None) -> Configured:
    """All settings of a migration, in the units of their names.

    Args:
        guest: that is moved.
        plan: how.
        trace_digest: XXH3-64 of the guest's trace as its host says; None asks the file.
    """
    trace = _trace(guest.trace, trace_digest)
    values = {**values_of(guest), **values_of(plan), "trace": trace}
    return {name: values[name] for name in SETTINGS}


def schema() -> dict[str, Any]:
    """What `configured` gives, as JSON Schema: settings that came later may be absent."""
    return {
        "description": "Everything that decided the migration, defaults filled in.",
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, one in SETTINGS.items() if one.since == _FIRST],
        "properties": {name: one.schema() for name, one in SETTINGS.items()},
    }


def _trace(path: str, digest: int | None) -> Trace | None:
    if not path:
        return None
    file = Path(path)
    if digest is not None:
        return {"file": file.name, "xxh3_64": f"{digest:016x}"}
    # A trace named for a remote source host may not lie here.
    return {"file": file.name, "xxh3_64": _digest(file)}


def _digest(file: Path) -> str | None:
    digest = xxhash.xxh3_64()
    try:
        if not file.is_file():
            return None
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    except (OSError, ValueError):  # the host's own path means something else here
        return None
    return digest.hexdigest()
