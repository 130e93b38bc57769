"""Addresses of hosts, as users write them and as gRPC takes them."""

from __future__ import annotations

import ipaddress
import re

from paging_core.errors import BadOption
from wire.text import line

_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s/\[\]]+):(?P<port>[0-9]{1,5})")
UNIX = "unix:"
_MOST_CHARS = 300
"""A name of DNS has 253 at most, the path of a socket 107."""
_SHOWN_CHARS = 80


def parse_address(text: str) -> str:
    """An address to listen on or to connect to, as gRPC takes it.

    Args:
        text: ``host:port`` (an IPv6 address in brackets) or ``unix:path``.

    Raises:
        BadOption: neither of them.
    """
    if _can_be_shown(text):
        if text.startswith(UNIX) and len(text) > len(UNIX):
            return text
        match = _HOST_PORT.fullmatch(text)
        if match is not None and int(match["port"]) <= 65535:
            return text
    raise BadOption(
        f"address {line(text, _SHOWN_CHARS)!r} is neither host:port nor unix:path; write it like "
        "127.0.0.1:50051"
    )


def _can_be_shown(text: str) -> bool:
    """Addresses stand in logs, in metrics and on terminals: what cannot be printed is none."""
    return text.isprintable() and len(text) <= _MOST_CHARS


def host_of(address: str) -> str:
    """The host of ``host:port``, an IPv6 address without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def stays_here(address: str) -> bool:
    """Whether what is sent there cannot leave this machine: loopback or a Unix socket.

    A name other than ``localhost`` is not looked up: what it means can change.
    """
    if address.startswith(UNIX):
        return True
    host = host_of(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def as_dialled(address: str) -> str:
    """Where to reach a server of this machine that listens on `address`."""
    host, port = host_of(address), address.rpartition(":")[2]
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - not bound to
    return f"{anywhere[host]}:{port}" if host in anywhere else address
