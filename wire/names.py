"""Names of guests and migrations: they stand in logs, in metrics and in names of files."""

from __future__ import annotations

import re
import secrets

from paging_core.errors import BadOption

GUEST_CHARS = 64
MIGRATION_CHARS = 100
"""A guest's name and what a source puts behind it; as an exemplar it may not be much longer."""
_RANDOM_BYTES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHOWN_CHARS = 80


def is_name(text: str) -> bool:
    """Whether it is made of what names are made of, however long."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str, field: str, longest: int) -> str:
    """The name, if it can be one.

    Args:
        name: as a peer or a user gave it.
        field: what it is called in the contract.
        longest: most characters.

    Raises:
        BadOption: it is empty, too long, or of other characters.
    """
    if len(name) > longest or not is_name(name):
        shown = name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}…"
        raise BadOption(
            f"{field} {shown!r} is no name; use 1 to {longest} letters, digits, dots, dashes and "
            "underscores, the first a letter or digit"
        )
    return name


def new_life() -> str:
    """Tells one run of a source host from its others, in the names of its migrations."""
    return secrets.token_hex(3)


def migration_name(guest_id: str, number: int, life: str) -> str:
    """A name for a migration that no migration had before, and that no other host can guess.

    A caller that knows a name before its Prepare arrives could use it first, or have it
    refused.

    Args:
        guest_id: of the guest, whose name it begins with.
        number: of the guest's migrations in this life of the source.
        life: see `new_life`.
    """
    return f"{guest_id}-{number}-{life}-{secrets.token_hex(_RANDOM_BYTES)}"
