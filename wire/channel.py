"""Channels, their options and allocator settings that both ends of a stream use.

Every setting was measured on the page stream; docs/data-path.md has the figures.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

import grpc

from wire.address import parse_address
from wire.trust.security import THIS_MACHINE, Security

MIB = 2**20
MAX_PAYLOAD_BYTES = 4 * MIB
"""Default limit of one batch's payload after decompression: 1024 frames, a batch of any policy."""
MAX_MESSAGE_BYTES = 64 * MIB
"""No host reads a longer message: a payload, its runs and digests fit many times over."""
MAX_METADATA_BYTES = 16 * 2**10
"""No host reads longer headers of a call; ours need a few hundred bytes."""

PING_EVERY_MS = 10_000
"""A peer of which nothing was heard for so long is pinged."""
DEAD_NETWORK_MS = 30_000
"""Bytes that the peer's machine does not take for so long: the kernel ends the connection.

gRPC makes it the TCP_USER_TIMEOUT of the socket, and of the pings' answers nothing at all: those
have `grpc.http2.ping_timeout_ms` (grpc 1.85, found by trying).
"""
PING_ANSWER_MS = 30_000
"""A peer whose machine lives but which does not answer a ping for so long is given up."""
PING_BEHIND_PAGES_MS = 3_600_000
"""The same where pages cross: on a slow link an answer waits behind all that was sent before it,
and whether those bytes arrive is judged otherwise."""
MIN_PING_INTERVAL_MS = 1_000
"""How often a peer may ask in silence; ours ask every `PING_EVERY_MS`."""
MAX_PING_STRIKES = 2
"""Pings that may come sooner than that, between two things that we send; one more ends it."""

ChannelOption = tuple[str, int | str]

_KEEPALIVE: tuple[ChannelOption, ...] = (
    # A network that is cut sends no word; a guest that is paused must not wait for TCP's minutes.
    ("grpc.keepalive_time_ms", PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", DEAD_NETWORK_MS),
)
_STREAM_OPTIONS: tuple[ChannelOption, ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A fixed wide window: probing for the bandwidth-delay product costs round trips and stalls.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * MIB),
    # Read a whole batch from the socket at once instead of in 8 KiB pieces.
    ("grpc.experimental.tcp_read_chunk_size", 4 * MIB),
    ("grpc.experimental.tcp_max_read_chunk_size", 16 * MIB),
)
"""For channels and servers alike."""

CHANNEL_OPTIONS: tuple[ChannelOption, ...] = (
    *_STREAM_OPTIONS,
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Hosts are spoken to directly, loopback above all, whatever http_proxy is set for.
    ("grpc.enable_http_proxy", 0),
    *_KEEPALIVE,
    # However long the stream is silent: gRPC would fall to one ping a minute after two of them.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", PING_ANSWER_MS),
)
"""Of a client."""


def server_options(
    max_message_bytes: int = MAX_MESSAGE_BYTES, max_metadata_bytes: int = MAX_METADATA_BYTES
) -> tuple[ChannelOption, ...]:
    """Of a server that reads no longer messages and headers than these."""
    return (
        *_STREAM_OPTIONS,
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_metadata_size", max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", max_metadata_bytes),
        # Two hosts on one port would share its connections without either of them noticing.
        ("grpc.so_reuseport", 0),
        # A peer that vanished without a word is noticed, and its connection ends, with calls on
        # it and without.
        *_KEEPALIVE,
        ("grpc.http2.ping_timeout_ms", PING_BEHIND_PAGES_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        # And peers may ask more often than that, but not without end.
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", MAX_PING_STRIKES),
    )


_MMAP_THRESHOLD_BYTES = 32 * MIB  # the most that glibc accepts on 64 bits
_TRIM_THRESHOLD_BYTES = 2**31 - 1
_TOP_PAD_BYTES = 64 * MIB
_ARENAS = 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


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


def connect(
    address: str,
    security: Security = THIS_MACHINE,
    options: Sequence[ChannelOption] = CHANNEL_OPTIONS,
) -> grpc.Channel:
    """A channel to the host at `address`; nothing is sent until it is used.

    Args:
        address: ``host:port`` or ``unix:path``.
        security: who we are there; without it, hosts of this machine alone can be reached.
        options: of the channel.

    Raises:
        BadOption: not an address, or of another machine and `security` allows no plain text.
    """
    parse_address(address)
    credentials = security.channel_credentials(address)
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)
