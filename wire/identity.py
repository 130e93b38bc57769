"""Who a host is: one life of one process, whatever address leads to it.

An address is a way and no identity: a name may lead to another machine tomorrow, and a host that
is started again at the same place has lost its guests. So a host draws an identity when it
starts, and a question about the past names the identity it is for.
"""

from __future__ import annotations

import secrets

from wire.names import is_name

HOST_KEY = "pageferry-host"
"""Trailing metadata of a refusal: who refuses."""
HOST_ID_CHARS = 128
"""Most of an identity."""

_RANDOM_BYTES = 16


def new_host_id(name: str = "") -> str:
    """An identity that no host had before, and that cannot be guessed.

    Args:
        name: of the host's certificate, which stands before what was drawn; empty without one.
    """
    drawn = secrets.token_hex(_RANDOM_BYTES)
    named = f"{name}.{drawn}"
    return named if is_name(named) and len(named) <= HOST_ID_CHARS else drawn


def is_host_id(text: str) -> bool:
    """Whether a peer's word can be an identity; it stands in logs and errors."""
    return is_name(text) and len(text) <= HOST_ID_CHARS
