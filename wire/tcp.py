"""What the kernel knows of a connection: how many bytes came, whatever messages they belong to.

gRPC hands over whole messages and counts nothing less. On a slow link the difference between a
message of which a little came and one of which nothing comes is whether the peer is alive.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

_OWN_FILES = Path("/proc/self/fd")
_RECEIVED_AT = 128
"""Of tcpi_bytes_received in Linux's struct tcp_info (include/uapi/linux/tcp.h), since 4.1."""
_INFO_BYTES = _RECEIVED_AT + 8


def received_bytes(peer: str) -> int | None:
    """How many bytes came from a peer on its connection to this process.

    Args:
        peer: as gRPC names it, such as ``ipv4:10.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``.

    Returns:
        None where that cannot be known: it went, or it is on a Unix socket.
    """
    address = _address(peer)
    if address is None:
        return None
    for file in _OWN_FILES.iterdir():
        # A socket that gRPC closes meanwhile is simply not found.
        with suppress(OSError), _copy_of(int(file.name)) as own:
            if _is_to(own, address):
                info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
                if len(info) < _INFO_BYTES:
                    return None
                (count,) = struct.unpack_from("=Q", info, _RECEIVED_AT)
                return int(count)
    return None


def _copy_of(number: int) -> socket.socket:
    """A socket of its own for an open file; what is none raises, and leaves nothing open."""
    copy = os.dup(number)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _address(peer: str) -> tuple[str, int] | None:
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in {"ipv4", "ipv6"} or not port.isdecimal():
        return None
    return host.strip("[]"), int(port)


def _is_to(own: socket.socket, address: tuple[str, int]) -> bool:
    if own.family not in {socket.AF_INET, socket.AF_INET6} or own.type != socket.SOCK_STREAM:
        return False
    host, port, *_ = own.getpeername()
    return (host.removeprefix("::ffff:").partition("%")[0], port) == (
        address[0].removeprefix("::ffff:").partition("%")[0],
        address[1],
    )


SLOWEST_BYTES_PER_S = 64
"""Slower than this is silence: the pings of a connection alone make it move by as much."""


class Trickle:
    """Whether bytes keep coming on a connection, faster than pings would have it."""

    def __init__(self, peer: str, now_s: float) -> None:
        """Bytes count from now on."""
        self._peer = peer
        self._received = received_bytes(peer)
        self._since_s = now_s

    @property
    def is_known(self) -> bool:
        """Whether there is a connection whose bytes are counted."""
        return self._received is not None

    def came(self, now_s: float) -> bool:
        """Whether enough came since the last time that it did."""
        received = received_bytes(self._peer)
        if received is None or self._received is None or now_s <= self._since_s:
            return False
        if received - self._received < SLOWEST_BYTES_PER_S * (now_s - self._since_s):
            return False
        self._received, self._since_s = received, now_s
        return True


class IdleWatch:
    """Tells a peer that sends a long message over a slow link from one that is silent."""

    def __init__(self, peer: str, idle_s: float) -> None:
        """Nothing is looked up before it matters.

        Args:
            peer: as gRPC names it.
            idle_s: how long nothing may come.
        """
        self._peer = peer
        self._idle_s = idle_s
        self._trickle: Trickle | None = None

    def came(self, last_s: float, now_s: float) -> bool:
        """Whether bytes came of late, where the last message is from `last_s`.

        To be asked several times within `idle_s`: what came is the difference between two looks.
        Who was kept from asking by a busy machine begins anew; a peer is not given up for that.
        """
        if now_s - last_s < self._idle_s / 2:
            self._trickle = None
            return True
        if self._trickle is None:
            self._trickle = Trickle(self._peer, now_s)
            if self._trickle.is_known:  # a single look tells nothing, however late it comes
                return True
        return now_s - last_s <= self._idle_s or self._trickle.came(now_s)
