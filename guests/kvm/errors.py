"""Why a virtual machine cannot be."""

from __future__ import annotations

from paging_core.errors import PageferryError


class CannotVirtualize(PageferryError):
    """This machine runs no virtual machines, or not for this user: says what to do."""

    grpc_status = "FAILED_PRECONDITION"
