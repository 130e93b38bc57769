"""Settings of a source host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from wire.hosting.quantity import DURATION, MEMORY
from wire.hosting.serve_settings import ServeSettings, listen_on
from wire.hosting.settings import setting


@dataclass(frozen=True)
class SourceSettings(ServeSettings):
    """Where a source host serves, and how much it takes upon itself."""

    listen: str = listen_on("127.0.0.1:50051")
    max_guest_memory: int | None = setting(
        None,
        MEMORY,
        "Refuse to boot larger guests; without it, a guest may take all that there is.",
    )
    max_total_memory: int | None = setting(
        None,
        MEMORY,
        "Memory of all guests together; a guest that would go beyond is refused. Without it, and "
        "in any case, no more than this machine and the cgroups around this process allow at that "
        "moment.",
    )
    max_migrations: int = setting(
        "4",
        click.IntRange(1, 64),
        "Migrations that run at the same time; each takes a thread and up to 32 MiB on the way.",
    )
    stall_timeout: int = setting(
        "60s",
        DURATION,
        "Give a destination up that takes none of the pages on their way to it for so long; one "
        "that takes them slowly is not.",
    )
    drain: int = setting(
        "30s",
        DURATION,
        "When told to stop, let the migrations under way end by themselves for so long before "
        "they are cancelled; a second signal cancels them at once.",
    )
    flow_dir: Path | None = setting(
        None,
        click.Path(path_type=Path, file_okay=False),
        "Where migrations may write flows; without it they may not.",
        metavar="DIR",
    )
