"""Addresses, channel options and allocator settings that both ends of a stream use.

Every setting was measured on the page stream; docs/data-path.md has the figures.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping

import grpc

from paging_core.errors import BadOption

MIB = 2**20
MAX_PAYLOAD_BYTES = 4 * MIB
"""Default limit of one batch's payload after decompression: 1024 frames, a batch of any policy."""
MAX_MESSAGE_BYTES = 64 * MIB
"""No host reads a longer message: a payload, its runs and digests fit many times over."""

ChannelOption = tuple[str, int]

CHANNEL_OPTIONS: tuple[ChannelOption, ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A fixed wide window: probing for the bandwidth-delay product costs round trips and stalls.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * MIB),
    # Read a whole batch from the socket at once instead of in 8 KiB pieces.
    ("grpc.experimental.tcp_read_chunk_size", 4 * MIB),
    ("grpc.experimental.tcp_max_read_chunk_size", 16 * MIB),
)
"""For channels and servers alike."""

SERVER_OPTIONS: tuple[ChannelOption, ...] = (
    *CHANNEL_OPTIONS,
    # Two hosts on one port would share its connections without either of them noticing.
    ("grpc.so_reuseport", 0),
)

_MMAP_THRESHOLD_BYTES = 32 * MIB  # the most that glibc accepts on 64 bits
_TRIM_THRESHOLD_BYTES = 2**31 - 1
_TOP_PAD_BYTES = 64 * MIB
_ARENAS = 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8

_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s/\[\]]+):(?P<port>[0-9]{1,5})")


def malloc_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child process that moves pages.

    glibc gives every large buffer back to the kernel and faults it in again with the next
    message; told to keep them, the same stream is almost twice as fast. Kept in one arena
    and not in one per thread, they cost a third less memory, and always the same.

    Args:
        base: what to extend; this process's environment when None.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(_MMAP_THRESHOLD_BYTES))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(_TRIM_THRESHOLD_BYTES))
    environment.setdefault("MALLOC_TOP_PAD_", str(_TOP_PAD_BYTES))
    environment.setdefault("MALLOC_ARENA_MAX", str(_ARENAS))
    return environment


def tune_malloc() -> bool:
    """Set the same in this process; call it before the first message.

    Returns:
        False where the C library is not glibc and the settings do not exist.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        _M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES,
        _M_TRIM_THRESHOLD: _TRIM_THRESHOLD_BYTES,
        _M_TOP_PAD: _TOP_PAD_BYTES,
        _M_ARENA_MAX: _ARENAS,
    }
    accepted = [bool(mallopt(parameter, value)) for parameter, value in settings.items()]
    return all(accepted)


def parse_address(text: str) -> str:
    """An address to listen on or to connect to, as gRPC takes it.

    Args:
        text: ``host:port`` (an IPv6 address in brackets) or ``unix:path``.

    Raises:
        BadOption: neither of them.
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise BadOption(
            f"address {text!r} is neither host:port nor unix:path; write it like 127.0.0.1:50051"
        )
    return text


def connect(address: str) -> grpc.Channel:
    """A channel to the host at `address`; nothing is sent until it is used.

    Raises:
        BadOption: not an address.
    """
    return grpc.insecure_channel(parse_address(address), options=CHANNEL_OPTIONS)
