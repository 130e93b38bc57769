"""Settings of a destination host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from dest_host.limits import Limits
from paging_core.units import NS_PER_S
from wire.hosting.quantity import DURATION, MEMORY, NAMES, SIZE
from wire.hosting.serve_settings import ServeSettings, listen_on
from wire.hosting.settings import setting


@dataclass(frozen=True)
class DestinationSettings(ServeSettings):
    """Where a destination host serves, what it takes in, and from which sources."""

    listen: str = listen_on("127.0.0.1:50052")
    sources: frozenset[str] = setting(
        "source",
        NAMES,
        "Names of the certificates that may bring guests here, with commas between them.",
        metavar="NAMES",
    )
    max_guest_memory: int = setting(
        "16GiB", MEMORY, "Refuse larger guests when they are announced, before a page moves."
    )
    max_total_memory: int | None = setting(
        None,
        MEMORY,
        "Memory of all guests and incoming migrations together; without it, and in any case, no "
        "more than this machine and the cgroups around this process allow at that moment.",
    )
    max_incoming: int = setting(
        "4", click.IntRange(1), "Migrations that may be under way at the same time."
    )
    max_payload: int = setting(
        "4MiB",
        SIZE,
        "Most that one batch may hold after decompression; sources send no more at once.",
    )
    idle_expiry: int = setting(
        "5min",
        DURATION,
        "Drop a migration, and free its memory, when its source says nothing for so long.",
    )
    trace_dir: Path | None = setting(
        None,
        click.Path(exists=True, file_okay=False, path_type=Path),
        "Where the traces lie that guests replay, by file name; without it, the path that the "
        "source names.",
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            BadOption: naming the field.
        """
        super().__post_init__()
        self.limits()

    def limits(self) -> Limits:
        """What it is willing to take."""
        return Limits(
            max_guest_bytes=self.max_guest_memory,
            max_total_bytes=self.max_total_memory,
            max_incoming=self.max_incoming,
            max_payload_bytes=self.max_payload,
            idle_expiry_s=self.idle_expiry / NS_PER_S,
        )
