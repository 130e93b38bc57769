"""Why a process cannot be recorded."""

from __future__ import annotations

from paging_core.errors import CannotTrack


class CannotRecord(CannotTrack):
    """A process that cannot be recorded, or not any longer: its text says why and what to do."""

    grpc_status = "UNKNOWN"
