"""Certificates for the tests, good and bad."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from unittest import mock

from pageferry import certs
from pageferry.certs import make
from pageferry.holders import Holder
from wire.trust.access import Role

SOURCE = Holder("source", Role.SOURCE)
EVERYBODY = [
    SOURCE,
    Holder("rack2", Role.SOURCE),
    Holder("stranger", Role.SOURCE),
    Holder("destination", Role.DESTINATION),
    Holder("operator", Role.OPERATOR),
    Holder("viewer", Role.VIEWER),
]


def certified(directory: Path) -> Path:
    """An authority, and certificates for everybody."""
    make(directory, EVERYBODY, 30, renew=False)
    return directory


def expire(directory: Path, holder: Holder) -> Path:
    """Replace a certificate by one whose time is over; where it lies."""
    with mock.patch.object(certs, "_BACKDATED", timedelta(days=9)):
        make(directory, [holder], -2, renew=True)
    return directory / holder.name
