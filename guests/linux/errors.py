"""Why writes cannot be tracked."""

from __future__ import annotations

from paging_core.errors import PageferryError


class CannotTrack(PageferryError):
    """This kernel, or a right that is missing, does not let writes be tracked: says what to do."""

    grpc_status = "FAILED_PRECONDITION"


class TrackingLost(PageferryError):
    """Tracking has ended by itself: what was written since is not known."""

    grpc_status = "ABORTED"
